#!/usr/bin/env bash
# Make an environment for each version of globus-cli below, once, and run every command of the list against the sandbox with it.
#
# usage: tests/versions.sh [--write | --make]
#   --write   also write what was seen to docs/sandbox/commands.md
#   --make    make the environments and do no more
#
# The environments are kept in .venvs/ of the checkout. The newest version is the one of .venv.
set -Eeuo pipefail
export LC_ALL=C.UTF-8
unset CDPATH BASH_ENV

if [[ ${1-} == --help || ${1-} == -h ]]; then
  sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 0
fi

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=$PWD/.venv/bin/python
[[ -x $python ]] || {
  printf '%s\n' 'no .venv here: run make venv' >&2
  exit 2
}

make_environment() { # VERSION
  local home=.venvs/globus-$1 older=()
  [[ -x $home/bin/globus ]] && return
  rm -rf "$home"
  "$python" -m venv --without-pip "$home"
  # Versions before 3.31 do not start with the click of today.
  [[ $1 != 3.2* && $1 != 3.30* ]] || older=(click==8.1.7 setuptools'<81')
  "$python" -m pip --python "$home/bin/python" install --quiet --disable-pip-version-check "globus-cli==$1" ${older[@]+"${older[@]}"} || {
    rm -rf "$home"
    printf 'globus-cli %s cannot be installed here\n' "$1" >&2
    return 1
  }
}

versions=(3.27.0 3.30.1 3.36.0)
making=()
for version in "${versions[@]}"; do
  make_environment "$version" &
  making+=($!)
done
for pid in "${making[@]}"; do wait "$pid"; done
[[ ${1-} != --make ]] || exit 0

if [[ ${1-} == --write ]]; then
  export GLOBUSWRAP_TEST_WRITE=1
fi
export GLOBUSWRAP_TEST_VERSIONS=all
exec "$python" -m pytest -q -m versions tests/py
