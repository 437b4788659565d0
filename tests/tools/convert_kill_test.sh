#!/usr/bin/env bash
# Kills stream-convert at random moments, resumes it until it is done, and compares the directory
# with that of a run that nobody disturbed, byte for byte.
#
#   convert_kill_test.sh STREAM_CONVERT MODEL [KILLS] [SEED] [SHARD_GB]
#
# KILLS (default 5) kill -9 end a run at work; every run after a kill resumes. At no moment may
# there be a loadable directory that is not whole: OUT only ever appears finished, and what lies
# beside it has a config.json at the very end alone.
set -euo pipefail
convert=$1
model=$2
kills=${3:-5}
RANDOM=${4:-1}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Small files, so that there are many moments between them.
settings=(--model "$model" --bits 3 --group-size 32 --shard-gb "${5:-0.00002}")

start=$(date +%s%N)
"$convert" "${settings[@]}" --out "$work/expected" 2> "$work/log"
whole_ns=$(($(date +%s%N) - start))

delivered=0
finished=0
resumed=0
while [ "$delivered" -lt "$kills" ]; do
  "$convert" "${settings[@]}" --out "$work/out" 2>> "$work/log" &
  pid=$!
  sleep "$(awk -v ns="$whole_ns" -v r="$RANDOM" 'BEGIN { printf "%.4f", ns / 1e9 * r / 32768 }')"
  kill -9 "$pid" 2> /dev/null || true
  status=0
  wait "$pid" 2> /dev/null || status=$?
  # A run that was over before is no kill.
  if [ "$status" -eq 137 ]; then delivered=$((delivered + 1)); fi
  if [ -e "$work/out.unfinished/config.json" ]; then
    # The kill came between the config and the rename: then everything must be there.
    for file in "$work"/expected/*; do
      cmp "$file" "$work/out.unfinished/$(basename "$file")"
    done
  fi
  if [ -e "$work/out" ]; then
    # Clears the marks of a kill behind the rename; refuses if there are none.
    "$convert" "${settings[@]}" --out "$work/out" 2>> "$work/log" || true
    diff -r "$work/expected" "$work/out"
    rm -r "$work/out"
    finished=$((finished + 1))
  elif [ -e "$work/out.unfinished" ]; then
    resumed=$((resumed + 1))
  fi
done

"$convert" "${settings[@]}" --out "$work/out" 2>> "$work/log"
diff -r "$work/expected" "$work/out"
if [ -e "$work/out.unfinished" ]; then
  echo "an unfinished directory was left" >&2
  exit 1
fi
echo "$delivered kills, $resumed left something to resume, $finished runs ended before them;" \
  "all directories equal"
