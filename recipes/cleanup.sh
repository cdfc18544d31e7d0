#!/usr/bin/env bash
# Remove what was delivered a while ago, from the shared collection and from where it came, as far as receipts prove that the other
# copy is safe. For cron:
#
#   17 4 * * *   /opt/globuswrap/recipes/cleanup.sh --yes --older-than 30d share:/for/ || mail -s cleanup you@example.org
#
# usage: cleanup.sh [options] NAME:/DIRECTORY/...
#
#   NAME:/DIRECTORY/    what to clean up, below the top of a collection; several are done one after the other
#
#   --older-than AGE    only what was delivered at least this long ago (default: 30d)
#   --receipts DIR      receipts to believe (default: those of globuswrap's own journal)
#   --yes               delete; without it, it is only shown
#   -h, --help          this text
#
# Of two copies that prove each other only the first that is named goes: afterwards the other has no proof any more. Directories stay.
# Permissions on directories that hold no file any more are revoked.
#
# GLOBUSWRAP names the globuswrap command (default: globuswrap on PATH). Exit status: the first that was not 0.

set -Eeuo pipefail
umask 077
export LC_ALL=C.UTF-8
unset CDPATH PS1 BASH_ENV

die() {
  printf 'cleanup: %s\n' "$*" >&2
  exit 2
}
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

globuswrap=${GLOBUSWRAP-globuswrap}
age=30d
options=()
while (($#)); do
  case $1 in
    --older-than | --receipts)
      (($# > 1)) || die "$1 needs a value"
      case $1 in
        --older-than) age=$2 ;;
        --receipts) options+=(--from "$2") ;;
      esac
      shift 2
      ;;
    --yes)
      options+=(--yes)
      shift
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    --)
      shift
      break
      ;;
    -*) die "unknown option $1 (see --help)" ;;
    *) break ;;
  esac
done
(($#)) || die 'name at least one directory (see --help)'

result=0
for directory in "$@"; do
  status=0
  "$globuswrap" cleanup --under "$directory" --older-than "$age" ${options[@]+"${options[@]}"} || status=$?
  ((result)) || result=$status
done
exit "$result"
