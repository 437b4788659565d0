#!/usr/bin/env bash
# stream-calibrate as a user meets it: every command on a model, kills and resumes, and messages.
#
#   calibrate_test.sh STREAM-CALIBRATE STREAM-GENERATE MODEL-DIRECTORY
set -euo pipefail
program=$1
generate=$2
model=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
failures=0

fail() {
  echo "FAILED: $1"
  sed 's/^/  stderr: /' err
  failures=$((failures + 1))
}

# expect STATUS PATTERN ARGUMENT...: standard error must match the pattern.
expect() {
  local status=$1 pattern=$2 got=0
  shift 2
  "$program" "$@" > out 2> err < /dev/null || got=$?
  [ "$got" -eq "$status" ] || fail "status $got, expected $status: $*"
  [ -z "$pattern" ] || grep -qE -- "$pattern" err || fail "standard error has no '$pattern': $*"
}

printf '%s\n' 'Once upon a time' 'The cat' '{"prompt": "A dog and\na bird"}' 'One day' > prompts
collect=(collect --model "$model" --prompts prompts --tokens 12 --threads 1 --cache-budget-gb 0.005)

collects_and_goes_on_after_a_kill() {
  expect 0 '' "${collect[@]}" --out whole.jsonl
  [ ! -e whole.jsonl.parts ] || fail "parts left behind"
  expect 1 'is there already' "${collect[@]}" --out whole.jsonl

  # Killed once the first part is there; the next run goes on and comes to the same.
  "$program" "${collect[@]}" --out killed.jsonl > out 2> err &
  local process=$!
  while kill -0 $process 2> /dev/null && [ ! -e killed.jsonl.parts/prompt-0.jsonl ]; do
    sleep 0.01
  done
  kill -KILL $process 2> /dev/null || true
  wait $process 2> /dev/null || true
  if [ -e killed.jsonl.parts ]; then
    expect 1 'parts of a run with' collect --model "$model" --prompts prompts --tokens 13 \
      --out killed.jsonl
    expect 0 '' "${collect[@]}" --out killed.jsonl
  fi
  cmp -s whole.jsonl killed.jsonl || fail "a resumed trace differs from one in one go"
}

merges() {
  expect 0 '' merge whole.jsonl killed.jsonl --out merged.jsonl
  [ "$(grep -c sluice_trace merged.jsonl)" -eq 1 ] || fail "a merged trace says its facts twice"
  [ "$(grep -c '^\[' merged.jsonl)" -eq $((2 * $(grep -c '^\[' whole.jsonl))) ] ||
    fail "a merged trace has not all records"
  grep -v sluice_trace whole.jsonl > plain.jsonl
  expect 1 'not of the same model' merge whole.jsonl plain.jsonl --out no.jsonl
  [ ! -e no.jsonl ] || fail "a failed merge left a file"
  expect 1 'no/such.jsonl' merge whole.jsonl no/such.jsonl --out no.jsonl
}

analyzes_and_pins() {
  expect 0 '' analyze whole.jsonl --pin-share 0.1 --pin-out pin.json --perm-out perm.json
  expect 1 'give --model' analyze plain.jsonl --pin-out p.json
  expect 0 '' analyze plain.jsonl --model "$model" --pin-share 0.1 --pin-out pin2.json
  cmp -s pin.json pin2.json || fail "the plain trace gives other pins"
  run=("$generate" --model "$model" --prompt 'Once upon a time' --max-tokens 8 --temp 0
       --threads 1 --cache-budget-gb 0.005)
  "${run[@]}" > plain.txt 2> err || fail "the plain run failed"
  "${run[@]}" --pin-file pin.json > pinned.txt 2> err || fail "the run with pins failed"
  cmp -s plain.txt pinned.txt || fail "pins changed the output"
  grep -qE '^pins: 51 of 51 experts of pin.json kept, .* of uses found them$' err ||
    fail "the summary says nothing of the pins"
  "${run[@]}" --policy lfru > lfru.txt 2> err || fail "the run with lfru failed"
  cmp -s plain.txt lfru.txt || fail "a policy changed the output"
}

simulates_and_reports() {
  expect 0 '' simulate whole.jsonl --json sweep.json
  grep -q 'recommended: --cache-budget-gb' out || fail "no budget recommended"
  grep -q '"policy": "optimal"' sweep.json || fail "no optimum in the JSON"
  expect 0 '' simulate whole.jsonl killed.jsonl --pin-file pin.json --policy lru --budget-gb 0.01
  expect 1 'below the floor' simulate whole.jsonl --budget-gb 0.0001
  expect 0 '' report whole.jsonl --out report.html
  grep -q '</html>' report.html || fail "the report has no end"
  expect 1 'no/dir' report whole.jsonl --out no/dir/report.html
}

messages() {
  expect 2 'subcommand is required' --
  expect 1 'line 1' simulate prompts --model "$model"
  echo '[99, [0]]' > other.jsonl
  expect 1 'layer 99' simulate other.jsonl --model "$model"
  : > empty.jsonl
  expect 1 'no records' simulate empty.jsonl --model "$model"
  expect 1 'prompts-missing' collect --model "$model" --prompts prompts-missing --out x.jsonl
}

collects_and_goes_on_after_a_kill
merges
analyzes_and_pins
simulates_and_reports
messages
if [ $failures -gt 0 ]; then
  echo "$failures failures"
  exit 1
fi
