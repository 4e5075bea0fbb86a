#!/usr/bin/env bash
# Builds aimerge, without its tests, and points build/aimerge and build/mergekit-yaml at the result. Several source files are compiled
# as one, which takes little more than half the time; whoever changes them had better have `cmake --preset cpu` and `cmake --build --preset cpu`.
#
# usage: launch/build.sh [PRESET] [CMake options]
#   PRESET  cpu (default), cuda, asan or tsan; see CMakePresets.json
#   e.g.    launch/build.sh cpu -DAIMERGE_WERROR=ON
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=cpu
case "${1:-}" in
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
    cpu | cuda | asan | tsan) preset="$1"; shift ;;
    "" | -*) ;;
    *) printf "build: unknown preset '%s': choose cpu, cuda, asan or tsan\n" "$1" >&2; exit 1 ;;
esac

say() { printf 'build: %s\n' "$*"; }
readonly log="build/$preset/configure.log"
mkdir -p "build/$preset"
say "configuring build/$preset"
if ! cmake --preset "$preset" -DCMAKE_UNITY_BUILD=ON "$@" > "$log" 2>&1; then
    cat "$log" >&2
    printf 'build: cmake could not configure; is launch/setup.sh done?\n' >&2
    exit 1
fi
say "compiling with $(nproc) jobs"
cmake --build --preset "$preset" --target aimerge --parallel "$(nproc)"
ln -sfn "$preset/bin/aimerge" build/aimerge
ln -sfn "$preset/bin/mergekit-yaml" build/mergekit-yaml
say "build/aimerge is the $preset build"
