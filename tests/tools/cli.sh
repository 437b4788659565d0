# What the tests of programs on the command line share; to be sourced. They set $program.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
  echo "FAILED: $1"
  sed 's/^/  stderr: /' "$work/err"
  sed 's/^/  stdout: /' "$work/out"
  failures=$((failures + 1))
}

# expect STATUS PATTERN ARGUMENT...: runs the program; what it says must match the pattern.
expect() {
  local status=$1 pattern=$2 got=0
  shift 2
  "$program" "$@" > "$work/out" 2> "$work/err" < /dev/null || got=$?
  [ "$got" -eq "$status" ] || fail "status $got, expected $status: $*"
  grep -qE -- "$pattern" "$work/out" "$work/err" || fail "no '$pattern': $*"
}

out_has() {
  grep -qE -- "$1" "$work/out" || fail "standard output has no '$1'"
}

finish() {
  [ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
  echo "all as expected"
}
