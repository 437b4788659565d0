#!/usr/bin/env bash
# What end_to_end writes: JSON with sound figures, an SVG that is well-formed XML and needs nothing
# else. And what it says to wrong arguments.
#
#   end_to_end_test.sh END_TO_END
set -euo pipefail
program=$1
. "$(dirname "$0")/../tools/cli.sh"

files() {
  expect 0 'routing: 24 tokens behind the prompt use' --quick --threads 1,2 --depths 2,8 \
    --lookahead off --neighbour --json "$work/json" --svg "$work/svg"
  python3 - "$work/json" "$work/svg" << 'CHECK' || fail "the JSON or the SVG"
import json, sys
import xml.etree.ElementTree as xml
report = json.load(open(sys.argv[1]))
rows = report["rows"]
assert len(rows) == 8 and all(len(row["rounds"]) == 2 for row in rows), rows
assert report["ceilings"]["disk_gb_per_second"] > 0, report["ceilings"]
for row in rows:
    figures = row["medians"]
    for name in ("prompt_tokens_per_second", "decode_tokens_per_second", "prompt_of_floor",
                 "decode_of_floor", "disturbed_tokens_per_second"):
        assert figures[name] > 0, (name, row)
    assert 0 <= figures["hit_rate"] <= 1, row
    assert (figures["bytes_read_per_token"] == 0) == (figures["hit_rate"] == 1), row
small, whole = ([row["medians"]["hit_rate"] for row in rows if row["budget_share"] == share]
                for share in (0.25, 1))
assert max(small) < min(whole), (small, whole)
# Threads and depth do not change what is fed, and so not what a cache that holds all finds.
assert len(set(whole)) == 1, whole

svg = xml.parse(sys.argv[2]).getroot()
space = "{http://www.w3.org/2000/svg}"
assert svg.tag == space + "svg", svg.tag
assert len(svg.findall(f"{space}g")) == 3, "charts"
assert "href" not in open(sys.argv[2]).read()
CHECK
}

tokens() {
  seq -s ' ' 1 32 > "$work/ids"
  expect 0 "$work/ids" --quick --tokens "$work/ids" --threads 1
  printf 'Once upon a time there was a cat, and a dog, and a bird that sang all day. %.0s' 1 2 3 \
    > "$work/story"
  expect 0 "$work/story" --quick --tokens "$work/story" --threads 1
  echo 1 2 3 > "$work/few"
  expect 1 '3 tokens, but .* take 32' --quick --tokens "$work/few"
  expect 0 'skew 1' --quick --token-skew 1 --threads 1 --lookahead auto,off,4
}

messages() {
  expect 1 '--model is required' --rounds 1
  expect 1 'no/such' --model no/such
  expect 1 'expected an integer.*or auto, or off' --quick --lookahead some
  expect 1 'below the floor' --quick --budgets-gb 0.0001
  expect 108 '--budgets excludes --budgets-gb' --quick --budgets 1 --budgets-gb 1
}

files
tokens
messages
finish
