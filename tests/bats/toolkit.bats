#!/usr/bin/env bats
# The shell toolkit in job scripts: what is staged when, which exit code wins, and that signals reach the payload. globuswrap
# is a program that writes down how it was called; the real one is in the recipes' and the scenarios' tests.
# shellcheck disable=SC2154,SC2016,SC2030,SC2031

load helper

setup() {
  isolate
  mkdir -p bin
  cat >bin/globuswrap <<'PROGRAM'
#!/usr/bin/env bash
printf '%s\n' "$*" >>"$CALLS"
case "$*" in
  *slow*) sleep 60 & : >"$READY"; wait ;;
  *fails*) exit 5 ;;
  'in-job seconds-left'*) [[ -n ${LEFT-} ]] && echo "$LEFT" ;;
esac
PROGRAM
  chmod +x bin/globuswrap
  export CALLS=$PWD/calls READY=$PWD/ready TOOLKIT=$REPOSITORY/lib/globuswrap/shell/toolkit.sh
  : >calls
}

# job TEXT: runs it as a job script that has sourced the toolkit; `strict` in $1 puts the strict mode before it.
job() {
  {
    printf '#!/usr/bin/env bash\n'
    [[ $1 != strict ]] || printf 'set -euo pipefail\n'
    printf 'gw_command=("%s/bin/globuswrap")\nsource "$TOOLKIT"\n%s\n' "$PWD" "$2"
  } >job.sh
  run --separate-stderr bash job.sh
}

calls() { paste -sd'|' calls; }

@test "globuswrap toolkit prints the path" {
  run "$LAUNCHER" toolkit
  assert_status 0
  [[ $output == "$TOOLKIT" ]]
}

@test "success: in, payload, out, with strict mode and without" {
  for mode in strict loose; do
    : >calls
    job "$mode" 'gw_stage_in a:/x "b:/y z" --sync-level checksum
      gw_stage_out "b:/o o" c:/ok
      gw_stage_out b:/o c:/always --when always --if-present
      gw_stage_out b:/o c:/bad --when=failure
      gw_run -- bash -c "echo payload >>\"$CALLS\""'
    assert_status 0
    [[ $(calls) == 'stage in a:/x b:/y z --sync-level checksum|payload|stage out b:/o o c:/ok|stage out b:/o c:/always --if-present' ]]
  done
}

@test "the payload's exit code is the job's, and chooses what is staged out" {
  for mode in strict loose; do
    : >calls
    job "$mode" 'gw_stage_out b:/o c:/ok
      gw_stage_out b:/o c:/bad --when failure
      gw_run bash -c "exit 7"'
    assert_status 7
    [[ $(calls) == 'stage out b:/o c:/bad' ]]
  done
}

@test "a failing payload stays the outcome though commands after it succeed" {
  job loose 'gw_stage_out b:/o c:/ok
    gw_run bash -c "exit 7"
    echo after'
  assert_status 7
  [[ $output == after && $(calls) == '' ]]
}

@test "a failed stage-in ends the job before the payload" {
  for mode in strict loose; do
    : >calls
    job "$mode" 'gw_stage_out b:/o c:/bad --when failure
      gw_stage_in fails:/x b:/y
      echo payload >>"$CALLS"'
    assert_status 5
    [[ $(calls) == 'stage in fails:/x b:/y|stage out b:/o c:/bad' ]]
    [[ $stderr == *'stage-in failed: fails:/x b:/y'* ]]
  done
}

@test "a failed stage-out wins over success, and loses against the payload's code" {
  job strict 'gw_stage_out fails:/o c:/ok
    gw_stage_out b:/o c:/also
    gw_run true'
  assert_status 5
  [[ $stderr == *'stage-out failed with exit code 5'* ]]
  [[ $(calls) == 'stage out fails:/o c:/ok|stage out b:/o c:/also' ]]
  job strict 'gw_stage_out fails:/o c:/x --when always
    gw_run bash -c "exit 7"'
  assert_status 7
}

@test "a command of the script that fails is a failure too" {
  job strict 'gw_stage_out b:/o c:/bad --when failure
    false
    echo not reached'
  assert_status 1
  [[ $(calls) == 'stage out b:/o c:/bad' && $output == '' ]]
}

@test "TERM reaches the payload and its children, and results are staged out" {
  job strict 'gw_stage_out b:/o c:/bad --when failure
    (until [[ -e $READY ]]; do sleep 0.05; done; kill -TERM "$$") &
    gw_run bash -c "trap \"echo told; exit 44\" TERM; : >\"$READY\"; sleep 60 & wait"
    echo not reached'
  assert_status 44
  [[ $output == told && $(calls) == 'stage out b:/o c:/bad' ]]
}

@test "TERM ends a payload that does not listen, at once" {
  SECONDS=0
  job loose '(until [[ -e $READY ]]; do sleep 0.05; done; kill -TERM "$$") &
    gw_run bash -c ": >\"$READY\"; sleep 60; echo later"'
  assert_status 143
  [[ $SECONDS -lt 50 && $output == '' ]]
}

@test "a payload that traps TERM and exits 0 has succeeded" {
  job strict 'gw_stage_out b:/o c:/ok
    (until [[ -e $READY ]]; do sleep 0.05; done; kill -TERM "$$") &
    gw_run bash -c "trap \"exit 0\" TERM; : >\"$READY\"; sleep 60 & wait"'
  assert_status 0
  [[ $(calls) == 'stage out b:/o c:/ok' ]]
}

@test "TERM during a stage-in ends it, and the job" {
  SECONDS=0
  job loose '(until [[ -e $READY ]]; do sleep 0.05; done; kill -TERM "$$") &
    gw_stage_in slow:/x b:/y
    echo not reached'
  [[ $status -eq 143 && $output == '' && $SECONDS -lt 50 ]]
}

@test "--stop-before: the payload is told that long before the end" {
  SECONDS=0
  LEFT=4 job strict 'gw_stage_out b:/o c:/bad --when failure
    gw_run --stop-before 2 bash -c "trap \"exit 9\" TERM; sleep 30 & wait"'
  assert_status 9
  [[ $SECONDS -lt 50 && $(calls) == *'|stage out b:/o c:/bad' ]]
}

@test "--stop-before of a job that ends in time does nothing" {
  LEFT=86400 job strict 'gw_seconds_left; gw_run --stop-before=60 true'
  assert_status 0
  [[ $output == 86400 ]]
}

@test "arguments go to the payload as they are" {
  job strict "gw_run printf '[%s]' 'a b' '' '\$(id)' '*' '-n'"
  assert_status 0
  [[ $output == '[a b][][$(id)][*][-n]' ]]
}

@test "the script's own lines, through gw_directives" {
  job strict 'gw_directives "my script.sh"
    gw_run bash -c "exit 3"'
  assert_status 3
  [[ $(calls) == 'in-job script in my script.sh|in-job script out my script.sh --code 3' ]]
}

@test "an EXIT trap of the script's own calls gw_exit" {
  job strict 'trap "code=\$?; echo mine \$code; gw_exit \$code" EXIT
    gw_stage_out b:/o c:/bad --when failure
    gw_run bash -c "exit 7"'
  assert_status 7
  [[ $output == 'mine 7' && $(calls) == 'stage out b:/o c:/bad' ]]
}

@test "an unknown outcome is refused" {
  job strict 'gw_stage_out b:/o c:/x --when sometimes'
  assert_status 2
  [[ $stderr == *'--when sometimes is not'* && $(calls) == '' ]]
}
