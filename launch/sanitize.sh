#!/usr/bin/env bash
# Builds with sanitizers and runs what they can find something in: under AddressSanitizer and UndefinedBehaviorSanitizer the fuzzers, the
# tests of the rooms without a decoder, and small whole commands; under ThreadSanitizer the tests of what threads share, and some of these
# commands. Says which share of the lines ran.
#
# usage: launch/sanitize.sh [--all] [--fuzz SECONDS]
#   --all           every room and its slow tests, and more whole commands (an hour more on two cores)
#   --fuzz SECONDS  for each fuzzer (default: 20)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all=no seconds=20
while (($#)); do
    case "$1" in
        --all) all=yes ;;
        --fuzz) seconds="${2:?sanitize: --fuzz needs seconds}"; shift ;;
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
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

# run PRESET LABELS: tests of rooms and of whole commands. Some wait more than they compute: one more than there are cores.
run() {
    ctest --test-dir "build/$1" --output-on-failure --no-label-summary --no-tests=error --parallel "$(($(nproc) + 1))" \
        --label-regex "^($2)\$" "${left_out[@]}"
}

./launch/setup.sh --test --sanitizers

rooms=(core config safetensors pytorch architecture vocabulary checkpoint output statistics report distributed simulation merge experiment)
threaded=(core safetensors checkpoint output merge)
programs=(aimerge hide_folders fail_io no_locks)
commands='goldens|slices|documents|lora|unshared_files|report|importance|sensitivity|sequential|measurements|pytorch_files'
threaded_commands='goldens|slices|identity'
left_out=(--label-exclude '^slow$') slow=()
if [[ $all == yes ]]; then
    rooms+=(model calibration evaluation)
    # Not test_bad_input, which limits the address space: AddressSanitizer takes terabytes of it.
    commands+='|io_faults|kills|faults|identity|evaluate|sweep'
    threaded_commands+='|documents|lora|unshared_files'
    left_out=() slow=(slow_tests)
fi
build/venv/bin/python src/tools/make_family.py build/family --downloads build/downloads

say "AddressSanitizer and UndefinedBehaviorSanitizer"
# OpenMPI and HDF5 keep what they allocate until the process ends: the fuzzers alone look for leaks.
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
profiles="$PWD/build/asan/profiles"
rm -rf "$profiles"
export LLVM_PROFILE_FILE="$profiles/%4m.profraw"  # processes of one program add to one of four files
targets=("${rooms[@]/#/tests/}")
build asan fuzzers fuzz_sweep_config "${programs[@]}" "${targets[@]/%//all}" "${slow[@]}"
run asan "$(IFS='|'; echo "${rooms[*]}")|test_($commands)"
build/venv/bin/python src/tools/line_coverage.py build/asan "$profiles"
unset LLVM_PROFILE_FILE

say "fuzzers"
ASAN_OPTIONS='' tests/fuzz/run.sh "$seconds"

say "ThreadSanitizer"
export TSAN_OPTIONS=ignore_noninstrumented_modules=1  # OpenMPI, libgomp and libtorch are not built with it
targets=("${threaded[@]/#/tests/}")
build tsan "${programs[@]}" "${targets[@]/%//all}" "${slow[@]}"
run tsan "$(IFS='|'; echo "${threaded[*]}")|test_($threaded_commands)"
