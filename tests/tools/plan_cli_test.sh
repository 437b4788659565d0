#!/usr/bin/env bash
# stream-plan as a user meets it: its verdicts are its exit statuses.
#
#   plan_cli_test.sh PROGRAM MODEL-DIRECTORY DENSE-MODEL-DIRECTORY STREAM-GENERATE
set -euo pipefail
program=$1
model=$2
dense=$3
generate=$4
. "$(dirname "$0")/cli.sh"

verdicts() {
  expect 0 '^verdict: +runs$' --model "$model" --memory-gb 8
  expect 0 '^verdict: +runs$' --model "$dense" --memory-gb 8
  expect 1 '^verdict: +runs badly: .*working set of 2.62 MB.*--cache-budget-gb 0.0053' \
    --model "$model" --memory-gb 8 --cache-budget-gb 0.002
  expect 1 'margin' --model "$model" --memory-gb 0.06
  expect 2 '^verdict: +does not fit: .*below the floor of' \
    --model "$model" --memory-gb 8 --cache-budget-gb 0.0001
  expect 2 '^verdict: +does not fit: not enough memory.*Even at the least' \
    --model "$model" --memory-gb 0.01
  # What would fit according to the message does.
  local least
  least=$(grep -oE 'needs [0-9.]+ MB' "$work/out" | grep -oE '[0-9.]+')
  least=$(awk "BEGIN { print ($least + 0.1) / 1000 }")  # as it was rounded
  expect 1 'runs badly' --model "$model" --memory-gb "$least"
}

figures() {
  expect 0 '8 layers of 64, 8 per token; 2.56 MB a layer, 39.9 kB each' --model "$model" \
    --memory-gb 8
  expect 0 'reads: +1.31 MB a token at a hit rate of 50.0 % .given.: the disk allows 76 tok/s' \
    --model "$model" --memory-gb 8 --hit-rate 0.5 --disk-mb-s 100
  # Twice the context is twice the keys and values; float32 ones are twice as large.
  expect 0 'KV cache: +4.20 MB for a context of 1024' --model "$model" --memory-gb 8 --context 1024
  expect 0 'KV cache: +8.39 MB for a context of 1024' --model "$model" --memory-gb 8 \
    --context 1024 --compute f32
  expect 0 '"verdict": "runs"' --model "$model" --memory-gb 8 --json
  python3 - "$work/out" << 'CHECK' || fail "the JSON"
import json, sys
plan = json.load(open(sys.argv[1]))
parts = plan["plan"]
total = sum(parts[k + "_bytes"] for k in ("process", "trunk", "kv", "scratch", "cache"))
assert total == parts["total_bytes"], (total, parts)
assert plan["experts"]["layer_bytes"] * plan["experts"]["layers"] == parts["expert_total_bytes"]
assert plan["memory"] == {"usable_bytes": 8000000000, "pretended": True}
CHECK
  expect 0 '"experts": null' --model "$dense" --memory-gb 8 --json
}

# A replayed trace gives the hits of the run that recorded it.
replayed() {
  "$generate" --model "$model" --prompt-ids 5 --print-ids --max-tokens 30 --ignore-eos --temp 0 \
    --cache-budget-gb 0.006 --trace "$work/trace" --stats-json "$work/stats.json" \
    > /dev/null 2> "$work/err"
  expect 0 '^reads: .* at a hit rate of .* \(trace of 29 tokens; at best [0-9.]+ %\)' \
    --model "$model" --memory-gb 8 --cache-budget-gb 0.006 --trace "$work/trace"
  expect 0 '"optimal_hit_rate": 0\.' --model "$model" --memory-gb 8 --cache-budget-gb 0.006 \
    --trace "$work/trace" --json
  python3 - "$work/out" "$work/stats.json" << 'CHECK' || fail "hits unlike those of the run"
import json, sys
plan, run = (json.load(open(path)) for path in sys.argv[1:])
# The prompt's one token was in the cache of the run and is not in the trace.
assert abs(plan["reads"]["hit_rate"] - run["hit_rate"]) < 0.05, (plan["reads"], run["hit_rate"])
assert plan["reads"]["hit_rate"] <= plan["reads"]["optimal_hit_rate"] < 1
CHECK
  : > "$work/empty"
  expect 3 'empty' --model "$model" --trace "$work/empty"
  expect 3 'excludes' --model "$model" --trace "$work/trace" --hit-rate 0.5
}

no_plan() {
  expect 3 'model is required' --memory-gb 1
  expect 3 'expected a number' --model "$model" --hit-rate 2
  expect 3 'expected a number' --model "$model" --memory-gb -1
  expect 3 'nowhere' --model "$work/nowhere"
  expect 3 'max_position_embeddings' --model "$model" --context 99999999
  expect 0 'Exit status: 0 runs' --help
  expect 0 '^stream-plan [0-9]' --version
}

verdicts
figures
replayed
no_plan

finish
