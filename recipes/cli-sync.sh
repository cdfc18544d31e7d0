#!/usr/bin/env bash
# Keep a directory on one Globus collection in step with one on another: submit a sync, leave, and check it the next time.
#
# usage: cli-sync.sh [options]
#
#   --source ID:/PATH/        where from                     (or SYNC_SOURCE)
#   --destination ID:/PATH/   where to                       (or SYNC_DESTINATION)
#   --state DIRECTORY         what is remembered between runs (or SYNC_STATE; default: a directory of its own
#                             for this source and destination under ~/.local/state/cli-sync)
#   --sync-level LEVEL        exists, size, mtime or checksum (or SYNC_LEVEL; default: mtime)
#   --label TEXT              label of the tasks             (or SYNC_LABEL; default: cli-sync)
#   --exclude PATTERN         leave out files of this name; may be repeated
#   --mirror                  delete at the destination what the source does not have; off unless given here.
#   --check-file NAME         with --mirror, needed: a file at the top of the source; without it nothing is deleted
#   -v, --verbose             say what is done (otherwise silent unless something is wrong, as cron likes it)
#   -h, --help                this text
#
# GLOBUS names the globus command (default: globus on PATH). Needs globus-cli 3.27 (3.32 for --mirror), bash 4.2, flock.
#
# The submission id is written down before it is used. So a run that is killed, or whose answer is lost, is continued by the next
# one under the same id, and Globus makes one task of both.
#
# Exit status: 0 submitted, or nothing to do but wait no longer; 1 Globus refused, or the last task failed (this run sends again,
# with checksums); 2 usage; 4 log in first; 7 the last task waits for credentials; 75 try again later: the last task still runs,
# another cli-sync.sh does, or Globus cannot be reached; 127 no globus command.

set -Eeuo pipefail
umask 077
export LC_ALL=C.UTF-8
unset CDPATH PS1 BASH_ENV

readonly WEB=https://app.globus.org/activity
# globus leaves with these for HTTP statuses, to tell them apart
readonly STATUSES=400=60,401=61,403=63,404=64,409=69,429=79,500=80,502=82,503=83,504=84

source_address=${SYNC_SOURCE-}
destination_address=${SYNC_DESTINATION-}
state=${SYNC_STATE-}
level=${SYNC_LEVEL-mtime}
label=${SYNC_LABEL-cli-sync}
excludes=()
mirror=
check_file=
verbose=
globus=${GLOBUS-globus}

say() { [[ -z $verbose ]] || printf 'cli-sync: %s\n' "$*" >&2; }
complain() { printf 'cli-sync: %s\n' "$*" >&2; }
die() { # die STATUS MESSAGE...
  complain "${@:2}"
  exit "$1"
}
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

while (($#)); do
  case $1 in
    --source | --destination | --state | --sync-level | --label | --exclude | --check-file)
      (($# > 1)) || die 2 "$1 needs a value"
      case $1 in
        --source) source_address=$2 ;;
        --destination) destination_address=$2 ;;
        --state) state=$2 ;;
        --sync-level) level=$2 ;;
        --label) label=$2 ;;
        --exclude) excludes+=(--exclude "$2") ;;
        --check-file) check_file=$2 ;;
      esac
      shift
      ;;
    --mirror) mirror=yes ;;
    -v | --verbose) verbose=yes ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) die 2 "$1: not known; see --help" ;;
  esac
  shift
done

readonly ADDRESS='^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}:/'
[[ $source_address =~ $ADDRESS ]] || die 2 "--source must be COLLECTION_ID:/path/, not '$source_address'"
[[ $destination_address =~ $ADDRESS ]] || die 2 "--destination must be COLLECTION_ID:/path/, not '$destination_address'"
case $level in
  exists | size | mtime | checksum) ;;
  *) die 2 "--sync-level $level: one of exists, size, mtime, checksum" ;;
esac
[[ -z $mirror || -n $check_file ]] || die 2 '--mirror needs --check-file: a file that proves that the source is what it should be'
[[ $check_file != */* ]] || die 2 '--check-file is the name of a file at the top of the source'
command -v "$globus" >/dev/null || die 127 "no globus command: $globus (install globus-cli, or set GLOBUS)"
command -v flock >/dev/null || die 127 'no flock command (it is in util-linux)'

if [[ -z $state ]]; then
  name=$(printf '%s\n' "$source_address" "$destination_address" | cksum) || die 1 'cksum failed'
  state=$HOME/.local/state/cli-sync/${name// /-}
fi
mkdir -p -- "$state" || die 1 "cannot make $state"
exec 9>>"$state/lock" || die 1 "cannot write into $state"
flock -n 9 || {
  say 'another run is at work'
  exit 75
}

# The state: submission_id, task_id (both perhaps empty) and level, one on a line.
submission_id='' task_id='' last_level=''
if [[ -e $state/last ]]; then
  { IFS= read -r submission_id && IFS= read -r task_id && IFS= read -r last_level; } <"$state/last" \
    || die 1 "$state/last is damaged; check your tasks (globus task list), then remove it"
fi

remember() {
  printf '%s\n' "$submission_id" "$task_id" "$level" >"$state/last.new" || die 1 "cannot write $state/last.new"
  sync "$state/last.new" 2>/dev/null || sync
  mv -f -- "$state/last.new" "$state/last" || die 1 "cannot write $state/last"
}

# ask ARGUMENT...: run globus; its answer is in $answer, its exit status in $status.
ask() {
  status=0
  answer=$(GLOBUS_CLI_INTERACTIVE=0 "$globus" "$@" --map-http-status "$STATUSES" 2>"$state/stderr") || status=$?
}

# What a failure of globus means, for whatever it was doing.
explain() { # explain WHAT
  local reply
  reply=$(head -c 2000 -- "$state/stderr") || reply=
  case $status in
    4 | 61) die 4 "$1: log in first (globus login)"$'\n'"$reply" ;;
    2 | 60 | 63 | 64) die 1 "$1: Globus refused it"$'\n'"$reply" ;;
    69) die 75 "$1: another unfinished task has the same paths"$'\n'"$reply" ;;
    126 | 127) die 127 "$1: $globus cannot be run"$'\n'"$reply" ;;
    *) die 75 "$1: no proper answer from Globus (exit $status); the next run goes on"$'\n'"$reply" ;;
  esac
}

# First: what became of the last task?
failed=
if [[ -n $task_id ]]; then
  ask task show "$task_id" --format unix --jmespath '[status, subtasks_skipped_errors]'
  if ((status == 64)); then
    complain "task $task_id is gone: Globus knows it no longer, and what became of it is not known. Sending again, with checksums."
    failed=gone
  elif ((status != 0)); then
    explain "checking task $task_id"
  fi
  # An empty answer leaves the variables empty, which the next lines refuse.
  read -r outcome skipped _ <<<"$answer"
  case ${failed:-$outcome} in
    gone) ;;
    ACTIVE)
      say "task $task_id is still at work: $WEB/$task_id"
      exit 75
      ;;
    INACTIVE) die 7 "task $task_id waits for you to log in again: $WEB/$task_id" ;;
    FAILED)
      complain "task $task_id FAILED: $WEB/$task_id. Sending again, with checksums."
      failed=yes
      ;;
    SUCCEEDED)
      say "task $task_id succeeded"
      if [[ ${skipped-} =~ ^[1-9] ]]; then
        complain "task $task_id skipped $skipped files; list them: globus task show $task_id --skipped-errors"
      fi
      ;;
    *) die 1 "task $task_id has the status '$outcome', which is not known: $WEB/$task_id" ;;
  esac
  submission_id='' task_id=''
fi

if [[ -n $submission_id ]]; then
  # Written down, and never heard of: the same once more.
  say "submission $submission_id was not answered; sending it again"
  level=$last_level
else
  [[ -z $failed ]] || level=checksum
  ask task generate-submission-id --format unix --jmespath value
  ((status == 0)) || explain 'asking for a submission id'
  [[ $answer =~ ^[0-9a-f-]{36}$ ]] || die 1 "globus gave no submission id, but '$answer'"
  submission_id=$answer
fi

deletion=()
if [[ -n $mirror ]]; then
  ask ls --format unix --jmespath 'DATA[].name' --all --filter "=$check_file" "$source_address"
  ((status == 0)) || explain "looking for $check_file at the source"
  [[ -n $answer && $answer != None ]] || die 1 "$check_file is not at the source: nothing is sent or deleted"
  deletion=(--delete-destination-extra)
fi

remember # before it is used
ask transfer --format unix --jmespath '[task_id, code]' \
  --submission-id "$submission_id" --skip-activation-check --label "$label" --notify off --recursive --sync-level "$level" --preserve-timestamp \
  ${deletion[@]+"${deletion[@]}"} ${excludes[@]+"${excludes[@]}"} "$source_address" "$destination_address"
if ((status != 0)); then
  case $status in
    2 | 60 | 63 | 64) rm -f -- "$state/last" ;; # a definite no: nothing was started under this id
  esac
  explain 'submitting'
fi
# An empty answer leaves the variables empty, which the next line refuses.
read -r task_id code _ <<<"$answer"
[[ $task_id =~ ^[0-9a-f-]{36}$ && $code =~ ^(Accepted|Duplicate)$ ]] \
  || die 1 "globus transfer did not say that a task was accepted, but '$answer'; look for it: globus task list"
remember
say "submitted: $WEB/$task_id"
[[ -z $failed ]] || exit 1
exit 0
