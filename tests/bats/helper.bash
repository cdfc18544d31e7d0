# shellcheck shell=bash
# What every bats file shares: `load helper`, then `isolate` in setup().
# shellcheck disable=SC2154 # status, output, lines and stderr are set by run

bats_require_minimum_version 1.7.0

REPOSITORY=$(cd "${BATS_TEST_DIRNAME%/tests/bats*}" && pwd)
LAUNCHER=$REPOSITORY/bin/globuswrap
# shellcheck disable=SC2034 # for the tests; not exported, since the tools of `make` listen to it
PYTHON=$REPOSITORY/.venv/bin/python
export REPOSITORY LAUNCHER

# A home directory of its own, a PATH of the system alone, and nothing inherited that steers globuswrap, the globus
# command, a scheduler or the shell.
isolate() {
  local name
  for name in $(compgen -v); do
    case $name in
      GLOBUS* | XDG_* | SLURM_* | SBATCH_* | PBS_* | BASH_ENV | CDPATH | PS1 | PYTHON?*) unset "$name" ;;
    esac
  done
  export HOME=$BATS_TEST_TMPDIR/home
  export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
  export LC_ALL=C.UTF-8
  export NO_PROXY=127.0.0.1,localhost
  export PIP_CACHE_DIR=$BATS_RUN_TMPDIR/pip # of all tests together: each installation downloads nothing again
  mkdir -p "$HOME"
  cd "$BATS_TEST_TMPDIR" || return
}

# For files whose subject is not how `globus` is started: load_globus in setup_file, unload_globus in teardown_file, and
# with_loaded_globus in setup, after isolate. It is loaded once, and forked for each command (tests/py/forked.py).
load_globus() {
  local said=$BATS_FILE_TMPDIR/loaded-globus
  "$PYTHON" -c 'import signal, sys
sys.path.insert(0, sys.argv[1])
from forked import Forked
from globus_sandbox.launch import ENVIRONMENT
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with Forked("globus", {"GLOBUS_SDK_ENVIRONMENT": ENVIRONMENT}) as loaded, open(sys.argv[2], "w") as said:
    print(loaded.path, file=said, flush=True)
    signal.pause()' "$REPOSITORY/tests/py" "$said" </dev/null >/dev/null 2>"$said.log" 3>&- &
  export LOADING=$!
  until [[ -s $said ]]; do
    kill -0 "$LOADING" || { cat "$said.log" >&2 && return 1; }
    sleep 0.05
  done
  LOADED_GLOBUS=$(<"$said")
  export LOADED_GLOBUS
}

with_loaded_globus() {
  PATH=${LOADED_GLOBUS%/*}:$PATH
}

unload_globus() {
  kill "$LOADING"
  wait "$LOADING"
}

# need PROGRAM [WHY]: without it the test is skipped with its reason, and fails where CI=true.
need() {
  command -v "$1" >/dev/null && return
  if [[ ${CI-} == true ]]; then
    printf 'CI=true, and no %s here%s\n' "$1" "${2:+: $2}" >&2
    return 1
  fi
  skip "no $1 here${2:+: $2}"
}

# A directory with links to these programs only, to be a whole PATH.
only_programs() {
  local directory=$BATS_TEST_TMPDIR/only-programs program
  mkdir -p "$directory"
  for program in "$@"; do
    ln -sf "$(command -v "$program")" "$directory/$program"
  done
  printf '%s\n' "$directory"
}

# The assertions print what they saw: bats shows it when they fail.
assert_status() {
  [[ $status == "$1" ]] && return
  printf 'status %s, not %s; output:\n%s\n%s\n' "$status" "$1" "$output" "${stderr-}" >&2
  return 1
}

assert_line() {
  local line
  for line in ${lines[@]+"${lines[@]}"}; do
    [[ $line != "$1" ]] || return 0
  done
  printf 'no line is "%s" in:\n%s\n' "$1" "$output" >&2
  return 1
}

assert_contains() {
  [[ $1 == *"$2"* ]] && return
  printf 'no "%s" in:\n%s\n' "$2" "$1" >&2
  return 1
}
