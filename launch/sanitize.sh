#!/usr/bin/env bash
# Builds with sanitizers and runs what they can find something in: under AddressSanitizer and UndefinedBehaviorSanitizer the fuzzers and
# the tests of the rooms that read foreign files, under ThreadSanitizer tests of what threads share. Says which share of the lines
# ran.
#
# usage: launch/sanitize.sh [--all] [--fuzz SECONDS]
#   --all           every room, and whole commands (an hour more on two cores)
#   --fuzz SECONDS  for each fuzzer (default: 20)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all=no seconds=20
while (($#)); do
    case "$1" in
        --all) all=yes ;;
        --fuzz) seconds="${2:?sanitize: --fuzz needs seconds}"; shift ;;
        *) printf "sanitize: unknown option '%s'; usage: launch/sanitize.sh [--all] [--fuzz SECONDS]\n" "$1" >&2; exit 1 ;;
    esac
    shift
done

say() { printf 'sanitize: %s\n' "$*"; }

# build PRESET TARGET...
build() {
    mkdir -p "build/$1"
    cmake --preset "$1" > "build/$1/configure.log" 2>&1 || { cat "build/$1/configure.log" >&2; exit 1; }
    cmake --build --preset "$1" --parallel "$(nproc)" --target "${@:2}"
}

# run PRESET ROOM [ctest options]: the tests of tests/ROOM
run() { ctest --test-dir "build/$1/tests/$2" --output-on-failure --no-tests=error --parallel "$(nproc)" "${@:3}"; }

./launch/setup.sh --test --sanitizers

rooms=(core config checkpoint statistics report)
fuzzers=(fuzzers)
commands=()
threaded=(tests/core/all merge_tensor_test)
if [[ $all == yes ]]; then
    rooms+=(distributed merge model calibration evaluation experiment)
    fuzzers+=(fuzz_sweep_config)
    commands=(aimerge print_logits hide_folders fail_io)
    threaded=(tests/core/all tests/checkpoint/all tests/merge/all)
    build/venv/bin/python src/tools/make_family.py build/family --downloads build/downloads
fi

say "AddressSanitizer and UndefinedBehaviorSanitizer"
# OpenMPI and HDF5 keep what they allocate until the process ends: the fuzzers alone look for leaks.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
profiles="$PWD/build/asan/profiles"
rm -rf "$profiles"
export LLVM_PROFILE_FILE="$profiles/%4m.profraw"  # processes of one program add to one of four files
targets=("${rooms[@]/%//all}")
build asan "${fuzzers[@]}" "${targets[@]/#/tests/}" "${commands[@]}"
for room in "${rooms[@]}"; do run asan "$room"; done
if [[ $all == yes ]]; then
    # Not test_bad_input, which limits the address space: AddressSanitizer takes terabytes of it.
    run asan system --tests-regex \
        '^system.test_(io_faults|kills|faults|identity|importance|sensitivity|slices|lora|documents|evaluate|sweep|report|unshared_files)$'
fi
build/venv/bin/python src/tools/line_coverage.py build/asan "$profiles"
unset LLVM_PROFILE_FILE

say "fuzzers"
ASAN_OPTIONS='' tests/fuzz/run.sh "$seconds"

say "ThreadSanitizer"
export TSAN_OPTIONS=ignore_noninstrumented_modules=1  # OpenMPI, libgomp and libtorch are not built with it
build tsan "${threaded[@]}"
run tsan core
if [[ $all == yes ]]; then
    run tsan checkpoint
    run tsan merge
else
    run tsan merge --tests-regex '^merge_tensor_test$'
fi
