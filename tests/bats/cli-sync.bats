#!/usr/bin/env bats
# recipes/cli-sync.sh: with a stub `globus` whose every step fails in turn, and against the sandbox.

load helper
load sandbox

SOURCE=11111111-1111-4111-8111-111111111111:/data/
DESTINATION=22222222-2222-4222-8222-222222222222:/copy/
TASK=33333333-3333-4333-8333-333333333333

setup() {
  isolate
  need flock
  export SYNC_SOURCE=$SOURCE SYNC_DESTINATION=$DESTINATION SYNC_STATE=$BATS_TEST_TMPDIR/state
  export GLOBUS=$BATS_TEST_TMPDIR/globus CALLS=$BATS_TEST_TMPDIR/calls
  : >"$CALLS"
  stub
}

teardown() {
  sandbox_stop
}

# A globus that does well. Its answers are files: $BATS_TEST_TMPDIR/answer.SUBCOMMAND; a file status.SUBCOMMAND holds the exit
# status of the next call of that one.
stub() {
  cat >"$GLOBUS" <<'STUB'
#!/usr/bin/env bash
printf '%s\n' "$*" >>"$CALLS"
here=$(dirname "$0")
case "$1 $2" in
  'task show') step=show answer='SUCCEEDED 0' ;;
  'task generate-submission-id') step=id answer=44444444-4444-4444-8444-444444444444 ;;
  ls\ *) step=ls answer=.mounted ;;
  transfer\ *) step=transfer answer='33333333-3333-4333-8333-333333333333 Accepted' ;;
  *) exit 99 ;;
esac
if [[ -e $here/answer.$step ]]; then answer=$(<"$here/answer.$step"); fi
if [[ -e $here/status.$step ]]; then
  printf 'the stub fails at %s\n' "$step" >&2
  exit "$(<"$here/status.$step")"
fi
[[ -z $answer ]] || printf '%s\n' "$answer"
STUB
  chmod +x "$GLOBUS"
}

answers() { printf '%s\n' "$2" >"$BATS_TEST_TMPDIR/answer.$1"; }
fails() { printf '%s\n' "$2" >"$BATS_TEST_TMPDIR/status.$1"; }
mends() { rm -f "$BATS_TEST_TMPDIR"/status.* "$BATS_TEST_TMPDIR"/answer.*; }
sync_it() { # not run: 127 is one of the recipe's own exit statuses
  status=0
  output=$("$REPOSITORY/recipes/cli-sync.sh" "$@" 2>&1) || status=$?
}
last() { sed -n "${1}p" "$SYNC_STATE/last"; }

@test "all well: silent, and the task is remembered" {
  sync_it
  assert_status 0
  [[ -z $output ]]
  grep -q '^transfer .* --skip-activation-check ' "$CALLS"
  [[ $(last 2) == "$TASK" ]]
  run ! grep -q -e '--delete' "$CALLS"
}

@test "a submission that fails is not called submitted, whatever globus exits with" {
  local code
  for code in 1 2 3 4 60 61 63 64 69 79 80 82 83 84 130; do
    mends
    rm -rf "$SYNC_STATE"
    fails transfer "$code"
    sync_it -v
    [[ $status != 0 ]]
    [[ $output != *submitted:* ]]
    [[ ! -e $SYNC_STATE/last || -z $(last 2) ]]
  done
}

@test "exit statuses: a no is 1, login 4, everything that may mend itself 75" {
  local pair
  for pair in 60:1 63:1 64:1 2:1 4:4 61:4 69:75 1:75 79:75 83:75 127:127; do
    mends
    rm -rf "$SYNC_STATE"
    fails transfer "${pair%:*}"
    sync_it
    assert_status "${pair#*:}"
    [[ -n $output ]]
  done
}

@test "each other step that fails stops it before anything is sent" {
  local pair
  for pair in id:1:75 id:4:4 id:63:1 ls:1:75 ls:64:1; do
    mends
    rm -rf "$SYNC_STATE"
    : >"$CALLS"
    IFS=: read -r step code wanted <<<"$pair"
    fails "$step" "$code"
    sync_it --mirror --check-file .mounted
    assert_status "$wanted"
    run ! grep -q '^transfer' "$CALLS"
  done
}

@test "after a lost answer the same submission id is sent again" {
  fails transfer 1
  sync_it
  assert_status 75
  mends
  answers id 55555555-5555-4555-8555-555555555555
  sync_it
  assert_status 0
  [[ $(grep -c 'submission-id 44444444' "$CALLS") == 2 ]]
  run ! grep -q 55555555 "$CALLS"
}

@test "after a refusal a new one is taken" {
  fails transfer 63
  sync_it
  assert_status 1
  [[ ! -e $SYNC_STATE/last ]]
}

@test "nonsense instead of an answer is not success" {
  local step
  for step in id transfer; do
    mends
    rm -rf "$SYNC_STATE"
    answers "$step" 'nonsense'
    sync_it
    assert_status 1
  done
  mends
  rm -rf "$SYNC_STATE"
  answers transfer "$TASK Rejected"
  sync_it
  assert_status 1
}

@test "the last task still at work: 75 without a word, nothing is sent" {
  sync_it
  : >"$CALLS"
  answers show 'ACTIVE 0'
  sync_it
  assert_status 75
  [[ -z $output ]]
  run ! grep -q '^transfer' "$CALLS"
}

@test "the last task inactive: 7, with the link" {
  sync_it
  answers show 'INACTIVE 0'
  sync_it
  assert_status 7
  assert_contains "$output" "https://app.globus.org/activity/$TASK"
}

@test "the last task failed: told, exit 1, and sent again with checksums once" {
  sync_it
  answers show 'FAILED 0'
  sync_it
  assert_status 1
  assert_contains "$output" FAILED
  tail -n1 "$CALLS" | grep -q -e '--sync-level checksum'
  answers show 'SUCCEEDED 0'
  sync_it
  assert_status 0
  tail -n1 "$CALLS" | grep -q -e '--sync-level mtime'
}

@test "the last task gone (404) does not wedge" {
  sync_it
  fails show 64
  sync_it
  assert_status 1
  assert_contains "$output" 'is gone'
  [[ $(last 2) == "$TASK" ]]
}

@test "the last task cannot be looked at: 75, and it is not forgotten" {
  sync_it
  fails show 83
  sync_it
  assert_status 75
  [[ $(last 2) == "$TASK" ]]
}

@test "an unknown status is an error" {
  sync_it
  answers show 'SLEEPING 0'
  sync_it
  assert_status 1
}

@test "skipped files are told" {
  sync_it
  answers show 'SUCCEEDED 3'
  sync_it
  assert_status 0
  assert_contains "$output" 'skipped 3 files'
}

@test "deletion is off, and with --mirror only if the check file is there" {
  sync_it --mirror
  assert_status 2
  sync_it --mirror --check-file .mounted
  assert_status 0
  tail -n1 "$CALLS" | grep -q -e '--delete-destination-extra'
  answers ls ''
  sync_it --mirror --check-file .mounted
  assert_status 1
  assert_contains "$output" 'nothing is sent or deleted'
}

@test "two at once: the second leaves with 75" {
  mkdir -p "$SYNC_STATE"
  exec 8>"$SYNC_STATE/lock"
  flock -n 8
  sync_it
  assert_status 75
  [[ -z $output ]]
}

@test "usage" {
  sync_it --nonsense
  assert_status 2
  SYNC_SOURCE=/data sync_it
  assert_status 2
  sync_it --sync-level newest
  assert_status 2
  sync_it --source
  assert_status 2
  sync_it --help
  assert_status 0
  assert_contains "$output" 'usage: cli-sync.sh'
  GLOBUS=/nonexistent/globus sync_it
  assert_status 127
}

@test "a state that cannot be written stops it before anything is sent" {
  SYNC_STATE=/proc/nonexistent sync_it
  assert_status 1
  [[ ! -s $CALLS ]]
}

@test "against the sandbox: sync, change, failure, checksums" {
  GLOBUSWRAP=$LAUNCHER sandbox_start
  GLOBUS=$(command -v globus)
  export GLOBUS GLOBUSWRAP=$LAUNCHER
  # shellcheck disable=SC2154 # set by sandbox_start
  SYNC_SOURCE=$archive_id:/data/ SYNC_DESTINATION=$results_id:/copy/
  # shellcheck disable=SC2154
  mkdir -p "$archive_dir/data" && printf one >"$archive_dir/data/a b"
  sync_it
  assert_status 0
  sync_it -v
  assert_status 0
  assert_contains "$output" succeeded
  # shellcheck disable=SC2154
  [[ $(<"$results_dir/copy/a b") == one ]]
  sandbox fault fail code=ENDPOINT_ERROR
  printf two >"$archive_dir/data/c"
  sync_it
  sync_it
  assert_status 1
  sync_it
  assert_status 0
  [[ $(<"$results_dir/copy/c") == two ]]
}
