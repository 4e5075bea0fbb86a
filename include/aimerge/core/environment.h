#pragma once
// Every environment variable the product reads, each with default and meaning. Read where needed through these functions
// only. In the name of a folder, "~" at its beginning and variables ("$HOME/models") stand for their values.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace aimerge::environment {

/// AIMERGE_CACHE_DIR, else $XDG_CACHE_HOME/aimerge, else ~/.cache/aimerge: token ids and statistics reused by digest.
std::filesystem::path cacheDirectory();

/// AIMERGE_SCRATCH_DIR, else TMPDIR, else /tmp: files of this process alone, best on a disk of the machine itself.
std::filesystem::path scratchDirectory();

/// AIMERGE_PYTHON: interpreter that runs the scripts of toolsDirectory(): Hugging Face tokenizers, figures. Default:
/// programFiles().python, else python3.
std::string pythonInterpreter();

/// How that interpreter is started. programFiles().python has all it needs, so it does not read PYTHONPATH and PYTHONHOME,
/// which modules of a cluster set for another Python; one that AIMERGE_PYTHON names does.
std::vector<std::string> pythonCommand();

/// What to do, as the end of an error message, where that interpreter has no such package.
std::string howToGetPackage(std::string_view package);

/// AIMERGE_TOOLS_DIR: folder of the Python scripts that the product starts. Default: programFiles().tools.
std::filesystem::path toolsDirectory();

/// AIMERGE_COLLECTIVE_TIMEOUT: seconds a rank waits for another before the job is ended. Default 1800.
double collectiveTimeoutSeconds();

/// AIMERGE_SHARE_GPUS=1: ranks on one machine may compute on the same GPU, for trying several ranks where there is one. NCCL
/// itself refuses that, unless NCCL_HOSTID differs between the ranks.
bool sharesGpus();

/// SLURM_JOB_ID: names the job in locks and logs. Empty outside of Slurm.
std::string slurmJobId();

/// HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE (its older name), else TRANSFORMERS_CACHE (of transformers before 5), else
/// HF_HOME/hub, else $XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub.
std::filesystem::path hubCacheDirectory();

/// OMPI_COMM_WORLD_SIZE (mpirun), PMIX_RANK (srun --mpi=pmix) or PMI_RANK: MPI is initialised only when one of them is set.
bool startedByMpiLauncher();

/// OMPI_COMM_WORLD_SIZE, else PMI_SIZE (MPICH, Intel MPI, MVAPICH), else MV2_COMM_WORLD_SIZE: how many processes the
/// launcher started. Default 1.
int launchedProcesses();

/// OMPI_COMM_WORLD_LOCAL_SIZE (mpirun): how many of them on this machine. Default all.
int launchedProcessesHere();

/// OMPI_MCA_orte_jobfam_session_dir (mpirun of Open MPI 4): where it keeps its files of this job on this machine. Empty
/// where unknown.
std::string sessionFolderOfLauncher();

/// OMPI_COMM_WORLD_RANK, else PMIX_RANK, else PMI_RANK: this process among them, for as long as MPI
/// cannot be asked. Default 0.
int launchedRank();

/// SLURM_STEP_NUM_TASKS: tasks of the srun step that this process is one of. Default 1.
int slurmStepTasks();

}  // namespace aimerge::environment
