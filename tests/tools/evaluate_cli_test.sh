#!/usr/bin/env bash
# stream-evaluate as a user meets it: figures, comparisons, messages, and what goes to which stream.
#
#   evaluate_cli_test.sh PROGRAM MODEL-DIRECTORY OTHER-TOKENIZER-DIRECTORY
set -euo pipefail
program=$1
model=$2
other_tokenizer=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "FAILED: $1"
  sed 's/^/  stderr: /' "$work/err"
  sed 's/^/  stdout: /' "$work/out"
  failures=$((failures + 1))
}

# expect STATUS PATTERN ARGUMENT...: runs the program; its standard error must match the pattern.
expect() {
  local status=$1 pattern=$2 got=0
  shift 2
  "$program" "$@" > "$work/out" 2> "$work/err" < /dev/null || got=$?
  [ "$got" -eq "$status" ] || fail "status $got, expected $status: $*"
  [ -z "$pattern" ] || grep -qE -- "$pattern" "$work/err" ||
    fail "standard error has no '$pattern': $*"
}

out_has() {
  grep -qE -- "$1" "$work/out" || fail "standard output has no '$1'"
}

# field FILE N KEY: the value of a key in the Nth result.
field() {
  grep -E "^      \"$3\":" "$1" | sed -n "$2p" | sed -E 's/^[^:]*: "?([^",]*)"?,?$/\1/'
}

for i in 1 2 3 4 5 6 7 8; do
  echo "Once upon a time there was a little girl who lived near the forest with her mother."
  echo "The king of the mountain had $i sons, and the youngest of them was sent out to see the sea."
done > "$work/text"
few=(--file "$work/text" --context 64 --max-windows 3 --threads 1 --scratch "$work")

wrong_usage_and_input() {
  expect 2 'model is required' --file "$work/text"
  expect 2 'expected int16, f32' --model "$model" --file "$work/text" --compute int8
  expect 0 '' --help
  out_has 'llama.cpp'
  expect 0 '' --version
  out_has '^stream-evaluate [0-9]+\.[0-9]+\.[0-9]+$'
  expect 1 '^stream-evaluate: .*nowhere' --model "$model" --file "$work/nowhere"
  expect 1 'nowhere' --model "$work/nowhere" "${few[@]}"
  expect 1 'less than one window of 2000' --model "$model" --file "$work/text" --context 2000
  expect 1 'max_position_embeddings|less than one window' --model "$model" --file "$work/text" \
    --context 4000
  printf '\xff\xfe' > "$work/binary"
  expect 1 'not valid UTF-8' --model "$model" --file "$work/binary"
  expect 1 'nowhere: no temporary file' --model "$model" --reference "$model" \
    --file "$work/text" --context 64 --scratch "$work/nowhere"
  mkdir "$work/other"
  ln -s "$(realpath "$model")"/* "$work/other"
  rm "$work/other/tokenizer.json"
  ln -s "$(realpath "$other_tokenizer")/tokenizer.json" "$work/other"
  expect 1 'as other tokens than the reference' --model "$work/other" --reference "$model" \
    "${few[@]}"
  expect 1 'nowhere/x.json' --model "$model" "${few[@]}" --json "$work/nowhere/x.json"
}

# A model is no distance from itself, whatever the budget; perplexity does not move either.
itself() {
  expect 0 'the logits of 93 positions take 3.05 MB' --reference same="$model" --model a="$model" \
    --reference-compute int16 "${few[@]}" --cache-budget-gb 0.001 --json "$work/itself.json"
  out_has '^model +compute +file +windows +perplexity'
  out_has '^same +int16 +text +3 .* reference$'
  out_has '^a +int16 +text +3 .* \+0\.00 % +0\.00 +0\.000000 +0\.00000 +100\.00 %$'
  [ "$(field "$work/itself.json" 1 perplexity)" = "$(field "$work/itself.json" 2 perplexity)" ] ||
    fail "two perplexities of one model"
  [ "$(field "$work/itself.json" 2 scored_tokens)" = 93 ] || fail "not 93 scored tokens"
  [ -z "$(find "$work" -name 'sluice-logits*')" ] || fail "the scratch file is still there"

  # The same from another budget, backend, chunk and thread count.
  expect 0 '' --model "$model" --file "$work/text" --context 64 --max-windows 3 --threads 2 \
    --cache-budget-gb all --io-backend pread --prefill-chunk 5 --json "$work/again.json"
  [ "$(field "$work/again.json" 1 perplexity)" = "$(field "$work/itself.json" 1 perplexity)" ] ||
    fail "the perplexity depends on how it is run"
}

settings() {
  cp "$work/text" "$work/second"
  expect 0 '' --model m="$model" --compute int16,f32 "${few[@]}" --file "$work/second" \
    --json "$work/settings.json"
  [ "$(wc -l < "$work/out")" -eq 5 ] || fail "not a header and four rows"
  out_has '^m +f32 +second +3 '
  # Float32 and int16 agree closely and not exactly.
  local int16 f32
  int16=$(field "$work/settings.json" 1 perplexity)
  f32=$(field "$work/settings.json" 3 perplexity)
  awk -v a="$int16" -v b="$f32" 'BEGIN { d = a / b - 1; exit !(d != 0 && d * d < 1e-4) }' ||
    fail "perplexity $int16 in int16 and $f32 in f32"
  expect 0 '' --model m="$model" --reference m="$model" "${few[@]}" --json "$work/kl.json"
  out_has '^worst token of m int16: ".*" at token [0-9]+ of text, KL '
  grep -q '"percentile_99": ' "$work/kl.json" || fail "no percentile in the JSON"
  # The ratio is that of the two perplexities, and known better than either.
  awk -v a="$(field "$work/kl.json" 1 perplexity)" -v b="$(field "$work/kl.json" 2 perplexity)" \
    -v e="$(field "$work/kl.json" 2 perplexity_error)" \
    -v r="$(sed -nE 's/.*"perplexity_ratio": ([0-9.]+),/\1/p' "$work/kl.json")" \
    -v re="$(sed -nE 's/.*"perplexity_ratio_error": ([0-9.]+),/\1/p' "$work/kl.json")" \
    'BEGIN { d = b / a - r; exit !(r > 0 && d * d < 1e-18 && re > 0 && re < e / b) }' ||
    fail "the ratio of the perplexities"
  expect 0 '' --model m="$model" "${few[@]}" --stride 16 --json "$work/stride.json"
  [ "$(field "$work/stride.json" 1 scored_tokens)" = 48 ] || fail "not three windows of 16 tokens"
}

# A signal in the middle: the windows that are complete are reported, the status is 130.
interrupted() {
  local got=0 process
  for _ in $(seq 60); do cat "$work/text"; done > "$work/long"
  "$program" --model "$model" --file "$work/long" --context 64 --threads 1 \
    --json "$work/stopped.json" > "$work/out" 2> "$work/err" &
  process=$!
  # The first sign of progress comes after a second at the earliest: windows are complete then.
  for _ in $(seq 600); do
    grep -q 'tokens, ' "$work/err" && break
    sleep 0.1
  done
  kill -INT "$process"
  wait "$process" || got=$?
  [ "$got" -eq 130 ] || fail "status $got after SIGINT, expected 130"
  out_has '[0-9]+ of [0-9]+ +[0-9]+\.[0-9]+'
  grep -q '"interrupted": true' "$work/stopped.json" || fail "no results after SIGINT"
}

wrong_usage_and_input
itself
settings
interrupted

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "all as expected"
