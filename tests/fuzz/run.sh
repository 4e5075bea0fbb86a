#!/usr/bin/env bash
# Runs the fuzzers of build/asan, each on its saved corpus and then for some seconds on what it makes of it.
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
seconds="$1"
shift
targets=("$@")
if ((${#targets[@]} == 0)); then
    for program in build/asan/bin/fuzz_*; do targets+=("${program#build/asan/bin/fuzz_}"); done
fi

readonly work=build/asan/fuzz
mkdir -p "$work/findings"
failed=()
for target in "${targets[@]}"; do
    mkdir -p "$work/$target"
    printf 'fuzz: %s, %s s\n' "$target" "$seconds"
    # A reader may not take more than 10 s or 2 GiB for an input. Leaks are looked for but in libhdf5, which leaves some behind when a
    # file makes no sense.
    leaks=1
    [[ $target == statistics_log ]] && leaks=0
    if ! UBSAN_OPTIONS=print_stacktrace=1 LLVM_PROFILE_FILE=/dev/null "build/asan/bin/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=65536 -detect_leaks="$leaks" -print_final_stats=1 -artifact_prefix="$work/findings/$target-" \
        "$work/$target" "tests/fuzz/corpus/$target" > "$work/$target.log" 2>&1; then
        tail -n 60 "$work/$target.log" >&2
        failed+=("$target")
    fi
    grep -E '^stat::(number_of_executed_units|average_exec_per_sec|peak_rss_mb)' "$work/$target.log" || true
    rm -rf /dev/shm/aimerge-fuzz-*
done
if ((${#failed[@]})); then
    printf 'fuzz: findings in %s: %s\n' "$work/findings" "${failed[*]}" >&2
    exit 1
fi
