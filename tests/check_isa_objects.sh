#!/bin/sh
# Proves that the objects compiled for special instruction sets offer the linker nothing it may pick
# for others: an inline function or template emitted there (a weak symbol) would carry those
# instructions, and the linker keeps one copy for the whole program, whichever object it came from.
#
# usage: check_isa_objects.sh OBJECT...   (objects whose names say neither avx nor amx are skipped)
set -u

checked=0
failed=0
for object in "$@"; do
  case "${object##*/}" in
    *avx* | *amx*) ;;
    *) continue ;;
  esac
  checked=$((checked + 1))
  if ! symbols=$(nm -C --defined-only "$object"); then
    echo "$object: nm cannot read it"
    failed=1
    continue
  fi
  # W, w: weak; V, v: weak object; u: unique. A strong name could not replace another in silence.
  # Builds with sanitizers add data that is the same in every object: a pointer to the exception
  # personality, and descriptions of the types of functions.
  weak=$(printf '%s\n' "$symbols" | grep -E ' [WwVvu] ' |
    grep -vE ' V (DW\.ref\.__gxx_personality_v0$|typeinfo )' || true)
  if [ -n "$weak" ]; then
    echo "$object: weak symbols; keep everything that it includes in anonymous namespaces:"
    printf '%s\n' "$weak"
    failed=1
  fi
done
if [ "$checked" -eq 0 ]; then
  echo "no object of a special instruction set among: $*"
  exit 1
fi
exit "$failed"
