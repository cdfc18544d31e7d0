# shellcheck shell=bash
# Staging inside a batch job: source "$(globuswrap toolkit)"
#
#   gw_stage_in SRC DST [OPTIONS]    bring data, wait until it has arrived (globuswrap stage in)
#   gw_stage_out SRC DST [--when success|failure|always] [OPTIONS]
#                                    noted now, done when the script exits, by its outcome (globuswrap stage out)
#   gw_directives SCRIPT             the #GLOBUS lines of SCRIPT: stage-in now, stage-out and cleanup at the exit
#   gw_run [--stop-before SECONDS] [--] COMMAND...
#                                    run the payload so that signals reach it and traps fire before the walltime;
#                                    with --stop-before it gets TERM that long before the job's time is up
#   gw_seconds_left                  prints the time the job has left, in seconds; fails if nobody knows
#
# The script's own exit code is kept; a failed stage-out is reported on stderr and becomes the exit code only when the
# script itself succeeded. Works with and without `set -euo pipefail`, from Bash 4.2 on. Sets traps for EXIT, HUP, INT and
# TERM: a script with an EXIT trap of its own sets it after this line and ends it with: gw_exit "$code". Names that start
# with gw_ are taken.

[[ -n ${gw_settings+set} ]] || gw_settings=()
if [[ -z ${gw_command+set} ]]; then
  gw_command=("${BASH_SOURCE[0]%/*}/../../../bin/globuswrap")
  [[ -x ${gw_command[0]} ]] || gw_command=(globuswrap)
fi
gw_outs=()       # what gw_stage_out noted: the words of each, one after the other
gw_out_counts=() # how many words each has
gw_scripts=()    # scripts whose lines gw_directives has started
gw_chain_id=''
gw_code=0 # of the payload, or of a stage-in that failed
gw_child=
gw_started=$SECONDS
gw_signal=
gw_say() { printf 'globuswrap: %s\n' "$*" >&2; }

gw_stage_in() {
  gw_wait "${gw_command[@]}" stage in "$@" || gw_failed "$?" "stage-in failed: $*"
}

gw_stage_out() {
  gw_outs+=("$@")
  gw_out_counts+=("$#")
}

gw_directives() {
  gw_scripts+=("$1")
  gw_wait "${gw_command[@]}" in-job script in "$1" || gw_failed "$?" "stage-in failed; see above"
}

gw_run() {
  local margin='' left watcher='' code=0
  while [[ ${1-} == --* ]]; do
    case $1 in
      --stop-before)
        margin=$2
        shift 2
        ;;
      --stop-before=*)
        margin=${1#*=}
        shift
        ;;
      --)
        shift
        break
        ;;
      *)
        gw_say "gw_run: unknown option $1"
        return 2
        ;;
    esac
  done
  if [[ -n $margin ]]; then
    if left=$(gw_seconds_left); then
      watcher=$((left > margin ? left - margin : 0))
    else
      gw_say "nobody knows when the job's time is up: --stop-before has no effect"
    fi
  fi
  gw_wait_for "$watcher" "$@" || code=$?
  [[ $code -eq 0 || $gw_code -ne 0 ]] || gw_code=$code
  [[ -z $gw_signal ]] || exit "$code" # time is short: what would come next in the script does not run
  return "$code"
}

gw_seconds_left() {
  "${gw_command[@]}" in-job seconds-left --elapsed "$((SECONDS - gw_started))"
}

# --- below: not for job scripts ---

gw_failed() {
  [[ $gw_code -ne 0 ]] || gw_code=$1
  gw_say "$2"
  exit "$1"
}

gw_wait() { gw_wait_for "" "$@"; }

# gw_wait_for SECONDS COMMAND...: runs it in the background, for Bash runs a trap only when no foreground command runs, and
# in a process group of its own, which TERM reaches as a whole. SECONDS: when it gets TERM; empty: never.
gw_wait_for() {
  local after=$1 code=0 again monitor=0 alarm=''
  shift
  [[ $- == *m* ]] && monitor=1
  set -m
  "$@" <&0 &
  gw_child=$!
  if [[ -n $after ]]; then
    (sleep "$after" && kill -TERM -- "-$gw_child") >/dev/null 2>&1 </dev/null &
    alarm=$!
  fi
  [[ $monitor -eq 1 ]] || set +m
  wait "$gw_child" || code=$?
  while kill -0 "$gw_child" 2>/dev/null; do # a trap has ended the wait, not the child
    code=0
    wait "$gw_child" || code=$?
  done
  if [[ $code -gt 128 ]]; then
    again=0
    wait "$gw_child" 2>/dev/null || again=$?
    [[ $again -eq 127 ]] || code=$again
  fi
  gw_child=''
  if [[ -n $alarm ]]; then
    # KILL: between fork and exec bash loses a TERM, and its sleep would outlive the job
    kill -KILL -- "-$alarm" 2>/dev/null && { wait "$alarm" 2>/dev/null || :; }
  fi
  return "$code"
}

# The payload gets the signal; the script exits when the payload has, with its code.
gw_signalled() {
  local number=$1 name=$2
  gw_signal=$name
  if [[ -n $gw_child ]]; then
    gw_say "$name received, and handed on"
    kill -s "$name" -- "-$gw_child" 2>/dev/null || kill -s "$name" "$gw_child" 2>/dev/null || :
    return 0
  fi
  exit "$((128 + number))"
}

gw_exit() {
  local code=$1 worst
  trap - EXIT
  [[ $code -ne 0 ]] || code=$gw_code
  worst=0
  gw_stage_outs "$code" || worst=$?
  [[ $code -ne 0 ]] || code=$worst
  exit "$code"
}

# gw_stage_outs CODE: everything that is for this outcome; returns the first failure's code.
gw_stage_outs() {
  local code=$1 worst=0 at=0 count words when rest word script
  for script in ${gw_scripts[@]+"${gw_scripts[@]}"}; do
    gw_stage_one "${gw_command[@]}" in-job script out "$script" --code "$code" || worst=$?
  done
  if [[ -n $gw_chain_id ]]; then
    gw_stage_one "${gw_command[@]}" in-job inline out "$gw_chain_id" --code "$code" || worst=$?
  fi
  for count in ${gw_out_counts[@]+"${gw_out_counts[@]}"}; do
    words=("${gw_outs[@]:at:count}")
    at=$((at + count))
    when=success
    rest=()
    while [[ ${#words[@]} -gt 0 ]]; do
      word=${words[0]}
      words=("${words[@]:1}")
      case $word in
        --when)
          when=${words[0]-}
          words=("${words[@]:1}")
          ;;
        --when=*) when=${word#*=} ;;
        *) rest+=("$word") ;;
      esac
    done
    case $when,$code in
      always,* | success,0) ;;
      failure,0) continue ;;
      failure,*) ;;
      success,*) continue ;;
      *)
        gw_say "gw_stage_out: --when $when is not success, failure or always"
        worst=2
        continue
        ;;
    esac
    gw_stage_one "${gw_command[@]}" stage out "${rest[@]}" || worst=$?
  done
  return "$worst"
}

gw_stage_one() {
  local code=0
  gw_wait "$@" || code=$?
  [[ $code -eq 0 ]] || gw_say "stage-out failed with exit code $code"
  return "$code"
}

# gw_chain CHAIN SCRIPT [SECONDS]: what `globuswrap submit --staging inline` writes into its job.
gw_chain() {
  gw_wait "${gw_command[@]}" in-job inline in "$1" || {
    gw_code=$?
    gw_say "stage-in failed; the script was not run"
    exit "$gw_code"
  }
  gw_chain_id=$1
  gw_run ${3:+--stop-before "$3"} -- "$2" || exit "$?"
}

trap 'gw_exit "$?"' EXIT
trap 'gw_signalled 1 HUP' HUP
trap 'gw_signalled 2 INT' INT
trap 'gw_signalled 15 TERM' TERM
