#!/usr/bin/env bash
# Sets the machine up, builds with warnings as errors and runs every test. The CUDA build is compiled and linked too, where
# its compiler is there or can be installed; its test needs a GPU and says so where there is none.
#
# usage: launch/test.sh [--quick] [--slurm] [--lm-eval] [--sanitizers]
#   --quick       without the system tests, which run whole commands on a real model
#   --slurm       installs what the tests of the batch scripts need; without it they are skipped where there is no Slurm
#   --lm-eval     installs lm-eval (0.5 GB); without it the tests that compare with it are skipped
#   --sanitizers  also launch/sanitize.sh: sanitizers, fuzzers and line coverage, with clang
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=no sanitizers=no options=()
for argument in "$@"; do
    case "$argument" in
        --quick) quick=yes ;;
        --slurm | --lm-eval) options+=("$argument") ;;
        --sanitizers) sanitizers=yes options+=(--sanitizers) ;;
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
        *) printf "test: unknown option '%s'; usage: launch/test.sh [--quick] [--slurm] [--lm-eval] [--sanitizers]\n" "$argument" >&2; exit 1 ;;
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

# CTest calls a test skipped when one part of it was, and does not say why.
say_what_was_skipped() {
    sed -nE "s/^test_\w+ \((.*)\) \.\.\. skipped ['\"](.*)['\"]$/test: \1 was skipped: \2/p" build/cpu/Testing/Temporary/LastTest.log
}

# Labels that the two runs of CTest leave out.
beside_builds='^$' afterwards='^(waits|arm64|package)$'
if [[ $quick == yes ]]; then beside_builds='^(system|arm64|package)$' afterwards='^(waits|system|arm64|package)$'; fi

# Tests that wait for others, or for a time limit, leave the cores to the compilers. So do those of what other scripts have to make first.
ctest --preset cpu --label-regex '^(waits|arm64|package)$' --label-exclude "$beside_builds" --parallel "$(nproc)" > build/waits.log 2>&1 &
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
say_what_was_skipped

# One more than there are cores: some wait a little.
ctest --preset cpu --label-exclude "$afterwards" --parallel "$(($(nproc) + 1))" | tee build/rest.log || rc=$?
say_what_was_skipped
sed -n '/tests passed,/,$p' build/rest.log  # the totals once more, as the last lines
exit "$rc"
