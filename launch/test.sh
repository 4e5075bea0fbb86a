#!/usr/bin/env bash
# Sets the machine up, builds with warnings as errors and runs every test.
#
# usage: launch/test.sh [--quick]
#   --quick  without the system tests, which run whole commands on a real model
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=no
case "${1:-}" in
    "") ;;
    --quick) quick=yes ;;
    *) printf "test: unknown option '%s'; usage: launch/test.sh [--quick]\n" "$1" >&2; exit 1 ;;
esac

./launch/setup.sh --test
./launch/build.sh cpu -DAIMERGE_WERROR=ON
cmake --build --preset cpu --parallel "$(nproc)"
selection=()
if [[ $quick == yes ]]; then
    selection=(--label-exclude system)
else
    build/venv/bin/python src/tools/make_family.py build/family --downloads build/downloads
fi
ctest --preset cpu --parallel "$(nproc)" "${selection[@]}"
