#!/usr/bin/env bash
# Builds aimerge for this machine's GPU and runs there what CI can only compile: every test with label gpu, the most telling ones first, and
# a short gpu_bench. Writes build/gpu_check/log.txt and build/gpu_check/table.md. Can be run again: what is built is kept.
#
# usage: launch/gpu_check.sh [--seconds N] [--build-only]
#   --seconds N    starts no further test after this time, building included (default: 540)
#   --build-only   for a machine without a GPU
#
# A torch with CUDA that `python3` already has is used, with its libraries; else launch/setup.sh --cuda installs one. Packages are
# installed as launch/setup.sh does; AIMERGE_NO_PACKAGES=1 leaves them alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

limit=540 build_only=no
while (($#)); do
    case "$1" in
        --seconds) limit="${2:?gpu_check: --seconds needs a number}"; shift ;;
        --build-only) build_only=yes ;;
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
        *) printf "gpu_check: unknown option '%s'; usage: launch/gpu_check.sh [--seconds N] [--build-only]\n" "$1" >&2; exit 1 ;;
    esac
    shift
done

readonly out=build/gpu_check
mkdir -p "$out" build/cuda
exec > >(tee "$out/log.txt") 2>&1
say() { printf 'gpu_check: %4d s  %s\n' "$SECONDS" "$*"; }

# The folder of the torch with CUDA 13 that python3 imports, if there is one.
own_torch() {
    python3 - << 'PYTHON' 2> /dev/null
import pathlib, sys, torch
if not (torch.version.cuda or "").startswith("13."):
    sys.exit(1)
print(pathlib.Path(torch.__file__).parent)
PYTHON
}

packages=()
[[ ${AIMERGE_NO_PACKAGES:-} == 1 ]] && packages=(--no-packages)
if [[ ! -e build/venv ]] && torch="$(own_torch)"; then
    say "using the torch of $(command -v python3): $torch"
    python3 -m venv --without-pip build/venv
    dirname "$torch" > "$(echo build/venv/lib/python3*/site-packages)/own_torch.pth"
    export LIBTORCH_ROOT="$torch"
elif compgen -G 'build/venv/lib/python3*/site-packages/own_torch.pth' > /dev/null; then
    LIBTORCH_ROOT="$(< build/venv/lib/python3*/site-packages/own_torch.pth)/torch"
    export LIBTORCH_ROOT
else
    ./launch/setup.sh --test --cuda "${packages[@]}"
fi

architecture="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 | tr -d . || true)"
say "building for sm_${architecture:-90}"
cmake --preset cuda -DCMAKE_CUDA_ARCHITECTURES="${architecture:-90}" > build/cuda/configure.log 2>&1 || { cat build/cuda/configure.log; exit 1; }
cmake --build --preset cuda --target aimerge gpu_tests --parallel "$(nproc)"
ln -sfn cuda/bin/aimerge build/aimerge
build/aimerge --version
say "built"
[[ $build_only == no ]] || exit 0
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || { say "there is no GPU here"; exit 1; }

status=0
table="$out/table.md"
printf '| check | result | seconds |\n| --- | --- | ---: |\n' > "$table"
# check NAME COMMAND...: a row of the table.
check() {
    local name="$1" begin=$SECONDS result=passed
    shift
    if ((SECONDS >= limit)); then
        result="not run: no time left"
        status=1
    elif ! timeout $((limit + 60 - SECONDS)) "$@"; then
        result="**failed**"
        status=1
    fi
    printf '| `%s` | %s | %d |\n' "$name" "$result" "$((SECONDS - begin))" >> "$table"
    say "$name: $result"
}

# First what changed most since it last ran on a GPU: gradients, and stages that work one after another.
first=(device_test device_merge_test device_sums_test decoder_gpu_test calibrate_gpu_test.np1 calibrate_gpu_test.np2 calibrate_gpu_test.np3
    gpu.test_sensitivity gpu.test_expert_statistics gpu.test_sequential gpu.test_decoders gpu.test_featcal gpu.test_gpu)
mapfile -t all < <(ctest --preset cuda --label-regex '^gpu$' --show-only | sed -n 's/^ *Test *#[0-9]*: //p')
rest=()
for name in "${all[@]}"; do [[ " ${first[*]} " == *" $name "* ]] || rest+=("$name"); done
for name in "${first[@]}"; do check "$name" ctest --preset cuda --tests-regex "^${name//./\\.}\$"; done
check "gpu_bench.py --rounds 1" build/venv/bin/python tests/bench/gpu_bench.py --folder "${TMPDIR:-/dev/shm}/aimerge-gpu-check" --rounds 1
for name in "${rest[@]}"; do check "$name" ctest --preset cuda --tests-regex "^${name//./\\.}\$"; done
rm -rf "${TMPDIR:-/dev/shm}/aimerge-gpu-check"

cat "$table"
say "done; $out/log.txt and $table"
exit "$status"
