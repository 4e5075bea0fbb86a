#!/usr/bin/env bash
# Prepares a Debian 12 or Ubuntu 22.04/24.04 machine for building and running aimerge.
#
# usage: launch/setup.sh [--test] [--slurm] [--lm-eval] [--cuda] [--sanitizers] [--lint] [--no-packages]
#   --test         also what the tests compare with (transformers, mergekit, the CUDA libraries that `import torch` loads), and on
#                  Debian a browser
#   --slurm        also the daemons with which the tests start a Slurm of their own (nothing is started now)
#   --lm-eval      also lm-eval, for scoring on public benchmarks, and what --test installs (lm-eval alone: 0.5 GB, a minute)
#   --cuda         also what the `cuda` preset needs
#   --sanitizers   also clang with its sanitizers and fuzzer, for launch/sanitize.sh
#   --lint         also clang-format and clang-tidy, for launch/lint.sh
#   --no-packages  leave system packages alone, e.g. on a cluster whose modules provide them
#
# Installs only what is missing; when nothing is, it takes about a second and needs no network. System packages are installed
# as root or through sudo; everything else goes into build/venv, made with $PYTHON (default: python3, 3.10 or newer).
#
# A machine that is only to run aimerge needs none of this: launch/package.sh makes a package for it (docs/installing.md).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly venv="$PWD/build/venv" machine="$(uname -m)"
packages=(
    g++ cmake ninja-build ccache pkg-config python3-venv
    libopenmpi-dev openmpi-bin openssh-client
    libhdf5-dev libyaml-cpp-dev libfmt-dev libspdlog-dev libcli11-dev nlohmann-json3-dev
    libxxhash-dev libzstd-dev zlib1g-dev zstd libsentencepiece-dev libprotobuf-dev # which 24.04 links sentencepiece with
    libgtest-dev libgmock-dev libbenchmark-dev)

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

readonly slurm_packages=(slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge libpmix2)
with_test=no with_slurm=no with_lm_eval=no with_cuda=no with_sanitizers=no with_lint=no with_packages=yes
for argument in "$@"; do
    case "$argument" in
        --test) with_test=yes ;;
        --slurm) with_slurm=yes ;;
        --lm-eval) with_test=yes with_lm_eval=yes ;;
        --cuda) with_cuda=yes ;;
        --sanitizers) with_sanitizers=yes ;;
        --lint) with_lint=yes ;;
        --no-packages) with_packages=no ;;
        -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
        *) fail "unknown option '$argument'; see launch/setup.sh --help" ;;
    esac
done

install_packages() {
    command -v dpkg-query > /dev/null || fail "this is neither Debian nor Ubuntu: install the counterparts of" \
        "${packages[*]} and run launch/setup.sh --no-packages"
    local installed missing=() package
    installed=" $(dpkg-query -W -f='${db:Status-Status}=${Package} ' "${packages[@]}" 2> /dev/null || true)"
    for package in "${packages[@]}"; do
        [[ $installed == *" installed=$package "* ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    local as_root=()
    if ((EUID != 0)); then
        command -v sudo > /dev/null || fail "packages are missing and there is no sudo; run as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq || fail "apt-get update failed; is there a network?"
    # A package of a daemon starts it: not wanted, and not possible in a container.
    local policy=/usr/sbin/policy-rc.d keeps_daemons=no
    if [[ $with_slurm == yes && ! -e $policy ]]; then
        keeps_daemons=yes
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" > /dev/null
        "${as_root[@]}" chmod +x "$policy"
    fi
    local status=0
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null ||
        status=$?
    if [[ $keeps_daemons == yes ]]; then "${as_root[@]}" rm -f "$policy"; fi
    ((status == 0)) || fail "apt-get could not install ${missing[*]}; see its message above"
}

# The interpreter that makes the environment: $PYTHON, else the first of the usual ones that is new enough.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 /usr/bin/python3}; do
        "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2> /dev/null || continue
        printf '%s\n' "$candidate"
        return
    done
    fail "no Python of version 3.10 or newer with venv among: ${PYTHON:-python3 /usr/bin/python3}; name one by PYTHON=..."
}

make_environment() {
    "$venv/bin/python" -m pip --version &> /dev/null && return
    local python
    python="$(find_python)"
    say "making build/venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
}

# install_list NAME [pip options]: the packages of src/tools/requirements<NAME>.txt, unless exactly these are there already.
install_list() {
    local list="src/tools/requirements$1.txt" stamp="$venv/.installed$1" digest
    digest="$(sha256sum < "$list")"
    [[ -f $stamp && $(< "$stamp") == "$digest" ]] && return
    say "installing the Python packages of $list into build/venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --only-binary=:all: \
        "${@:2}" -r "$list" || fail "pip could not install $list; see its message above"
    printf '%s\n' "$digest" > "$stamp"
}

python_has_torch() { "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }

# torch has no wheel for Python 3.10, but its C++ part does not care about Python: unpack the wheel for another version.
install_libtorch() {
    if python_has_torch; then
        install_list -libtorch
        return
    fi
    install_list -libtorch --target "$venv" --ignore-requires-python --implementation cp --python-version 3.12 \
        --platform "manylinux_2_28_$machine" --platform "manylinux_2_25_$machine" --platform "manylinux_2_17_$machine" \
        --platform "manylinux2014_$machine"
}

has_cuda_compiler() {
    local nvcc
    for nvcc in nvcc /usr/local/cuda/bin/nvcc; do
        "$nvcc" --version 2> /dev/null | grep -q 'release 13\.' && return
    done
    return 1
}

if [[ $with_slurm == yes ]]; then packages+=("${slurm_packages[@]}"); fi
if [[ $with_lint == yes ]]; then packages+=(clang); fi
if [[ $with_sanitizers == yes ]]; then
    packages+=(clang llvm lld)
    # In Ubuntu 22.04 clang's runtime is no package of its own.
    grep -qs '^VERSION_ID="22.04"' /etc/os-release || packages+=(libclang-rt-dev)
fi
if [[ $with_test == yes ]]; then
    # Looks at the page of a report. Ubuntu has it as a snap only: there these tests are skipped.
    if grep -qs '^ID=debian' /etc/os-release; then packages+=(chromium); fi
fi
[[ $(uname -s) == Linux && $machine =~ ^(x86_64|aarch64)$ ]] || fail "aimerge builds on Linux, x86-64 or ARM64; this is $(uname -sm)"
if [[ $with_packages == yes ]]; then install_packages; fi
make_environment
install_libtorch
install_list ""
if [[ $with_test == yes ]]; then
    install_list -test
    # Only Python's torch loads them, and Python 3.10 has none.
    if python_has_torch; then install_list -cuda; fi
fi
if [[ $with_lint == yes ]]; then install_list -lint; fi
if [[ $with_lm_eval == yes ]]; then
    python_has_torch || fail "--lm-eval needs Python 3.11 or newer: remove build/venv and name one by PYTHON=..."
    install_list -lm-eval --no-binary=rouge_score,sqlitedict,word2number,langdetect # these have no wheel
fi
if [[ $with_cuda == yes ]]; then
    python_has_torch || fail "--cuda needs Python 3.11 or newer: remove build/venv and name one by PYTHON=..."
    install_list -cuda
    has_cuda_compiler || install_list -nvcc
fi
say "ready"
