#!/usr/bin/env bash
# Before a scratch file system is purged: send the files of the purge list to an archive, compare them there by checksum, and only
# then delete them from scratch.
#
#   purge-rescue.sh --yes /scratch/purge-lists/$USER.list scratch:/me archive:/rescued
#
# usage: purge-rescue.sh [options] LIST SCRATCH:/DIRECTORY ARCHIVE:/DIRECTORY
#
#   LIST                  the files to be purged, one path a line: absolute as the scratch collection (or its mount, if the directory
#                         is given as a local path) has them, or below SCRATCH:/DIRECTORY
#   SCRATCH:/DIRECTORY    where all of them are; nothing outside is touched
#   ARCHIVE:/DIRECTORY    where they go, with their path below SCRATCH:/DIRECTORY
#
#   --null                the paths of LIST end in NUL, as find -print0 writes them
#   --yes                 delete from scratch what is proven to be in the archive; without it, it is only shown
#   -h, --help            this text
#
# Files of the list that are gone already are skipped. Run it again after whatever ended it: what was sent is not sent again while
# its batch is unfinished, and nothing is deleted without a receipt that lists the file. A file that was changed after it was sent
# stays on scratch, and the output says so.
#
# GLOBUSWRAP names the globuswrap command (default: globuswrap on PATH). Exit status: that of the command that did not do well.

set -Eeuo pipefail
umask 077
export LC_ALL=C.UTF-8
unset CDPATH PS1 BASH_ENV

die() {
  printf 'purge-rescue: %s\n' "$*" >&2
  exit 2
}
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

globuswrap=${GLOBUSWRAP-globuswrap}
format=()
delete=()
while (($#)); do
  case $1 in
    --null) format=(--null) ;;
    --yes) delete=(--yes) ;;
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
  shift
done
(($# == 3)) || die 'a list, a directory on scratch, and one in the archive (see --help)'
list=$1 scratch=$2 archive=$3
[[ -r $list ]] || die "cannot read $list"
if [[ ! -s $list ]]; then
  printf 'purge-rescue: %s is empty: nothing to do\n' "$list" >&2
  exit 0
fi

receipts=$(mktemp -d) || die 'cannot make a directory for the receipt'
trap 'rm -rf -- "$receipts"' EXIT

# --receipt-files: what a receipt lists is what the deletion believes. --skip-source-errors: some of the list may be gone by now.
"$globuswrap" batch "$scratch" "$archive" "$list" ${format[@]+"${format[@]}"} --verify --preserve-timestamp \
  --skip-source-errors --receipt-files --receipt "$receipts/batch.json" --label 'purge rescue' || exit
"$globuswrap" cleanup --under "$scratch" --from "$receipts/batch.json" ${delete[@]+"${delete[@]}"}
