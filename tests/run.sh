#!/usr/bin/env bash
# Builds everything in Release and runs the tests. Installs what is missing first (Debian; root or
# sudo). Arguments go to ctest: tests/run.sh -L cache
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/install_dependencies.sh build tests

cmake --preset release
cmake --build --preset release
ctest --preset release "$@"
