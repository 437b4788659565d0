#!/usr/bin/env bash
# Builds the programs and lets the bundled model tell a story, with 5 MB of memory for its 22 MB of
# experts. Installs what is missing first (Debian; root or sudo).
#
#   tools/demo/run.sh ["Once upon a time"]
#
# The story goes to stdout; everything else goes to stderr.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tools/install_dependencies.sh build

mkdir -p build
log=build/programs.log
if ! { cmake --preset programs && cmake --build --preset programs; } > "$log" 2>&1; then
  cat "$log" >&2
  echo "tools/demo/run.sh: the build failed; its output is above and in $log" >&2
  exit 1
fi

exec build/programs/tools/stream-generate --model tools/demo/sluice-demo-tq3 \
  --prompt "${1:-Once upon a time}" --max-tokens 120 --temp 0.7 --seed 1 --cache-budget-gb 0.005
