"""A Slurm of several machines (network namespaces), one of which is cut off while a job runs: Slurm takes the node out, puts the job back into its queue, and it
continues on the machines that are left."""
import os
import pathlib
import re
import time
import unittest

from aimerge_command import BINARY, environment, file_bytes
from machine_jobs import OnMachines, many_blocks, run_alone
from test_slurm import why_no_slurm

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODES = 3
CONTROLLER = NODES + 1  # a machine of its own
CONFIG = """ClusterName=test
SlurmctldHost=machine{controller}(10.77.0.{controller})
SlurmctldPort=18900
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# a job that goes back into the queue waits for cred_expire seconds, of which Slurm takes 5 at least
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir=/tmp/spool.%n
TmpFS=/tmp
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
JobRequeue=1
SlurmdTimeout=6
TCPTimeout=2
MessageTimeout=3
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1
"""


@unittest.skipIf(why_no_slurm(), why_no_slurm())
class LostNode(OnMachines):
    def start_slurm(self, machines):
        """Everything lies in a folder that all see, Munge's socket too; what is started ends with the machines."""
        folder = self.folder / "slurm"
        self.folder.chmod(0o755)  # Munge looks
        for name in ("etc", "munge", "state", "log", "run"):
            (folder / name).mkdir(parents=True)
            (folder / name).chmod(0o755)
        (folder / "munge/key").write_bytes(os.urandom(1024))
        (folder / "munge/key").chmod(0o600)
        nodes = [f"NodeName=node{i} NodeHostname=machine{i} NodeAddr=10.77.0.{i} Port=18901 CPUs=8 RealMemory=8000 State=UNKNOWN"
                 for i in range(1, NODES + 1)]
        self.conf = folder / "etc/slurm.conf"
        self.conf.write_text(CONFIG.format(folder=folder, controller=CONTROLLER) + "\n".join(nodes) +
                             f"\nPartitionName=test Nodes=node[1-{NODES}] Default=YES MaxTime=INFINITE DefaultTime=10 State=UP\n")
        if version := re.match(r"slurm (\d+)", self.slurm(machines, "slurmd", "-V").stdout):
            plugin = {21: "", 22: "CgroupPlugin=cgroup/v1\n"}.get(int(version[1]), "CgroupPlugin=disabled\n")
            (folder / "etc/cgroup.conf").write_text(plugin)
        self.slurm(machines, "munged", "--force", f"--key-file={folder}/munge/key", f"--socket={folder}/munge/socket",
                   f"--pid-file={folder}/run/munged.pid", f"--log-file={folder}/log/munged.log", f"--seed-file={folder}/munge/seed", "--num-threads=2")
        self.slurm(machines, "slurmctld", "-c", "-f", self.conf)
        for i in range(1, NODES + 1):
            self.slurm(machines, "sh", "-c", f"mkdir /tmp/spool.node{i} && slurmd -c -f {self.conf} -N node{i}", machine=i)
        self.wait(lambda: self.slurm(machines, "sinfo", "-h", "-N", "-o", "%T").stdout.split() == ["idle"] * NODES, 30)

    def slurm(self, machines, *command, machine=CONTROLLER):
        variables = {"AIMERGE_HOME": str(ROOT), "AIMERGE_BINARY": BINARY, "OMPI_MCA_btl_tcp_if_include": "eth0", "AIMERGE_COLLECTIVE_TIMEOUT": "60"}
        result = machines.run(machine, command, env=environment(self.cache, SLURM_CONF=str(self.conf), **variables), cwd=self.folder, timeout=60)
        self.assertEqual(result.returncode, 0, f"{command}: {result.stderr}")
        return result

    def wait(self, happened, seconds):
        deadline = time.monotonic() + seconds
        while not happened():
            self.assertLess(time.monotonic(), deadline, self.logs())
            time.sleep(0.2)

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text()[-3000:]}" for path in [*self.folder.glob("*.log"), *self.folder.glob("slurm/log/*")])

    def test_the_job_continues_on_the_others(self):
        config = self.merge_config("ties", omega=0.4)
        config["aim"]["calibration"] = {"token_ids": str(many_blocks(self.folder / "blocks.npy", 4000)), "dtype": "float32"}
        merge, out = self.config(config), self.folder / "out"
        with self.machines(NODES + 1) as machines:
            self.start_slurm(machines)
            job = self.slurm(machines, "sbatch", "--parsable", "--gpus-per-node=0", "--mem=0", "--cpus-per-task=1", "--time=10", "--nodes=2",
                             "--nodelist=node1,node2", "--ntasks-per-node=2", ROOT / "slurm/merge.sbatch", merge, out).stdout.strip()
            self.wait(lambda: "at most on a rank" in self.logs(), 60)
            machines.cut(2)
            self.wait(lambda: "Restarts=1" in self.slurm(machines, "scontrol", "show", "job", job).stdout, 60)
            self.slurm(machines, "scontrol", "update", f"jobid={job}", "reqnodelist=")
            self.wait(lambda: "JobState=COMPLETED" in self.slurm(machines, "scontrol", "show", "job", job).stdout, 120)
            self.assertIn("NodeList=node[1,3]", self.slurm(machines, "scontrol", "show", "job", job).stdout)
        self.assertEqual(file_bytes(out), run_alone(self, self.folder, merge))


if __name__ == "__main__":
    unittest.main()
