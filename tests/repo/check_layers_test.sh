#!/usr/bin/env bash
# Tests the checker of the tree: a good tree passes, and each kind of violation is found and named.
set -euo pipefail
check=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../check_layers.sh
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

fail() {
  echo "FAILED: $1"
  failures=$((failures + 1))
}

# A small tree that keeps every rule.
good_tree() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{kernels,io,cache,stream,model,tools,tests/io}
  for folder in kernels io cache stream model tools; do
    printf '#pragma once\n' > "$tree/$folder/$folder.h"
    printf '#include "%s/%s.h"\n' "$folder" "$folder" > "$tree/$folder/$folder.cpp"
    printf 'sluice_library(%s SOURCES %s.cpp)\n' "$folder" "$folder" \
      > "$tree/$folder/CMakeLists.txt"
  done
  printf '#include "io/io.h"\n' > "$tree/tests/io/io_test.cpp"
  printf 'sluice_test(io io sluice::io)\n' > "$tree/tests/io/tests.cmake"
}

# expect_violation <what is wrong> <text that the checker must print>
expect_violation() {
  local output
  if output=$("$check" "$tree"); then
    fail "$1: accepted"
  elif ! grep -qF -- "$2" <<< "$output"; then
    fail "$1: not named; expected '$2' in: $output"
  fi
}

good_tree
if ! output=$("$check" "$tree"); then
  fail "a good tree is refused: $output"
fi

# Every arrow that must not exist.
for edge in kernels:io kernels:model io:kernels io:cache io:tests cache:kernels cache:stream \
            stream:kernels stream:model model:tools tools:tests cache:tests; do
  from=${edge%:*}
  to=${edge#*:}
  good_tree
  printf '#pragma once\n' > "$tree/tests/tests.h"
  printf '#  include "%s/%s.h"\n' "$to" "$to" >> "$tree/$from/$from.cpp"
  expect_violation "$from includes $to" "$from/ may not include \"$to/$to.h\""
done

# Every arrow that must be allowed.
for edge in cache:io stream:io stream:cache model:kernels model:io model:cache model:stream \
            tools:model tools:io; do
  good_tree
  printf '#include "%s/%s.h"\n' "${edge#*:}" "${edge#*:}" >> "$tree/${edge%:*}/${edge%:*}.cpp"
  "$check" "$tree" > /dev/null || fail "$edge is refused"
done

good_tree
printf '#include "io.h"\n' >> "$tree/io/io.cpp"
expect_violation "an include that is not written from the root" 'io/ may not include "io.h"'

good_tree
printf '#include "io/gone.h"\n' >> "$tree/io/io.cpp"
expect_violation "an include of nothing" 'includes "io/gone.h", which does not exist'

good_tree
printf '// %s\n' "$(printf '%0.s≤' {1..97})" >> "$tree/io/io.cpp"
"$check" "$tree" > /dev/null || fail "100 characters of more bytes are refused"
printf '// %s\n' "$(printf '%0.sx' {1..98})" >> "$tree/io/io.cpp"
expect_violation "a line of 101 characters" 'io/io.cpp:3: longer than 100 characters'

good_tree
printf '//\n%.0s' {1..1000} >> "$tree/io/io.cpp"
expect_violation "a file of 1001 lines" 'io/io.cpp: 1001 lines'

good_tree
printf '\n' > "$tree/io/forgotten.cpp"
expect_violation "a source that nothing builds" 'io/forgotten.cpp: in no CMakeLists.txt'

good_tree
printf '\n' > "$tree/tests/io/forgotten_test.cpp"
expect_violation "a test that nothing runs" 'tests/io/forgotten_test.cpp: in no CMakeLists.txt'

good_tree
printf '// %s: later\n' TO''DO >> "$tree/io/io.cpp"
expect_violation "unfinished work" 'io/io.cpp:2: unfinished'

rm -rf "${tree:?}"/*
expect_violation "no tree at all" 'no sources under'

[ $failures -eq 0 ] && echo "all violations found"
exit $((failures > 0))
