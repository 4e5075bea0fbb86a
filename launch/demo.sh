#!/usr/bin/env bash
# The AIM paper's Table 1 at a small scale, from a fresh machine to the table: installs, builds, makes the SmolLM2 family, merges its three
# experts by five methods in four combinations with and without AIM, and with feature calibration, on two ranks, scores all of them, and reports.
#
# usage: launch/demo.sh [--full]
#   --full  the ablation over omega too: 1.0, 0.8, 0.6, 0.4, 0.2 and 0 (148 models instead of 52)
#
# If it was interrupted, start it again: it continues where it stopped.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly config=configs/smollm2-table1.yaml
readonly sweep=build/demo/table1
omegas=()
case "${1:-}" in
    "") ;;
    --full) omegas=(--set "omega=[1.0, 0.8, 0.6, 0.4, 0.2, 0.0]") ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
    *) printf "demo: unknown option '%s'; usage: launch/demo.sh [--full]\n" "$1" >&2; exit 1 ;;
esac

say() { printf '\n== %s\n' "$*"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

say "Setting up and building"
./launch/setup.sh
./launch/build.sh cpu

say "The models: a base and three experts fine-tuned from it"
build/venv/bin/python src/tools/make_family.py build/family --downloads build/downloads

say "Merging and scoring on two ranks: every method, combination and omega of $config"
launch=(mpirun -n 2 --bind-to none --oversubscribe)
if ((EUID == 0)); then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
threads=$(($(nproc) / 2))
# If the CPU multiplies in bfloat16, the models run in it; otherwise float32 is faster.
dtype=float32
if grep -q -m 1 avx512_bf16 /proc/cpuinfo; then dtype=bfloat16; fi
run "${launch[@]}" build/aimerge sweep "$config" "${omegas[@]}" --set "evaluation.dtype=$dtype" --threads "$((threads > 0 ? threads : 1))"

say "The table"
run build/aimerge report "$sweep"

cat << TEXT

== What you see
Each expert does its own task well and the others' badly. Added up, they disturb each other and the base: perplexity of plain text
(general:ppl) goes from 25 to 138 for all three. AIM ran configs/smollm2/calibration.txt through the base, found which input channels
of each layer are active, and kept the weights behind the active ones close to the base (omega 0.4): compare the rows with and without.
In the rows called featcal every layer was fitted afterwards to what the experts compute on configs/smollm2/examples, 60 of each task.

Report:  $PWD/$sweep/report/report.html
Scores:  $sweep/points.csv

Next:  mpirun -n 2 build/aimerge merge configs/smollm2-ties-aim.yaml --out build/demo/ties      # a checkpoint for transformers
       build/aimerge inspect build/demo/ties/aimerge_statistics.h5
       launch/demo.sh --full                                                                  # more values of omega
TEXT
