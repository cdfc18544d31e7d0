#!/usr/bin/env bash
# Run bats and pytest side by side: each spends part of its time waiting. What bats says is shown when it has ended.
#
# usage: tests/run.sh [BATS OPTION]... -- [PYTEST OPTION]...
#
# Exit 1 if either failed. JOBS is how many pytest processes there are; two for each processor if it is not set, since
# tests of chains wait most of their time.
set -Eeuo pipefail
export LC_ALL=C.UTF-8
unset CDPATH BASH_ENV

if [[ ${1-} == --help || ${1-} == -h ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 0
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."

options=()
while (($# > 0)) && [[ $1 != -- ]]; do
  options+=("$1")
  shift
done
if (($# > 0)); then shift; fi

# shellcheck disable=SC2317 # called by the trap
end_bats() {
  if kill -0 "$bats" 2>/dev/null; then kill -- "-$bats"; fi
}

# A process group of its own, so that all of it ends when this is interrupted.
set -m
{
  begun=$SECONDS
  code=0
  # bats waits for whoever holds its output open, for good: a process that a test left behind must not hang the run.
  PATH=$PWD/.venv/bin:$PATH timeout --foreground --kill-after=30 40m bats --timing --recursive ${options[@]+"${options[@]}"} tests/bats >.venv/bats.log 2>&1 || code=$?
  if ((code != 0)); then cat .venv/bats.log; fi
  printf '\nbats: %s passed, %s failed in %s s (.venv/bats.log)\n' "$(grep -c '^ok ' .venv/bats.log)" \
    "$(grep -c '^not ok ' .venv/bats.log)" "$((SECONDS - begun))"
  exit "$code"
} </dev/null &
bats=$!
set +m
trap end_bats EXIT

failed=0
.venv/bin/python -m pytest -n "${JOBS:-$((2 * $(getconf _NPROCESSORS_ONLN)))}" --dist worksteal "$@" || failed=1
wait "$bats" || failed=1
exit "$failed"
