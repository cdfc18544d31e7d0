#!/usr/bin/env bash
# The main job against a local Globus: stage in, compute, stage out. Nothing leaves this machine.
#
# usage: run.sh [--verbose]
#   --verbose  show the globus commands as they run, and the requests they made
#
# Makes a few hundred files with all kinds of names in the collection `archive`, submits job.sh, whose #GLOBUS lines stage
# them to `scratch` and its results to `results`, and compares every byte. Exit 0 only if all of them are right.
set -Eeuo pipefail
umask 077
export LC_ALL=C.UTF-8
unset CDPATH PS1 BASH_ENV

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
globuswrap=$here/../../bin/globuswrap

die() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}

step() { printf '\n== %s\n' "$*"; }

# make_files DIRECTORY: nested, small and not so small, and with the names that break scripts.
make_files() {
  local top=$1 day run name
  for day in 01 02 03 04 05 06; do
    for run in {001..040}; do
      mkdir -p "$top/2018-06-$day/raw"
      printf 'day %s run %s\nsensor a 0.%s\n' "$day" "$run" "$run" >"$top/2018-06-$day/raw/scan_$run.txt"
    done
  done
  mkdir -p "$top/odd names/deeper still/and deeper"
  for name in 'with space' "it's" 'say "hi"' '#comment' '-rf' '--json' "\$(touch pwned)" "\`id\`" '%j' 'semi;colon' \
    'star*' 'back\slash' 'café' '日本語' $'line\u2028separator' $'new\nline' '~' 'a:b' ' edges '; do
    printf 'the file called %s\n' "$name" >"$top/odd names/deeper still/and deeper/$name"
    printf 'another one\n' >"$top/odd names/$name"
  done
  : >"$top/empty"
  head -c 3000000 /dev/urandom >"$top/image.raw"
}

# sums DIRECTORY: one line for each file, in one order.
sums() {
  (cd -- "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum --)
}

# same WHAT FILE FILE: complains with the first differences.
same() {
  cmp -s -- "$2" "$3" && return
  { diff -- "$2" "$3" || [[ $? -eq 1 ]]; } | head -20 >&2
  die "$1: not what it should be"
}

inside() {
  local collections=$GLOBUS_SANDBOX_BASE/collections work=$GLOBUS_SANDBOX_BASE/demo
  local verbose=() count size chain results
  [[ $1 == --verbose ]] && verbose=(-v)
  mkdir -p "$work/expected"
  cd -- "$work"

  step "three collections (here they are directories), with a few hundred files in the first"
  make_files "$collections/archive/run-2018"
  count=$(find "$collections/archive" -type f -printf x | wc -c)
  size=$(find "$collections/archive" -type f -printf '%s\n' | awk '{ sum += $1 } END { printf "%.1f MiB", sum / 1048576 }')
  printf 'archive: %d files, %s; scratch and results: empty\n' "$count" "$size"

  step "what the job script asks for: copy the data in before it runs, and the results out after"
  sed -n '/^#GLOBUS/p' "$here/job.sh"

  step "globuswrap submit --scheduler local job.sh: both copies are made, with the job in between"
  export SCRATCH=$collections/scratch
  chain=$("$globuswrap" submit --scheduler local --poll 1s ${verbose[@]+"${verbose[@]}"} "$here/job.sh") || die "the chain failed"
  printf 'the job printed: %s\n' "$(cat -- "job.sh-$chain.out")"

  step "is every byte right?"
  sums "$collections/archive/run-2018" >archive.sums
  sums "$collections/scratch/local-$chain/in" >scratch.sums
  same "what was staged in" archive.sums scratch.sums
  printf 'copied in:   %d files, checksums equal\n' "$count"
  same "the list of checksums that the job wrote" archive.sums "$collections/results/run-2018/checksums.txt"
  printf 'computed on: %d files, checksums equal\n' "$(wc -l <"$collections/results/run-2018/checksums.txt")"
  expect "$collections/archive/run-2018" "$work/expected"
  sums expected >expected.sums
  sums "$collections/results/run-2018/shouted" >results.sums
  same "what was staged out" expected.sums results.sums
  results=$(wc -l <results.sums)
  printf 'copied out:  %d files, checksums equal: %d results, and the list of checksums\n' \
    "$(find "$collections/results" -type f -printf x | wc -c)" "$results"
  [[ $results -eq $count ]] || die "files are missing"
  [[ -z $(find "$GLOBUS_SANDBOX_BASE" . -name pwned -print -quit) ]] || die "a file name was executed"

  if [[ ${#verbose[@]} -gt 0 ]]; then
    step "the requests that the globus commands made"
    "$globuswrap" sandbox log || die "the request log cannot be read"
  fi
}

# expect DIRECTORY DIRECTORY: what the job should make of the first, made here from the archive itself.
expect() {
  local file
  while IFS= read -r -d '' file; do
    mkdir -p -- "$2/${file%/*}"
    tr '[:lower:]' '[:upper:]' <"$1/$file" >"$2/$file"
  done < <(cd -- "$1" && find . -type f -print0)
}

main() {
  local talk=--quiet
  while [[ $# -gt 0 ]]; do
    case $1 in
      -v | --verbose) talk=--verbose ;;
      -h | --help)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        return
        ;;
      *) die "unknown option: $1 (see --help)" ;;
    esac
    shift
  done
  SECONDS=0
  step "starting a local Globus: no account is needed, and nothing leaves this machine"
  "$globuswrap" sandbox run --progress timed:1 -- bash "$here/run.sh" --inside "$talk" || exit 1
  step "done in $SECONDS s: copied in, computed, copied out, every byte compared"
}

if [[ ${1-} == --inside ]]; then
  inside "$2"
else
  main "$@"
fi
