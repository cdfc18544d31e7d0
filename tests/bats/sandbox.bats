#!/usr/bin/env bats
# `globuswrap sandbox`, and the bats helper that stands on it.
# shellcheck disable=SC2016 # arguments that must arrive unexpanded
# shellcheck disable=SC2154 # archive_id and the like are set by sandbox_start

load helper
load sandbox

setup() {
  isolate
  export GLOBUSWRAP=$LAUNCHER
}

teardown() {
  sandbox_stop
}

@test "run: the command sees a sandbox, its exit code is the one of run, and nothing is left" {
  run "$LAUNCHER" sandbox run -- sh -c 'globus whoami; echo "$GLOBUS_SANDBOX_BASE" >base; exit 9'
  assert_status 9
  [[ $output == *rehearsal@sandbox.example.org* ]]
  local base
  base=$(<base)
  for _ in {1..4800}; do
    [[ -e $base ]] || break
    sleep 0.05
  done
  [[ ! -e $base ]]
}

@test "run: standard input, output and arguments are the command's own" {
  run bash -c 'printf "some input" | "$1" sandbox run -- sh -c '\''cat; printf "[%s]" "$@"'\'' sh "a b" "" "--json" ' _ "$LAUNCHER"
  assert_status 0
  [[ $output == *'some input[a b][][--json]' ]]
}

@test "run: a program that is not there is 127, and a kind of collection that is not there is 2" {
  run -127 "$LAUNCHER" sandbox run -- no-such-program
  mkdir tmp
  TMPDIR=$PWD/tmp run "$LAUNCHER" sandbox run --collection a:tape -- true
  assert_status 2
  [[ -z $(ls -A tmp) ]]
}

@test "up, status, log, down" {
  sandbox_start --collection archive --collection shared:guest
  run sandbox status
  assert_status 0
  [[ $output == *"$archive_id"* && $output == *GCSv5_guest_collection* && $output == *'tasks: none'* ]]
  printf hello >"$archive_dir/a file"
  run globus ls "$archive_id:/"
  assert_status 0
  assert_line 'a file'
  run sandbox log --service transfer
  [[ $output == *"GET    /transfer/v0.10/operation/endpoint/$archive_id/ls"* ]]
  sandbox down
  run sandbox status
  assert_status 75
}

@test "up twice is up once" {
  sandbox_start
  local first=$GLOBUS_SANDBOX_URL
  sandbox_start
  [[ $GLOBUS_SANDBOX_URL == "$first" ]]
}

@test "fault, progress and clock drive a task" {
  sandbox_start
  printf hello >"$archive_dir/a"
  sandbox progress held
  run --separate-stderr globus transfer "$archive_id:/a" "$scratch_id:/a" --jmespath task_id --format unix
  assert_status 0
  local task=$output
  run globus task show "$task" --jmespath status --format unix
  [[ $output == ACTIVE ]]
  sandbox clock 25h
  run globus task show "$task" --jmespath '[status, fatal_error.code]' --format unix
  [[ $output == $'FAILED\tEXPIRED' ]]
  sandbox fault not-found path=/submission_id code=Gone
  run globus task generate-submission-id --format json
  assert_status 1
  [[ $output == *'"code": "Gone"'* ]]
  run sandbox fault
  assert_line 'no active faults'
  run sandbox fault sabotage
  assert_status 2
}

@test "shell: opened in the running sandbox" {
  sandbox_start
  run --separate-stderr env SHELL=/bin/sh "$LAUNCHER" sandbox shell --base "$BATS_TEST_TMPDIR/sandbox" <<<'globus whoami; echo "$GLOBUS_SANDBOX_URL"'
  assert_status 0
  assert_line rehearsal@sandbox.example.org
  assert_line "$GLOBUS_SANDBOX_URL"
}

@test "shell: \`down\` does not take the home directory from under it" {
  sandbox_start
  run --separate-stderr env SHELL=/bin/sh "$LAUNCHER" sandbox shell --base "$BATS_TEST_TMPDIR/sandbox" \
    <<<'"$GLOBUSWRAP" sandbox down; echo "code $?"; cd && globus whoami'
  assert_status 0
  assert_line "code 2"
  assert_line rehearsal@sandbox.example.org
  assert_contains "$stderr" "remedy: exit"
}

@test "env: the shell keeps its home directory and its prompt, and gets all of it back, also after down" {
  local base=$BATS_TEST_TMPDIR/sandbox
  export GLOBUS_PROFILE=mine HTTPS_PROXY=http://127.0.0.1:9 XDG_CONFIG_HOME="$HOME/my 'config" PS1='mine> '
  unset XDG_STATE_HOME
  environment_now() { env | grep -v '^_=' | sort; }
  local before home=$HOME
  before=$(environment_now)
  run "$LAUNCHER" sandbox env --unset
  [[ $status == 0 && -z $output ]]
  "$LAUNCHER" sandbox up --base "$base" >/dev/null
  for _ in 1 2; do
    eval "$("$LAUNCHER" sandbox env --base "$base")"
    [[ $HOME == "$home" && $PS1 == 'mine> ' && $XDG_STATE_HOME == "$base"/* ]]
    run globus whoami
    [[ $output == rehearsal@sandbox.example.org ]]
  done
  [[ ! -e $HOME/.globus ]]
  run "$LAUNCHER" sandbox down
  assert_line 'This shell still points at it: eval "$(globuswrap sandbox env --unset)"'
  eval "$("$LAUNCHER" sandbox env --unset)"
  diff <(printf '%s\n' "$before") <(environment_now)
}

@test "the helper fails a test that asks for what is not served" {
  sandbox_start
  run globus api transfer GET /no/such/route
  assert_status 1
  run sandbox log --unknown
  assert_status 1
  [[ $output == *'route GET /v0.10/no/such/route'* ]]
  run sandbox_stop
  assert_status 1
}
