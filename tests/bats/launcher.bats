#!/usr/bin/env bats
# bin/globuswrap finds its package and its Python from wherever and however it is called.
#
# Most tests use a tree of its own with a package that says how it was started.
# shellcheck disable=SC2016 # arguments that must arrive unexpanded
# shellcheck disable=SC2154 # stderr and stderr_lines are set by run --separate-stderr

load helper

setup() {
  isolate
  tree="$BATS_TEST_TMPDIR/a tree's \"root\""
  make_tree "$tree"
}

make_tree() { # ROOT
  mkdir -p "$1/bin" "$1/lib/globuswrap/cli" "$1/.venv/bin"
  cp "$LAUNCHER" "$1/bin/globuswrap"
  touch "$1/lib/globuswrap/__init__.py" "$1/lib/globuswrap/errors.py" "$1/lib/globuswrap/cli/__init__.py"
  cat >"$1/lib/globuswrap/cli/main.py" <<'PYTHON'
import collections
import json
import os
import sys

import globuswrap


def main():
    say = sys.argv[1] if len(sys.argv) > 1 else "root"
    if say == "root":
        print(os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(globuswrap.__file__)))))
    elif say == "arguments":
        json.dump(sys.argv[2:], sys.stdout)
    elif say == "self":
        print(sys.argv[0])
    elif say == "python":
        print(os.environ.get("WHICH_PYTHON"))
    elif say == "path":
        print("\n".join(repr(entry) for entry in sys.path))
    elif say == "encoding":
        print(sys.getfilesystemencoding(), ascii(sys.argv[2]))
    elif say == "environment":
        print(" ".join(sorted(set(os.environ) - {"PWD", "LC_CTYPE", "_", "SHLVL", "OLDPWD"})))
    elif say == "process":
        print(os.getpid())
    elif say == "input":
        print(sys.stdin.read())
    return 7 if say == "seven" else 0
PYTHON
  make_python "$1/.venv/bin/python" environment
}

# A Python that says which it is.
make_python() { # FILE NAME
  mkdir -p "${1%/*}"
  printf '#!/bin/sh\nWHICH_PYTHON=%s exec "%s" "$@"\n' "$2" "$PYTHON" >"$1"
  chmod +x "$1"
}

# What it says in $output is the real root of our tree.
assert_our_root() {
  assert_status 0
  [[ $output == "$(cd -P "$tree" && pwd)" ]] || {
    printf 'another root: %s\n' "$output" >&2
    return 1
  }
}

@test "from a checkout, unactivated, by its full path" {
  run "$LAUNCHER" --version
  assert_status 0
  assert_contains "$output" "globuswrap 0."
}

@test "a path with a space and quotes" {
  run "$tree/bin/globuswrap"
  assert_our_root
}

@test "from another directory, by a relative path" {
  mkdir -p elsewhere/deep
  cd elsewhere/deep
  run "../../${tree##*/}/bin/globuswrap"
  assert_our_root
  cd "$tree/bin"
  run ./globuswrap
  assert_our_root
  run sh globuswrap
  assert_our_root
  cd "$tree/lib"
  run ../bin/globuswrap
  assert_our_root
}

@test "found on PATH" {
  PATH=$tree/bin:$PATH run globuswrap
  assert_our_root
  cd "$tree"
  PATH=bin:$PATH run globuswrap
  assert_our_root
}

@test "through a symbolic link" {
  ln -s "$tree/bin/globuswrap" gw
  run ./gw
  assert_our_root
}

@test "through a chain of links, absolute and relative, and linked directories" {
  mkdir -p "one dir" two three
  ln -s "$tree" tree
  ln -s ../tree/bin/globuswrap "one dir/first"
  ln -s "../one dir/first" two/second
  ln -s "$PWD/two" three/two
  ln -s three/two/second globuswrap
  run ./globuswrap
  assert_our_root
  PATH=$PWD:$PATH run globuswrap
  assert_our_root
  cd three
  run ../globuswrap
  assert_our_root
}

@test "a linked bin directory" {
  ln -s "$tree/bin" bin
  run ./bin/globuswrap
  assert_our_root
}

@test "it knows its own place, links resolved" {
  ln -s "$tree/bin/globuswrap" gw
  run ./gw self
  [[ $output == "$tree/bin/globuswrap" ]]
}

@test "with no environment at all" {
  run env -i "$tree/bin/globuswrap"
  assert_our_root
  cd "$tree"
  run env -i bin/globuswrap
  assert_our_root
}

@test "it leaves nothing in the environment" {
  run env -i KEPT=1 "$tree/bin/globuswrap" environment
  assert_status 0
  [[ $output == "KEPT WHICH_PYTHON" ]]
}

@test "variables that the user has exported reach the program as they were" {
  local name
  while read -r name; do
    run env -i "$name=theirs" "$tree/bin/globuswrap" environment
    assert_status 0
    [[ $output == *"$name"* ]] || continue
    [[ $name == _gw_* ]] || { echo "the launcher uses \$$name" && return 1; }
  done < <(grep -oE '^ *[a-z_]+=' "$tree/bin/globuswrap" | tr -d ' =' | sort -u)
}

@test "arguments arrive as they are" {
  run "$tree/bin/globuswrap" arguments "" "a b" "-c" "--" '$(date)' "new
line" '*' -I
  assert_status 0
  [[ $output == '["", "a b", "-c", "--", "$(date)", "new\nline", "*", "-I"]' ]]
}

@test "its exit status and its input are the program's, in the same process" {
  run "$tree/bin/globuswrap" seven
  assert_status 7
  run "$tree/bin/globuswrap" input <<<"given"
  [[ $output == given* ]]
  "$tree/bin/globuswrap" process >pid &
  wait "$!"
  [[ $(<pid) == "$!" ]]
}

@test "files of the current directory are not imported" {
  for name in collections json os sys typer globuswrap; do
    printf 'raise SystemExit("the wrong %s")\n' "$name" >"$name.py"
  done
  run "$tree/bin/globuswrap"
  assert_our_root
  GLOBUSWRAP_PYTHON=$PYTHON run "$tree/bin/globuswrap"
  assert_our_root
  GLOBUSWRAP_PYTHON=$PYTHON run "$tree/bin/globuswrap" path
  assert_status 0
  [[ $output != *"''"* ]]
}

@test "what a module load sets for another Python does not reach ours" {
  mkdir broken
  printf 'raise SystemExit("the wrong json")\n' >broken/json.py
  PYTHONPATH=$PWD/broken PYTHONHOME=/nowhere PYTHONSTARTUP=/nowhere run "$tree/bin/globuswrap"
  assert_our_root
}

@test "BASH_ENV is not read" {
  printf 'echo read; exit 9\n' >rc
  BASH_ENV=$PWD/rc ENV=$PWD/rc run "$tree/bin/globuswrap"
  assert_our_root
}

@test "names are UTF-8 in a job without a locale" {
  for locale in C POSIX en_US.ISO-8859-1; do
    LC_ALL=$locale run "$tree/bin/globuswrap" encoding é
    [[ $output == "utf-8 '\\xe9'" ]]
  done
}

@test "GLOBUSWRAP_PYTHON comes before the environment of the checkout" {
  make_python other/python other
  GLOBUSWRAP_PYTHON=$PWD/other/python run "$tree/bin/globuswrap" python
  [[ $output == other ]]
  run "$tree/bin/globuswrap" python
  [[ $output == environment ]]
  PATH=$PWD/other:$PATH GLOBUSWRAP_PYTHON=python run "$tree/bin/globuswrap" python
  [[ $output == other ]]
}

@test "GLOBUSWRAP_PYTHON that does not fit: one cause, one remedy, 2" {
  GLOBUSWRAP_PYTHON=/nowhere/python run "$tree/bin/globuswrap"
  assert_status 2
  assert_contains "$output" "/nowhere/python"
  assert_contains "${lines[1]}" "  remedy: unset GLOBUSWRAP_PYTHON"
  "$PYTHON" -m venv --without-pip bare
  GLOBUSWRAP_PYTHON=$PWD/bare/bin/python run "$tree/bin/globuswrap"
  assert_status 2
  assert_contains "${lines[0]}" "lacks sh, jmespath, typer"
  [[ ${#lines[@]} == 2 ]]
}

@test "without an environment a python3 on PATH that has the packages is used" {
  rm -r "$tree/.venv"
  mkdir path
  printf '#!/bin/sh\nexit 1\n' >path/python3
  chmod +x path/python3
  make_python path/python3.11 newer
  run env PATH="$PWD/path:$(only_programs sh)" "$tree/bin/globuswrap" python
  [[ $output == newer ]]
}

@test "no Python anywhere: one cause, one remedy, 2" {
  rm -r "$tree/.venv"
  run --separate-stderr env PATH="$(only_programs sh readlink)" "$tree/bin/globuswrap" --version
  assert_status 2
  [[ -z $output && ${#stderr_lines[@]} == 2 ]]
  assert_contains "$stderr" "globuswrap: no Python to run with"
  assert_contains "${stderr_lines[1]}" "  remedy: make -C '$tree' venv"
}

@test "an environment whose Python is gone is passed over" {
  ln -sf /nowhere/python3 "$tree/.venv/bin/python"
  run env PATH="$(only_programs sh readlink)" "$tree/bin/globuswrap"
  assert_status 2
  assert_contains "$output" "no Python to run with"
}

@test "installed under a prefix: its own environment, and nobody else's .venv or lib" {
  mkdir -p prefix/bin prefix/lib/globuswrap prefix/libexec
  cp "$LAUNCHER" prefix/bin/globuswrap
  make_python prefix/libexec/globuswrap/bin/python installed
  make_python prefix/.venv/bin/python foreign
  printf '#!/bin/sh\nprintf "%%s\\n" "$@" >&2; exit 3\n' >prefix/libexec/globuswrap/bin/python
  run prefix/bin/globuswrap --version
  assert_status 3
  assert_line -I
  assert_line "$BATS_TEST_TMPDIR/prefix/bin/globuswrap"
  assert_line --version
}
