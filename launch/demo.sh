#!/usr/bin/env bash
# From a fresh machine to a merged model: installs, builds, makes the SmolLM2 family, merges it with AIM on two ranks, and shows
# what came out.
#
# usage: launch/demo.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly config=configs/smollm2-task-arithmetic-aim.yaml
readonly corpus=configs/smollm2/calibration.txt
readonly merged=build/demo/merged
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

say "Merging on two ranks: calibrate on the base, add the experts, hold back the change on active channels"
launch=(mpirun -n 2 --bind-to none --oversubscribe)
if ((EUID == 0)); then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
threads=$(($(nproc) / 2))
mkdir -p build/demo
run "${launch[@]}" build/aimerge merge "$config" --out "$merged" --threads "$((threads > 0 ? threads : 1))" --overwrite

say "What was written"
# The tables are long: all of each in a file, the first lines here.
inspect() {
    printf '$ build/aimerge inspect %s | head -n %s\n' "$1" "$2"
    build/aimerge inspect "$1" > "$3"
    head -n "$2" "$3"
}
inspect "$merged" 10 build/demo/checkpoint.txt
inspect "$merged/aimerge_statistics.h5" 12 build/demo/statistics.txt
run build/aimerge verify "$merged"

cat << TEXT

== What you see
$merged is a Hugging Face checkpoint: transformers loads it as it stands.
The plain sum of these three experts disturbs the base. AIM ran $corpus
through the base, found which input channels of each layer are active (A, in the table above: a few are, most are not),
and kept the weights behind the active ones close to the base (omega 0.4).
All of both tables: build/demo/checkpoint.txt, build/demo/statistics.txt. Settings and digests: $merged/README.md.

Next:  mpirun -n 2 build/aimerge merge configs/smollm2-ties-aim.yaml --out build/demo/ties
       mpirun -n 2 build/aimerge merge configs/smollm2-omega-list.yaml --out build/demo/omegas
       build/aimerge merge --help
TEXT
