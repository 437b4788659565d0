#!/usr/bin/env bash
# stream-generate as a user meets it: exit statuses, messages, and what goes to which stream.
#
#   cli_test.sh PROGRAM MODEL-DIRECTORY
set -euo pipefail
program=$1
model=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "FAILED: $1"
  sed 's/^/  stderr: /' "$work/err"
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

# An error is one line that begins with the program's name, and nothing goes to standard output.
expect_error() {
  expect "$@"
  [ "$(grep -c '' "$work/err")" -le 2 ] || fail "an error of more than two lines"
  grep -q '^stream-generate: ' "$work/err" || fail "an error without the program's name"
  [ ! -s "$work/out" ] || fail "an error with text on standard output"
}

out_is() {
  [ "$(cat "$work/out")" = "$1" ] || fail "standard output is '$(cat "$work/out")', expected '$1'"
}

# A copy of the model's directory whose files are links, to be spoiled.
copy_model() {
  rm -rf "$work/model"
  mkdir "$work/model"
  ln -s "$(realpath "$model")"/* "$work/model"
}

# Every option may be given once, so what some tests vary stands apart.
any_budget=(--model "$model" --threads 1 --temp 0)
run=("${any_budget[@]}" --cache-budget-gb 0.005)

wrong_usage() {
  expect_error 2 'model is required'
  expect_error 2 'exactly one of --prompt' --model "$model"
  expect_error 2 'exactly one of --prompt' --model "$model" --prompt a --prompt-ids 1
  expect_error 2 'not-an-option' --model "$model" --prompt a --not-an-option
  expect_error 2 'expected an integer' --model "$model" --prompt a --top-k many
  expect_error 2 'expected auto\|io_uring\|pread' --model "$model" --prompt a --io-backend x
  expect_error 2 'cache budget "x"' --model "$model" --prompt a --cache-budget-gb x
  expect 0 '' --help
  grep -q -- '--cache-budget-gb' "$work/out" || fail "--help says nothing of the budget"
  expect 0 '' --version
  grep -qE '^stream-generate [0-9]+\.[0-9]+\.[0-9]+$' "$work/out" || fail "--version is no version"
}

wrong_input() {
  expect_error 1 'nowhere/config.json: no such file' --model "$work/nowhere" --prompt a
  expect_error 1 'no-file: cannot be opened: No such file' "${run[@]}" --prompt-file "$work/no-file"
  expect_error 1 'not valid UTF-8' "${run[@]}" --prompt $'\xff\xfe bad'
  expect_error 1 'not valid UTF-8' "${run[@]}" --prompt-file <(printf 'cut \xc3')
  expect_error 1 '"x" at byte 2 is no token id' "${run[@]}" --prompt-ids <(echo 1,x)
  expect 1 'outside the .*vocabulary' "${run[@]}" --prompt-ids 1,99999999
  expect 1 'no tokens' "${run[@]}" --prompt-ids ,
  expect 1 'below the floor' "${any_budget[@]}" --prompt a --cache-budget-gb 0.000001
  expect_error 1 'max_position_embeddings' "${run[@]}" --prompt a --context 99999999
  expect 1 'raise --context' "${run[@]}" --prompt-ids 1,2,3,4,5 --context 4
  expect 1 'nowhere/logits.*cannot' "${run[@]}" --prompt a --dump-logits "$work/nowhere/logits"

  copy_model
  rm "$work/model/config.json"
  echo '{"model_type": "other"}' > "$work/model/config.json"
  expect_error 1 'model_type is "other"; known are' --model "$work/model" --prompt a
  echo '{' > "$work/model/config.json"
  expect_error 1 'config.json: not valid JSON' --model "$work/model" --prompt a

  copy_model
  rm "$work/model/tokenizer.json"
  expect_error 1 'tokenizer.json' --model "$work/model" --prompt a
  expect_error 1 'tokenizer.json' --model "$work/model" --prompt-ids 1
  mkdir "$work/model/tokenizer.json"
  expect_error 1 'tokenizer.json' --model "$work/model" --prompt a
  rmdir "$work/model/tokenizer.json"
  mkfifo "$work/model/tokenizer.json"
  expect_error 1 'tokenizer.json' --model "$work/model" --prompt a
  rm "$work/model/tokenizer.json"
  expect 0 '^streaming: ' --model "$work/model" --prompt-ids 1,2,3 --print-ids --max-tokens 2

  copy_model
  rm "$work"/model/*.safetensors
  expect_error 1 "$work/model" --model "$work/model" --prompt a
}

ordinary_runs() {
  expect 0 '^stopped: as many tokens as asked for; seed 5$' \
    "${run[@]}" --prompt "Once upon a time" --max-tokens 24 --seed 5
  head -n 1 "$work/err" | grep -q '^streaming: ' || fail "the first line is not about streaming"
  grep -q '^experts: hit rate' "$work/err" || fail "the summary has no hit rate"
  local text
  text=$(cat "$work/out")
  [ -n "$text" ] || fail "no text"

  # The same text whatever the budget and the way of reading.
  expect 0 'all experts resident' "${any_budget[@]}" --cache-budget-gb all \
    --prompt "Once upon a time" --max-tokens 24
  out_is "$text"
  expect 0 'pread' "${run[@]}" --prompt "Once upon a time" --max-tokens 24 --io-backend pread \
    --prefill-chunk 1
  out_is "$text"
  printf 'Once upon a time' > "$work/prompt"
  expect 0 '' "${run[@]}" --prompt-file "$work/prompt" --max-tokens 24
  out_is "$text"

  # Ids on one line, as many as were asked for; --max-tokens 0 only computes the prompt.
  expect 0 '' "${run[@]}" --prompt-ids '1 2,3' --print-ids --max-tokens 5 --ignore-eos
  grep -qE '^[0-9]+(,[0-9]+){4}$' "$work/out" || fail "no five ids: $(cat "$work/out")"
  expect 0 '^decode: 0 tokens' "${run[@]}" --prompt a --max-tokens 0
  out_is ''

  # A stop text never appears, and what comes before it does.
  local stop=${text:10:4}
  expect 0 '^stopped: stop text' "${run[@]}" --prompt "Once upon a time" --stop "$stop"
  out_is "${text%%"$stop"*}"
}

files_written() {
  expect 0 '' "${run[@]}" --prompt-ids 1,2,3 --print-ids --max-tokens 4 --ignore-eos \
    --dump-logits "$work/logits.safetensors" --stats-json "$work/stats.json"
  grep -q '"prompt_tokens": 3,' "$work/stats.json" || fail "stats without the prompt's length"
  grep -q '"generated_tokens": 4,' "$work/stats.json" || fail "stats without the tokens"
  # Three positions of the prompt and three generated tokens that were fed back.
  head -c 400 "$work/logits.safetensors" | grep -qa '"shape":\[6,' || fail "not six positions"
  expect 1 'full' "${run[@]}" --prompt-ids 1 --print-ids --max-tokens 1 --stats-json /dev/full/x
}

first_line_is() {
  [ "$(head -n 1 "$work/err")" = "$1" ] || fail "the first line is not '$1'"
}

# The demo model with a chat template, and with a tokenizer that begins texts with a token itself.
chat_models() {
  copy_model
  local chat=(--model "$work/model" --cache-budget-gb 0.005 --threads 1 --temp 0 --max-tokens 12)
  local begins='{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>",
    "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens":
    {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}}'
  rm "$work/model/tokenizer.json" "$work/model/tokenizer_config.json"
  sed "s/\"post_processor\": null/\"post_processor\": ${begins//$'\n'/}/" \
    "$model/tokenizer.json" > "$work/model/tokenizer.json"
  echo '{"bos_token": {"content": "<|endoftext|>"}}' > "$work/model/tokenizer_config.json"
  cat > "$work/model/chat_template.jinja" <<'END'
{{ bos_token }}{% for m in messages %}{% if m.role == 'system' and terse %}
{{ raise_exception('No system message, please.') }}{% endif %}
{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}
{{ '<|im_start|>assistant\n' + ('<think>' if enable_thinking else '') }}
END
  # Special tokens are tokens, and the text begins with one token, not two.
  expect 0 '' "${chat[@]}" --prompt-ids 0,1 --stats-json "$work/stats.json"
  grep -q 'chat template' "$work/err" && fail "a word of the template with --prompt-ids"
  expect 0 '' "${chat[@]}" --prompt Hi --system Brief --stats-json "$work/stats.json"
  first_line_is "chat template: applied, from $work/model/chat_template.jinja"
  local text tokens
  text=$(cat "$work/out")
  tokens=$(grep '"prompt_tokens"' "$work/stats.json")
  local rendered=$'<|im_start|>system\nBrief<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n'
  rendered+=$'<|im_start|>assistant\n'
  expect 0 '' "${chat[@]}" --no-chat-template --prompt "$rendered" --stats-json "$work/stats.json"
  first_line_is 'chat template: not applied'
  out_is "$text"
  [ "$(grep '"prompt_tokens"' "$work/stats.json")" = "$tokens" ] || fail "not $tokens"
  printf 'Hi' > "$work/prompt"
  expect 0 '' "${chat[@]}" --prompt-file "$work/prompt" --system Brief
  out_is "$text"

  expect 0 '' "${chat[@]}" --prompt Hi --chat-template-kwargs '{"enable_thinking": true}' \
    --stats-json "$work/stats.json"
  expect_error 1 'refuses this input: No system message, please.; --no-chat-template' \
    "${chat[@]}" --prompt Hi --system a --chat-template-kwargs '{"terse": 1}'
  expect_error 2 'not valid JSON' "${chat[@]}" --prompt Hi --chat-template-kwargs '{'
  expect_error 2 'expected a JSON object' "${chat[@]}" --prompt Hi --chat-template-kwargs '[1]'
  expect_error 2 'for the chat template' "${chat[@]}" --prompt Hi --system a --no-chat-template
  expect_error 2 'for the chat template' "${chat[@]}" --prompt-ids 1 --system a
  echo '{{ ' > "$work/model/chat_template.jinja"
  expect_error 1 'chat_template.jinja: line 1: .*--no-chat-template' "${chat[@]}" --prompt Hi
  expect_error 1 'no chat template, which --system' "${run[@]}" --prompt Hi --system a
}

# A reader that leaves ends the program quietly; so does nothing else.
closed_output() {
  local statuses
  set +e
  "$program" "${run[@]}" --prompt a --ignore-eos --max-tokens 2000 2> "$work/err" |
    head -c 1 > /dev/null
  statuses=("${PIPESTATUS[@]}")
  set -e
  [ "${statuses[0]}" -eq 0 ] || fail "status ${statuses[0]} after the reader left"
  grep -q '^stream-generate: ' "$work/err" && fail "an error after the reader left"
  if [ -w /dev/full ]; then
    local got=0
    "$program" "${run[@]}" --prompt a --max-tokens 9 > /dev/full 2> "$work/err" || got=$?
    [ "$got" -eq 1 ] || fail "status $got on a full disk, expected 1"
    grep -q 'standard output cannot be written' "$work/err" || fail "no word of the full disk"
  fi
}

# A signal in mid-text: the token is finished, the summary printed, the status 130.
interrupted_by() {
  local got=0 process
  mkfifo "$work/fifo"
  "$program" "${run[@]}" --prompt a --ignore-eos --max-tokens 2000 \
    --stats-json "$work/stopped.json" > "$work/fifo" 2> "$work/err" &
  process=$!
  exec 3< "$work/fifo"
  head -c 1 <&3 > /dev/null  # text has begun, so the signal is expected
  kill "-$1" "$process"
  cat <&3 > /dev/null
  exec 3<&-
  wait "$process" || got=$?
  rm "$work/fifo"
  [ "$got" -eq 130 ] || fail "status $got after SIG$1, expected 130"
  grep -q '^stopped: interrupted' "$work/err" || fail "no summary after SIG$1"
  grep -q '"stop_reason": "interrupted"' "$work/stopped.json" || fail "no statistics after SIG$1"
}

wrong_usage
wrong_input
ordinary_runs
chat_models
files_written
closed_output
interrupted_by INT
interrupted_by TERM

[ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "all as expected"
