# shellcheck shell=bash
# A sandbox for bats files, this project's and yours:
#
#   load sandbox              # or: load /path/to/sandbox.bash
#   setup() { sandbox_start; }
#   teardown() { sandbox_stop; }
#
# sandbox_start [OPTION...] takes the options of `globuswrap sandbox up` (--collection, --login, --progress, --durable). After
# it, `globus` and globuswrap in this test talk to the sandbox alone, and for each collection NAME there are
# $NAME_id and $NAME_dir, its UUID and the directory that it serves. sandbox_stop ends it, and fails the test when something
# was asked for that the sandbox does not serve. $GLOBUSWRAP names the command (default: globuswrap on PATH).
# shellcheck disable=SC2034,SC2154 # BATS_TEST_TMPDIR is bats's

sandbox_start() {
  local base=${BATS_TEST_TMPDIR:?not in a bats test}/sandbox line
  "${GLOBUSWRAP:-globuswrap}" sandbox up --base "$base" "$@" >"$BATS_TEST_TMPDIR/sandbox.up" || return
  # shellcheck source=/dev/null
  source "$base/env.sh"
  while IFS= read -r line; do
    # "  NAME=UUID    # DIRECTORY"
    [[ $line =~ ^\ \ ([A-Za-z_][A-Za-z0-9_]*)=([0-9a-f-]{36})\ +#\ (.*)$ ]] || continue
    printf -v "${BASH_REMATCH[1]}_id" %s "${BASH_REMATCH[2]}"
    printf -v "${BASH_REMATCH[1]}_dir" %s "${BASH_REMATCH[3]}"
    export "${BASH_REMATCH[1]}_id" "${BASH_REMATCH[1]}_dir"
  done <"$BATS_TEST_TMPDIR/sandbox.up"
}

# sandbox ARGUMENT...: a subcommand on this test's sandbox, e.g. `sandbox fault status status=503`, `sandbox log`.
sandbox() {
  "${GLOBUSWRAP:-globuswrap}" sandbox "$1" --base "${BATS_TEST_TMPDIR:?}/sandbox" "${@:2}"
}

sandbox_stop() {
  [[ -f ${BATS_TEST_TMPDIR:?}/sandbox/address ]] || return 0
  local unserved=0
  sandbox log --unknown >&2 || unserved=$?
  sandbox down >/dev/null || return
  return "$unserved"
}
