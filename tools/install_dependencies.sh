#!/usr/bin/env bash
# Installs the Debian packages that a step needs, and only those that are missing.
#
#   tools/install_dependencies.sh build          compiler and libraries of the programs
#   tools/install_dependencies.sh build tests    ... and what the tests and benches need
#   tools/install_dependencies.sh build tests ci ... and the second compiler, lld, formatter, linter
#
# Runs as root or through sudo. Where nothing is missing it needs neither, nor a network.
set -euo pipefail

build=(g++ cmake ninja-build pkg-config liburing-dev nlohmann-json3-dev libtbb-dev libcli11-dev
       libpcre2-dev libutf8proc-dev libxxhash-dev libsentencepiece-dev)
tests=(libgtest-dev libgmock-dev libbenchmark-dev libeigen3-dev)
ci=(clang clang-format clang-tidy libclang-rt-14-dev lld)

packages=()
for set in "$@"; do
  case $set in
    build) packages+=("${build[@]}") ;;
    tests) packages+=("${tests[@]}") ;;
    ci) packages+=("${ci[@]}") ;;
    *)
      echo "install_dependencies.sh: unknown set '$set'; expected build, tests or ci" >&2
      exit 2
      ;;
  esac
done

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
  echo "install_dependencies.sh: not a Debian system; going on with what is installed." >&2
  echo "If CMake misses something, install what these are called here: ${packages[*]}" >&2
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  # A package that was removed keeps an entry, so the state is asked for and not just the name.
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2> /dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo > /dev/null; then
    echo "install_dependencies.sh: packages are missing, and there is no sudo. As root, run:" >&2
    echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "Installing: ${missing[*]}" >&2
"${as_root[@]}" apt-get -qq update > /dev/null
# env, because sudo drops the caller's variables.
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get -qq install -y --no-install-recommends "${missing[@]}" > /dev/null
