#!/usr/bin/env bash
# Fails, and names the lines, where a source is not as .clang-format wants it. To mend: --fix.
#
# Versions of clang-format disagree with one another, so only the one that wrote the tree is asked;
# without it the check is skipped aloud (exit 77).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=14
clang_format=
for name in "clang-format-$wanted" clang-format; do
  if command -v "$name" > /dev/null && "$name" --version | grep -qE "version $wanted\\."; then
    clang_format=$name
    break
  fi
done
if [ -z "$clang_format" ]; then
  echo "skipped: clang-format $wanted is not installed"
  exit 77
fi

folders=()
for folder in kernels io cache stream model tools bench tests; do
  [ -d "$folder" ] && folders+=("$folder")
done
mapfile -t sources < <(find "${folders[@]}" -path tests/data -prune -o \
  -type f \( -name '*.cpp' -o -name '*.h' \) -print | sort)

if [ "${1:-}" = --fix ]; then
  "$clang_format" -i "${sources[@]}"
else
  "$clang_format" --dry-run -Werror "${sources[@]}"
fi
echo "${#sources[@]} sources formatted"
