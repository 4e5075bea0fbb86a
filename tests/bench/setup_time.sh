#!/usr/bin/env bash
# How long set-up takes: from `git clone` to the demo's first score with an empty compiler cache, and a developer's rebuild. Prints a
# Markdown table for docs/benchmarks.md. System packages and downloads (build/venv, build/downloads) are taken from this checkout:
# their time is the network's.
#
# usage: tests/bench/setup_time.sh [FOLDER]
#   FOLDER  for the clone (default: one in /tmp, removed afterwards)
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
folder="${1:-$(mktemp -d)}"
clone="$folder/aimerge"
trap 'rm -rf "$folder"' EXIT
export CCACHE_DISABLE=1

row() { printf '| %s | %.0f |\n' "$1" "$2"; }
# seconds COMMAND...: how long it took; its output goes to a log.
seconds() {
    local begin="$EPOCHREALTIME"
    "$@" > "$folder/log" 2>&1 || { tail -20 "$folder/log" >&2; exit 1; }
    awk "BEGIN { print $EPOCHREALTIME - $begin }"
}

printf '| what | seconds |\n| --- | ---: |\n'
begin="$EPOCHREALTIME"
git clone -q "$root" "$clone"
cd "$clone"
mkdir build
ln -s "$root/build/venv" "$root/build/downloads" build
./launch/setup.sh > "$folder/log" 2>&1
program="$(seconds ./launch/build.sh)"
family="$(seconds build/venv/bin/python src/tools/make_family.py build/family --downloads build/downloads)"
score="$(seconds build/aimerge sweep configs/smollm2-table1.yaml --only method=task_arithmetic,combination=math+code,omega=1.0)"
row "\`launch/build.sh\`" "$program"
row "making the four demo models" "$family"
row "the demo's first scores: base, three experts, one merge" "$score"
row "\`git clone\` to these scores" "$(awk "BEGIN { print $EPOCHREALTIME - $begin }")"

# A developer builds file by file.
cmake --preset cpu > "$folder/log" 2>&1
row "\`cmake --build --preset cpu --target aimerge\`, every file by itself" "$(seconds cmake --build --preset cpu --target aimerge)"
touch src/merge/tensor_assembly.cpp
row "rebuild after a change of \`src/merge/tensor_assembly.cpp\`" "$(seconds cmake --build --preset cpu --target aimerge)"
touch include/aimerge/checkpoint/adapter.h
row "rebuild after a change of \`include/aimerge/checkpoint/adapter.h\`" "$(seconds cmake --build --preset cpu --target aimerge)"
