#!/usr/bin/env bash
# Runs the fuzzers of build/asan, each on its saved corpus and then for some seconds on what it makes of it; as many at a time as
# there are processors.
#
# usage: tests/fuzz/run.sh SECONDS [TARGET...]
#   TARGET  config, statistics_log, ...: the names of the files here; without any, all that are built
#   build them first: cmake --preset asan && cmake --build --preset asan --target fuzzers
#
# An input that breaks something lies in build/asan/fuzz/findings afterwards, and the exit code is not 0. New inputs that reach
# further are kept in build/asan/fuzz/TARGET for the next run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

(($#)) || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 1; }
export seconds="$1" work=build/asan/fuzz
shift
targets=("$@")
if ((${#targets[@]} == 0)); then
    for program in build/asan/bin/fuzz_*; do targets+=("${program#build/asan/bin/fuzz_}"); done
fi

# A reader may not take more than 10 s or 2 GiB for an input.
fuzz() {
    local target="$1" leaks=1 status=0
    [[ $target == statistics_log ]] && leaks=0 # libhdf5 leaves some memory behind when a file makes no sense
    mkdir -p "$work/$target"
    UBSAN_OPTIONS=print_stacktrace=1 LLVM_PROFILE_FILE=/dev/null "build/asan/bin/fuzz_$target" -max_total_time="$seconds" \
        -timeout=10 -rss_limit_mb=2048 -max_len=65536 -detect_leaks="$leaks" -artifact_prefix="$work/findings/$target-" \
        "$work/$target" "tests/fuzz/corpus/$target" > "$work/$target.log" 2>&1 || status=$?
    printf 'fuzz: %-20s %s\n' "$target" "$(grep '^Done' "$work/$target.log" || echo 'stopped by a finding')"
    ((status == 0)) || tail -n 60 "$work/$target.log" >&2
    return "$status"
}
export -f fuzz

mkdir -p "$work/findings"
status=0
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I TARGET bash -c 'fuzz TARGET' || status=$?
rm -rf /dev/shm/aimerge-fuzz-*
if ((status)); then printf 'fuzz: findings in %s\n' "$work/findings" >&2; fi
exit "$status"
