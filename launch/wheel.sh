#!/usr/bin/env bash
# Builds aimerge and packs it into a Python wheel in build/packages, for every Python from 3.10 on: the package `aimerge`, the
# program (python -m aimerge), libtorch (CPU) and the other libraries. Made on Debian 12, it runs there, on Debian 13, and on
# Ubuntu 24.04 or newer.
#
# usage: launch/wheel.sh
#
# To install: pip install build/packages/aimerge-*.whl. See docs/python.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { printf 'wheel: %s\n' "$*" >&2; exit 1; }
case "${1:-}" in
    "") ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "launch/${0##*/}"; exit 0 ;;
    *) fail "unknown option '$1'; usage: launch/wheel.sh" ;;
esac

./launch/build.sh cpu
cmake --build --preset cpu --target aimerge_python --parallel "$(nproc)"
mkdir -p build/packages
rm -f build/packages/aimerge-*.whl
build/venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/packages src/python
ls -sh build/packages/aimerge-*.whl
