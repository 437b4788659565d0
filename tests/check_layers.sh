#!/usr/bin/env bash
# The rules of the tree that a machine can check. Prints one line per violation; exits 1 if any.
#
#   tests/check_layers.sh [root of a source tree; this one if absent]
#
#   1. Includes follow the arrows: tools -> model -> stream -> cache -> io, and model -> kernels;
#      kernels and io know nobody. No production file includes anything of tests/. Every quoted
#      include is written from the root of the tree, so that these rules can see it.
#   2. Lines are at most 100 characters; files at most 1000 lines.
#   3. No file is dead: every .cpp is named in the CMakeLists.txt or tests.cmake of its folder.
#   4. Nothing is left unfinished in words.
set -euo pipefail
export LC_ALL=C.UTF-8  # so that a dot of a pattern is a character, not a byte
cd "${1:-$(dirname "${BASH_SOURCE[0]}")/..}"

violations=0
violation() {
  echo "$*"
  violations=$((violations + 1))
}

# Runs grep over the files; no match is no error, anything else is.
find_in() {
  local pattern=$1
  shift
  [ $# -gt 0 ] || return 0
  grep -HnE "$pattern" "$@" || [ $? -eq 1 ]
}

# What the files of a folder may include, apart from itself.
allowed_by() {
  case $1 in
    kernels | io) echo "" ;;
    cache) echo "io" ;;
    stream) echo "io cache" ;;
    model) echo "kernels io cache stream" ;;
    tools | bench) echo "kernels io cache stream model tools" ;;
    tests) echo "kernels io cache stream model tools bench" ;;
  esac
}

folders=()
for folder in kernels io cache stream model tools bench tests; do
  [ -d "$folder" ] && folders+=("$folder")
done
mapfile -t sources < <(find "${folders[@]}" -path tests/data -prune -o \
  -type f \( -name '*.cpp' -o -name '*.h' \) -print | sort)
mapfile -t texts < <(find . \
  \( -path ./build -o -path ./.git -o -path ./tests/data -o -path ./tests/fuzz/corpus \) -prune -o \
  -type f \( -name '*.cpp' -o -name '*.h' -o -name '*.sh' -o -name '*.cmake' \
  -o -name 'CMakeLists.txt' -o -path './.ci/*' \) -print | sort)
if [ ${#sources[@]} -eq 0 ]; then
  echo "check_layers.sh: no sources under $PWD"
  exit 1
fi

# 1. Includes.
while IFS=: read -r file line text; do
  from=${file%%/*}
  [[ $text =~ \"([^\"]+)\" ]] || continue
  target=${BASH_REMATCH[1]}
  to=${target%%/*}
  case " $from $(allowed_by "$from") " in
    *" $to "*)
      [ -f "$target" ] || violation "$file:$line: includes \"$target\", which does not exist" ;;
    *)
      violation "$file:$line: $from/ may not include \"$target\"; it may include:" \
        "$from $(allowed_by "$from")"
      ;;
  esac
done < <(find_in '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "${sources[@]}")

# 2. Sizes.
while IFS=: read -r file line _; do
  violation "$file:$line: longer than 100 characters"
done < <(find_in '^.{101,}' "${texts[@]}")
for file in "${texts[@]}"; do
  lines=$(wc -l < "$file")
  [ "$lines" -le 1000 ] || violation "$file: $lines lines; at most 1000, split it"
done

# 3. Dead files. tests/fuzz/CMakeLists.txt takes every fuzz_*.cpp by itself; a test is registered by
# its unit, in the tests.cmake of any folder of tests/.
for file in "${sources[@]}"; do
  folder=$(dirname "$file")
  name=$(basename "$file" .cpp)
  case $file in
    *.h | tests/fuzz/fuzz_*) continue ;;
    tests/*_test.cpp) lists=(tests/*/tests.cmake) name=${name%_test} ;;
    *) lists=("$folder/CMakeLists.txt" "$folder/tests.cmake") ;;
  esac
  if ! grep -qsw "$name" "${lists[@]}"; then
    violation "$file: in no CMakeLists.txt or tests.cmake, so nothing builds it"
  fi
done

# 4. Words. The brackets keep this line from finding itself.
while IFS=: read -r file line text; do
  violation "$file:$line: unfinished: $text"
done < <(find_in '\b([T]ODO|[F]IXME|[X]XX|[H]ACK)\b' "${texts[@]}")

if [ $violations -gt 0 ]; then
  echo "$violations violations"
  exit 1
fi
echo "${#sources[@]} sources and ${#texts[@]} files checked"
