#!/usr/bin/env bats
# What `make` relies on: finding a Python, naming what is missing, installing and removing.
# shellcheck disable=SC2016,SC2088 # scripts that are written to files
# shellcheck disable=SC2154 # stderr and stderr_lines are set by run --separate-stderr

load helper

setup() {
  isolate
}

script() { # FILE, its text on standard input
  mkdir -p "${1%/*}"
  cat >"$1"
  chmod +x "$1"
}

@test "need: what is here needs nothing" {
  run "$REPOSITORY/tools/need" sh cat
  assert_status 0
  [[ -z $output ]]
}

@test "need: root gets it installed, once, without questions" {
  [[ $EUID == 0 ]] || skip "not root"
  script bin/apt-get <<<'#!/bin/sh
printf "%s %s\n" "$DEBIAN_FRONTEND" "$*" >>calls
case $* in *no-such-program*) printf "#!/bin/sh\n" >bin/no-such-program && chmod +x bin/no-such-program ;; esac'
  PATH=$PWD/bin:$PATH run "$REPOSITORY/tools/need" sh no-such-program
  assert_status 0
  [[ $(<calls) == "noninteractive update -q
noninteractive install -y -q --no-install-recommends no-such-program" ]]
}

@test "need: anyone else is told the one command" {
  script bin/apt-get <<<'#!/bin/sh
exit 99'
  chmod 755 . bin
  as_nobody=()
  if ((EUID == 0)); then
    need setpriv
    as_nobody=(setpriv --reuid 65534 --clear-groups)
  fi
  # The script on standard input: nobody may not read the checkout.
  run ${as_nobody[@]+"${as_nobody[@]}"} env PATH="$PATH" bash -s -- no-such-program sh <"$REPOSITORY/tools/need"
  assert_status 2
  [[ ${#lines[@]} == 2 ]]
  assert_contains "${lines[0]}" "missing on this system: no-such-program"
  assert_contains "${lines[1]}" no-such-program
}

@test "make: what the system lacks is said first, all of it, and nothing is made" {
  mkdir checkout
  cp -R "$REPOSITORY"/{Makefile,tools,requirements,pyproject.toml} checkout
  programs=$(only_programs make bash sh env sed)
  for target in check test test-rest; do
    run env -i PATH="$programs" make -j4 --no-print-directory -C checkout "$target"
    assert_status 2
    [[ ${lines[0]} == "make: missing on this system: "* && ${lines[1]} == "  remedy: "* && ${#lines[@]} == 3 ]]
    [[ ! -e checkout/.venv ]]
    case $target in
      check) assert_contains "${lines[0]}" "shellcheck shfmt" ;;
      *) assert_contains "${lines[0]}" "shellcheck shfmt bats " && assert_contains "${lines[0]}" zsh ;;
    esac
  done
}

@test "find-python: the first that runs, is new enough and makes environments" {
  script bin/python3 <<<'#!/bin/sh
exit 127'
  script bin/python3.13 <<<'#!/bin/sh
exit 1'
  script bin/python3.12 <<<"#!/bin/sh
exec '$PYTHON' \"\$@\""
  PATH=$PWD/bin:$PATH run "$REPOSITORY/tools/find-python"
  assert_status 0
  [[ $output == "$PWD/bin/python3.12" ]]
  PYTHON=$PYTHON run "$REPOSITORY/tools/find-python"
  [[ $output == "$PYTHON" ]]
}

@test "find-python: one that cannot make environments is named, with the package it lacks" {
  script bin/python3 <<<'#!/bin/sh
case $2 in *version_info*ensurepip*) exit 3 ;; esac
echo 3.12'
  for name in python3.{10..14}; do
    script "bin/$name" <<<'#!/bin/sh
exit 127'
  done
  # The list ends with the distribution's own, which may well be fit.
  sed 's| /usr/bin/python3;|;|' "$REPOSITORY/tools/find-python" >find-python
  PATH=$PWD/bin:$PATH run --separate-stderr sh find-python
  assert_status 2
  [[ -z $output && ${#stderr_lines[@]} == 2 ]]
  assert_contains "${stderr_lines[1]}" "apt-get install python3.12-venv"
}

@test "lint-shell: a badly formed script fails" {
  mkdir -p project/{bin,lib,recipes,tests,tools,.ci}
  cp "$REPOSITORY/tools/lint-shell" project/tools/
  script project/recipes/job <<<'#!/bin/bash
cd $1'
  need shellcheck
  need shfmt
  run project/tools/lint-shell
  assert_status 1
  assert_contains "$output" "In recipes/job line 2"
  script project/recipes/job <<<'#!/bin/bash
   cd "$1" || exit'
  run project/tools/lint-shell
  assert_status 1
  assert_contains "$output" "-   cd"
}

# bats test_tags=slow
@test "install: what it did not make it does not touch" {
  mkdir -p prefix/libexec/globuswrap
  touch prefix/libexec/globuswrap/precious
  run "$REPOSITORY/tools/install" "$PWD/prefix"
  assert_status 2
  [[ -f prefix/libexec/globuswrap/precious ]]
  run "$REPOSITORY/tools/install" --remove "$PWD/prefix"
  assert_status 2
  HOME=$PWD run "$REPOSITORY/tools/install" --remove "~/prefix"
  assert_status 2
  assert_contains "$output" "is installed under $PWD/prefix"
  [[ -f prefix/libexec/globuswrap/precious ]]
}
