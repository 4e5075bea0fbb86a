#!/usr/bin/env bash
# Builds aimerge for ARM64 on an x86-64 machine with Debian 12, and tests it with qemu-user: every method merges to the bytes
# that the x86-64 build writes. Measuring activations is built, but not run: libtorch does not start under qemu-user.
#
# usage: launch/cross_arm64.sh [--build-only]
#
# Needs root (or sudo), the x86-64 build (launch/build.sh), and 3 GB in build/arm64.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly target="$PWD/build/arm64" sysroot="$PWD/build/arm64/sysroot" release=bookworm
readonly compiler=(g++-aarch64-linux-gnu debootstrap qemu-user-static)
readonly packages=(libc6-dev libstdc++-12-dev libopenmpi-dev libhdf5-dev libyaml-cpp-dev libfmt-dev libspdlog-dev libcli11-dev
    nlohmann-json3-dev libxxhash-dev libzstd-dev zlib1g-dev libsentencepiece-dev libprotobuf-dev)

say() { printf 'cross_arm64: %s\n' "$*"; }
fail() { printf 'cross_arm64: %s\n' "$*" >&2; exit 1; }

tests=yes
case "${1:-}" in
    "") ;;
    --build-only) tests=no ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
    *) fail "unknown option '$1'; usage: launch/cross_arm64.sh [--build-only]" ;;
esac
grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release || fail "made for Debian 12, whose compiler fits its libraries for ARM64"
as_root=()
if ((EUID != 0)); then as_root=(sudo); fi

install_compiler() {
    dpkg-query -W "${compiler[@]}" &> /dev/null && return
    say "installing ${compiler[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${compiler[@]}" > /dev/null
}

# The libraries' packages, unpacked: nothing of them is run. In one of the folders only, usr, as in an installed system, and with
# links that lead out of it made relative.
make_sysroot() {
    [[ -e $sysroot/.complete ]] && return
    say "fetching the libraries for ARM64"
    local IFS=, downloads="$target/packages" package link
    rm -rf "$sysroot" "$downloads"
    mkdir -p "$sysroot/usr/lib" "$sysroot/usr/bin" "$sysroot/usr/sbin" "$downloads"
    for link in lib bin sbin; do ln -s "usr/$link" "$sysroot/$link"; done
    "${as_root[@]}" debootstrap --foreign --arch=arm64 --variant=minbase --include="${packages[*]}" \
        "$release" "$downloads" > "$target/debootstrap.log" 2>&1 || fail "debootstrap failed; see $target/debootstrap.log"
    for package in "$downloads"/var/cache/apt/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$sysroot" --keep-directory-symlink --exclude './dev/*'
    done
    while IFS= read -r link; do
        ln -sfn --relative "$sysroot$(readlink "$link")" "$link"
    done < <(find "$sysroot/usr/lib" -type l -lname '/*')
    "${as_root[@]}" rm -rf "$downloads"
    touch "$sysroot/.complete"
}

# The wheels for ARM64 of what launch/setup.sh installs.
add_libtorch() {
    [[ -e $sysroot/opt/torch/.complete ]] && return
    say "fetching libtorch for ARM64"
    local wheels="$target/wheels" wheel
    build/venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_25_aarch64 --platform manylinux_2_17_aarch64 \
        --platform manylinux2014_aarch64 -r src/tools/requirements-libtorch.txt --dest "$wheels"
    for wheel in "$wheels"/*.whl; do
        build/venv/bin/python -m zipfile --extract "$wheel" "$sysroot/opt"
    done
    rm -rf "$wheels"
    touch "$sysroot/opt/torch/.complete"
}

install_compiler
mkdir -p "$target"
make_sysroot
add_libtorch
say "configuring build/arm64"
cmake -S . -B "$target" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_UNITY_BUILD=ON \
    -DCMAKE_TOOLCHAIN_FILE="$PWD/src/cmake/arm64.cmake" \
    -DAIMERGE_TESTS=OFF -DAIMERGE_BENCH=OFF -DAIMERGE_WERROR=ON > "$target/configure.log" 2>&1 ||
    { cat "$target/configure.log" >&2; exit 1; }
say "compiling with $(nproc) jobs"
cmake --build "$target" --target aimerge --parallel "$(nproc)"
if [[ $tests == yes ]]; then ctest --preset cpu --label-regex arm64; fi
