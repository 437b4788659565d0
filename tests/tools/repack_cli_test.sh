#!/usr/bin/env bash
# stream-repack as a user meets it: the same text from what it wrote, messages, and what is left of
# a run that was killed.
#
#   repack_cli_test.sh STREAM-REPACK STREAM-GENERATE MODEL-DIRECTORY
set -euo pipefail
repack=$1
generate=$2
model=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "FAILED: $1"
  sed 's/^/  stderr: /' "$work/err"
  failures=$((failures + 1))
}

# expect STATUS PATTERN ARGUMENT...: runs stream-repack; its standard error must match the pattern.
expect() {
  local status=$1 pattern=$2 got=0
  shift 2
  "$repack" "$@" > "$work/text" 2> "$work/err" < /dev/null || got=$?
  [ "$got" -eq "$status" ] || fail "status $got, expected $status: $*"
  grep -qE -- "$pattern" "$work/err" || fail "standard error has no '$pattern': $*"
  [ ! -s "$work/text" ] || fail "text on standard output: $*"
}

wrong_usage() {
  expect 2 'model is required'
  expect 2 'out is required' --model "$model"
  expect 2 'expected an integer' --model "$model" --out "$work/x" --threads 0
  expect 2 'expected a number' --model "$model" --out "$work/x" --memory-gb nan
  expect 1 'config.json' --model "$work/nowhere" --out "$work/x"
  expect 1 'perm.json' --model "$model" --out "$work/x" --perm "$work/perm.json"
  expect 1 'exists already' --model "$model" --out "$work"
  "$repack" --help | grep -- '--verify' > /dev/null || fail "--help says nothing of --verify"
}

text_of() {
  "$generate" --model "$1" --prompt 'Once upon a time' --max-tokens 12 --temp 0 --threads 1 \
    --cache-budget-gb "$2" 2> "$work/err"
}

same_text() {
  expect 0 '512 records' --model "$model" --out "$work/records" --verify
  local expected
  expected=$(text_of "$model" all) || fail "generating from the source"
  for budget in all 0.005; do
    [ "$(text_of "$work/records" "$budget")" = "$expected" ] || fail "another text, budget $budget"
  done
}

# At any moment a killed run has left a finished model, or none and nothing that loads.
killed() {
  local out="$work/killed" delay
  for delay in 0.01 0.05 0.1 0.2 0.4; do
    "$repack" --model "$model" --out "$out" --verify > /dev/null 2>&1 < /dev/null &
    sleep "$delay"
    kill -KILL $! 2> /dev/null || true
    wait $! 2> /dev/null || true
    if [ -e "$out" ]; then
      diff -r "$work/records" "$out" || fail "what a run killed after $delay s finished differs"
      rm -r "$out"
    elif [ -e "$out.unfinished/config.json" ]; then  # written last: all of it is there
      diff -r -x .sluice-unfinished "$work/records" "$out.unfinished" ||
        fail "what a run killed after $delay s left is loaded and differs"
    elif text_of "$out.unfinished" all > /dev/null; then
      fail "what a run killed after $delay s left is loaded"
    fi
  done
  expect 0 'records' --model "$model" --out "$out"
  diff -r "$work/records" "$out" || fail "a run after killed ones wrote something else"
  [ ! -e "$out.unfinished" ] || fail "what killed runs left is still there"
}

wrong_usage
same_text
killed
[ "$failures" -eq 0 ] || exit 1
