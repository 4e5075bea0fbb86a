#!/usr/bin/env bash
# Submits a whole experiment: calibrate, then the sweep as a job array over the combinations of experts, then the scores, then the report; each
# job waits for the one before and is cancelled when that fails.
#
# usage: slurm/reproduce.sh 1|2|3|CONFIG [models to score besides, as NAME=FOLDER ...] [options of src/tools/score_with_lm_eval.py]
#   1, 2, 3  the AIM paper's tables (configs/paper), scored with lm-eval and vLLM, compared with the printed table; two of the
#            benchmarks run code that the models write, on the node: say --run-model-code, or choose others by --benchmarks
#   CONFIG   a sweep of your own; it is scored with lm-eval when it names no suites of its own
#
# Logs are written to the current folder.
#
# SBATCH_OPTIONS: options for every job, e.g. "--partition=a100 --gpus-per-node=4"; docs/cluster.md has the other variables.
set -euo pipefail
AIMERGE_HOME="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export AIMERGE_HOME

case "${1:-}" in
    1 | 2 | 3) config="$AIMERGE_HOME/configs/paper/table$1.yaml" compare=(--compare-paper "$1") ;;
    '' | -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) config="$1" compare=() ;;
esac
shift
[[ -r $config ]] || { printf 'reproduce: %s: no such config\n' "$config" >&2; exit 2; }
binary="${AIMERGE_BINARY:-$AIMERGE_HOME/build/aimerge}"

# What the scripts need to know of the config.
combinations="$("$binary" sweep "$config" --list-combinations | wc -l)"
readarray -t facts < <("${AIMERGE_PYTHON:-$AIMERGE_HOME/build/venv/bin/python}" - "$config" << 'PYTHON'
import sys, yaml
config = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
print(config["output"]["directory"])
print("yes" if config.get("evaluation", {}).get("suites") else "no")
print("yes" if "calibration" in config.get("aim", {}) else "no")
PYTHON
)
directory="${facts[0]}" has_suites="${facts[1]}" calibrates="${facts[2]}"

# submit DEPENDENCY SCRIPT ARGUMENTS...: the job's number. DEPENDENCY: numbers, joined by ':'; empty for none
submit() {
    local after=()
    if [[ -n $1 ]]; then after=(--dependency="afterok:$1" --kill-on-invalid-dep=yes); fi
    # shellcheck disable=SC2086  # a list of options
    sbatch --parsable ${SBATCH_OPTIONS:-} "${after[@]}" "${@:2}" | cut -d';' -f1
}

job=''
if [[ $calibrates == yes ]]; then
    mkdir -p "$directory"
    job="$(submit '' "$AIMERGE_HOME/slurm/calibrate.sbatch" "$config" "$directory/calibration.h5")"
    printf 'calibrate  %s\n' "$job"
fi
job="$(submit "$job" --array="0-$((combinations - 1))" "$AIMERGE_HOME/slurm/sweep.sbatch" "$config")"
printf 'sweep      %s  %s combinations\n' "$job" "$combinations"
scores=()
if [[ $has_suites == no ]]; then
    job="$(submit "$job" "$AIMERGE_HOME/slurm/evaluate.sbatch" "$directory" "$directory/lm-eval" "$@")"
    printf 'evaluate   %s\n' "$job"
    scores=(--lm-eval "$directory/lm-eval")
fi
job="$(submit "$job" "$AIMERGE_HOME/slurm/report.sbatch" "$directory" "${scores[@]}" "${compare[@]}")"
printf 'report     %s  %s/report/report.html\n' "$job" "$directory"
