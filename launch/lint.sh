#!/usr/bin/env bash
# Checks what a reviewer should not have to: formatting of every C++ and CUDA file by clang-format, and clang-tidy on the C++ files that
# differ from a commit in more than their includes (a file takes 10 to 40 seconds).
#
# usage: launch/lint.sh [--fix] [BASE]
#   --fix   formats the files, and nothing else
#   BASE    commit that clang-tidy's files differ from (default: where this branch left origin/main; on it HEAD, if files differ from it,
#           else the commit before HEAD)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fix=no base=""
for argument in "$@"; do
    case "$argument" in
        --fix) fix=yes ;;
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
        -*) printf "lint: unknown option '%s'; usage: launch/lint.sh [--fix] [BASE]\n" "$argument" >&2; exit 1 ;;
        *) base="$argument" ;;
    esac
done

say() { printf 'lint: %s\n' "$*"; }

readonly venv="$PWD/build/venv"
git rev-parse --is-inside-work-tree &> /dev/null || { say "left out: this is no git checkout"; exit 0; }
./launch/setup.sh --lint

mapfile -t sources < <(git ls-files --cached --others --exclude-standard --deduplicate -- '*.h' '*.cpp' '*.cu' '*.cuh' |
    while read -r file; do if [[ -e $file ]]; then printf '%s\n' "$file"; fi; done)
if [[ $fix == yes ]]; then
    "$venv/bin/clang-format" -i "${sources[@]}"
    exit 0
fi
"$venv/bin/clang-format" --dry-run --Werror "${sources[@]}"
say "${#sources[@]} files are formatted"

if [[ -z $base ]]; then
    head="$(git rev-parse HEAD)"
    base="$(git merge-base HEAD origin/main 2> /dev/null || true)"
    if [[ -z $base || $base == "$head" ]]; then
        base="$head"
        if [[ -z $(git status --porcelain -- src) ]]; then base="$(git rev-parse --verify --quiet HEAD~1 || true)"; fi
    fi
fi
if [[ -z $base ]]; then
    say "clang-tidy is left out: this history has one commit; name a BASE"
    exit 0
fi
mapfile -t changed < <(git diff --name-only --diff-filter=d -M -G'^([^#]|#[^i])' "$base" -- 'src/*.cpp'
    git ls-files --others --exclude-standard -- 'src/*.cpp')
if ((${#changed[@]})); then
    # clang reads neither GCC's precompiled headers nor several files as one.
    mkdir -p build/tidy
    cmake --preset cpu -B build/tidy -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON -DCMAKE_UNITY_BUILD=OFF > build/tidy/configure.log 2>&1 ||
        { cat build/tidy/configure.log >&2; exit 1; }
fi
# What only a build with CUDA compiles is left out.
compiled=()
for file in "${changed[@]}"; do
    if grep -qF "\"file\": \"$PWD/$file\"" build/tidy/compile_commands.json; then compiled+=("$file"); fi
done
say "clang-tidy on ${#compiled[@]} files that differ from $(git rev-parse --short "$base")"
((${#compiled[@]})) || exit 0
# The compiler's own headers, which the Python package lacks, are those of the system's clang.
printf '%s\0' "${compiled[@]}" | xargs -0 -n 1 -P "$(nproc)" "$venv/bin/clang-tidy" --quiet -p build/tidy \
    --extra-arg="-resource-dir=$(clang -print-resource-dir)"
