#!/usr/bin/env bash
# Builds aimerge and packs it into build/packages: a .tar.gz, and a .deb with the same files. Both bring libtorch (CPU) and other
# libraries along, though not MPI. Made on Debian 12, they run there, on Debian 13, and on Ubuntu 24.04 or newer.
#
# usage: launch/package.sh [--check]
#   --check  also makes the Python wheel (launch/wheel.sh), and installs it and the .deb in fresh roots of Debian and Ubuntu (made by
#            debootstrap in build/roots, kept as a cache), where they measure, merge and report; needs root and a network
#
# To install: apt-get install ./aimerge_*.deb, or unpack the .tar.gz anywhere. See docs/installing.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'package: %s\n' "$*" >&2; exit 1; }
check=no
case "${1:-}" in
    "") ;;
    --check) check=yes ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
    *) fail "unknown option '$1'; usage: launch/package.sh [--check]" ;;
esac

grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release ||
    fail "packages are made on Debian 12, whose glibc is old enough for the others; for this machine alone use cmake --install"
./launch/build.sh cpu
rm -rf build/packages
cpack --config build/cpu/CPackConfig.cmake > build/cpu/package.log 2>&1 || { cat build/cpu/package.log >&2; exit 1; }
rm -rf build/packages/_CPack_Packages
ls -sh build/packages
if [[ $check == yes ]]; then
    command -v debootstrap > /dev/null || fail "--check needs debootstrap: apt-get install debootstrap"
    ./launch/wheel.sh
    ctest --preset cpu --label-regex package --verbose
fi
