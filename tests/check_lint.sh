#!/usr/bin/env bash
# Runs clang-tidy with the checks of .clang-tidy over the production sources; exits 1 on a finding.
#
#   tests/check_lint.sh <build directory with compile_commands.json> [source...]
#
# Without sources: all of kernels, io, cache, stream, model and tools. Tests are left out, since
# GoogleTest's macros expand to what half of the checks are about.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ $# -lt 1 ] || [ ! -f "$1/compile_commands.json" ]; then
  echo "usage: check_lint.sh <build directory with compile_commands.json> [source...]" >&2
  exit 2
fi
build=$1
shift

sources=("$@")
if [ ${#sources[@]} -eq 0 ]; then
  # Only what that build compiles: what is left out of a build has no flags to be checked with.
  while read -r source; do
    if grep -qF "/$source\"" "$build/compile_commands.json"; then
      sources+=("$source")
    fi
  done < <(find kernels io cache stream model tools -name '*.cpp' | sort)
fi
if [ ${#sources[@]} -eq 0 ]; then
  echo "check_lint.sh: $build compiles no source of this tree" >&2
  exit 2
fi

# -quiet still counts the warnings of system headers on stderr, which nobody acts on.
printf '%s\0' "${sources[@]}" |
  xargs -0 -n 1 -P "$(nproc)" clang-tidy -quiet -p "$build" 2> /dev/null || exit 1
echo "${#sources[@]} sources linted"
