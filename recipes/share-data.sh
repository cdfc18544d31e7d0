#!/usr/bin/env bash
# Deliver a file or directory to a shared (guest) collection, and let people read it once it has arrived.
#
# usage: share-data.sh [options] SOURCE SHARE:/PATH/ WHO...
#
#   SOURCE          NAME_OR_UUID:/path, or a local path where a mount is known
#   SHARE:/PATH/    a directory of a guest collection
#   WHO             person@example.org, an identity UUID, group:NAME_OR_UUID, all-users
#
#   --until WHEN      the permission ends then: 2027-01-31, +30d (default: never)
#   --mail TEXT       Globus writes to the people, with this text
#   --replace         when the data has arrived, delete what earlier deliveries left and the source no longer has
#   --receipts DIR    keep the receipt here, for cleanup.sh (default: globuswrap's own journal alone)
#   -n, --dry-run     show what would be done
#   -h, --help        this text
#
# Prints the task id, what was granted, and an address for the people. Run it again: what is equal is not sent again, a permission
# that exists is kept. If the transfer does not succeed, nothing is granted and nothing at the destination is deleted.
#
# GLOBUSWRAP names the globuswrap command (default: globuswrap on PATH). Exit status: that of `globuswrap share deliver`.

set -Eeuo pipefail
umask 077
export LC_ALL=C.UTF-8
unset CDPATH PS1 BASH_ENV

die() {
  printf 'share-data: %s\n' "$*" >&2
  exit 2
}
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# A path as part of a web address: every byte that could mean something there, as %XX.
encoded() {
  local LC_ALL=C text=$1 letter at
  for ((at = 0; at < ${#text}; at++)); do
    letter=${text:at:1}
    case $letter in
      [A-Za-z0-9._~/-]) printf '%s' "$letter" ;;
      *) printf '%%%02X' "'$letter" | sed 's/%FFFFFFFFFFFFFF/%/' ;;
    esac
  done
}

globuswrap=${GLOBUSWRAP-globuswrap}
options=(--receipt-files)
receipts=
while (($#)); do
  case $1 in
    --until | --mail | --receipts)
      (($# > 1)) || die "$1 needs a value"
      case $1 in
        --until) options+=(--expires "$2") ;;
        --mail) options+=(--mail --message "$2") ;;
        --receipts) receipts=$2 ;;
      esac
      shift 2
      ;;
    --replace)
      options+=(--replace)
      shift
      ;;
    -n | --dry-run)
      options+=(--dry-run)
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
(($# >= 3)) || die 'a source, a directory to share, and at least one person or group (see --help)'
source=$1 share=$2
shift 2
for who in "$@"; do
  options+=(--to "$who")
done
if [[ -n $receipts ]]; then
  mkdir -p -- "$receipts"
  name=$(printf '%s\n' "$source" "$share" | sha256sum | cut -c 1-16) || die 'no name for the receipt'
  options+=(--receipt "$receipts/$name.json")
fi

"$globuswrap" share deliver "${options[@]}" -- "$source" "$share"

resolved=$("$globuswrap" collection resolve -- "$share") || die "cannot resolve $share"
printf 'https://app.globus.org/file-manager?origin_id=%s&origin_path=%s\n' "${resolved%%:*}" "$(encoded "${resolved#*:}")"
