#!/usr/bin/env bash
# Sets the machine up, builds with warnings as errors and runs every test. The CUDA build is compiled and linked too, where
# its compiler is there or can be installed; its test needs a GPU and says so where there is none.
#
# usage: launch/test.sh [--quick] [--slurm] [--sanitizers]
#   --quick       without the system tests, which run whole commands on a real model
#   --slurm       installs what the tests of the batch scripts need; without it they are skipped where there is no Slurm
#   --sanitizers  also launch/sanitize.sh: sanitizers, fuzzers and line coverage, with clang
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=no sanitizers=no options=()
for argument in "$@"; do
    case "$argument" in
        --quick) quick=yes ;;
        --slurm) options+=(--slurm) ;;
        --sanitizers) sanitizers=yes options+=(--sanitizers) ;;
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
        *) printf "test: unknown option '%s'; usage: launch/test.sh [--quick] [--slurm] [--sanitizers]\n" "$argument" >&2; exit 1 ;;
    esac
done

# What only tests need is fetched while the compilers run.
prepare() {
    ./launch/setup.sh --test "${options[@]}"
    if [[ $quick == no ]]; then build/venv/bin/python src/tools/make_family.py build/family --downloads build/downloads; fi
}
./launch/setup.sh
prepare > build/prepare.log 2>&1 &
preparing=$!
./launch/build.sh cpu -DAIMERGE_WERROR=ON
cmake --build --preset cpu --parallel "$(nproc)"
wait "$preparing" || { cat build/prepare.log >&2; exit 1; }

# Labels that the two runs of CTest leave out.
beside_builds='^$' afterwards='^waits$'
if [[ $quick == yes ]]; then beside_builds='^system$' afterwards='^(waits|system)$'; fi

# Tests that wait for others, or for a time limit, leave the cores to the compilers.
ctest --preset cpu --label-regex '^waits$' --label-exclude "$beside_builds" --parallel "$(nproc)" > build/waits.log 2>&1 &
waiting=$!
trap wait EXIT  # an error elsewhere does not leave them behind

if reason="$(./launch/setup.sh --cuda 2>&1)"; then
    mkdir -p build/cuda
    cmake --preset cuda -DAIMERGE_WERROR=ON > build/cuda/configure.log 2>&1 || { cat build/cuda/configure.log >&2; exit 1; }
    cmake --build --preset cuda --target aimerge gpu_tests --parallel "$(nproc)"
    build/cuda/bin/aimerge --version
    ctest --preset cuda --label-regex gpu --verbose
else
    printf 'test: the CUDA build is left out: %s\n' "${reason##*$'\n'}"
fi

if [[ $sanitizers == yes ]]; then ./launch/sanitize.sh; fi

rc=0
wait "$waiting" || rc=$?
cat build/waits.log

# One more than there are cores: some wait a little.
ctest --preset cpu --label-exclude "$afterwards" --parallel "$(($(nproc) + 1))"
exit "$rc"
