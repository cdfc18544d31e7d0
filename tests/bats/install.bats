#!/usr/bin/env bats
# What an installation brings besides the command: man pages, completion, modulefiles; and that uninstalling takes it away.
# That it serves others is in readme.bats.
# shellcheck disable=SC2016 # scripts for other shells
# shellcheck disable=SC2119,SC2120 # run passes the arguments
# shellcheck disable=SC2154 # status and output are set by run

load helper

# From a checkout that nobody may write to and that is gone afterwards, under a prefix that has to be quoted.
setup_file() {
  export INSTALLED="$BATS_FILE_TMPDIR/opt & co/globuswrap" CHECKOUT=$BATS_FILE_TMPDIR/checkout
  mkdir -p "$CHECKOUT/recipes"
  cp -R "$REPOSITORY"/{bin,lib,docs,share,tools,requirements,pyproject.toml,README.md,CHANGELOG.md,LICENSE} "$CHECKOUT"
  chmod -R a-w "$CHECKOUT"
  HOME=$BATS_FILE_TMPDIR PIP_CACHE_DIR=$BATS_RUN_TMPDIR/pip PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin "$CHECKOUT/tools/install" "$INSTALLED" >"$BATS_FILE_TMPDIR/installing" 2>&1 || {
    cat "$BATS_FILE_TMPDIR/installing" >&2
    return 1
  }
  chmod -R u+w "$CHECKOUT"
  mv "$CHECKOUT" "$CHECKOUT.gone"
}

setup() {
  isolate
}

# bats test_tags=slow
@test "it is complete without the checkout and any environment" {
  run env -i "$INSTALLED/bin/globuswrap" --version
  assert_status 0
  assert_contains "$output" "globuswrap 0."
  [[ -x $INSTALLED/libexec/globuswrap/bin/globus ]]
  [[ -f $INSTALLED/share/globuswrap/README.md ]]
}

# bats test_tags=slow
@test "one that fails in the middle leaves what was there as it was" {
  cp -a "$INSTALLED" copy
  cp -R "$CHECKOUT.gone" broken
  rm broken/requirements/dev.txt
  run broken/tools/install "$PWD/copy"
  assert_status 1
  assert_contains "$output" "the installation before it is still there"
  run env -i copy/bin/globuswrap --version
  assert_status 0
}

# bats test_tags=slow
@test "there is a globus that messages can name, and the end says what to do next" {
  globus=$(PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:$INSTALLED/bin command -v globus)
  run "$globus" --help
  assert_status 0
  said=$(<"$BATS_FILE_TMPDIR/installing")
  assert_contains "$said" "Its globus command is $globus."
  next=$(sed -n '/^Next:$/,$s/^  //p' <<<"$said" | sed 's/ *#.*//')
  printf -v path 'export PATH=%q:"$PATH"' "$INSTALLED/bin"
  [[ $next == "$path
globuswrap sandbox shell
globus login
globuswrap init" ]]
  run bash -c "$path; globuswrap --version"
  assert_status 0
}

# bats test_tags=slow
@test "over one that is there; a file of another's at the place of its globus stays" {
  cp -a "$INSTALLED" copy
  rm copy/bin/globus
  sed -i '/^bin\/globus$/d' copy/libexec/globuswrap/installed-files
  printf 'theirs\n' >copy/bin/globus
  run "$REPOSITORY/tools/install" "$PWD/copy"
  assert_status 0
  assert_contains "$output" "  $PWD/copy/libexec/globuswrap/bin/globus login"
  run "$REPOSITORY/tools/install" --remove "$PWD/copy"
  [[ $(<copy/bin/globus) == theirs ]]
  rm copy/bin/globus
  [[ -z $(find copy -mindepth 1 ! -type d) ]]
  run "$REPOSITORY/tools/install" --remove "$PWD/copy"
  assert_status 2
  assert_contains "$output" "no globuswrap is installed"
}

# bats test_tags=slow
@test "the Python of an installation imports globuswrap" {
  run "$INSTALLED/libexec/globuswrap/bin/python" -c 'import globuswrap; print(globuswrap.history.__name__, len(dir(globuswrap)) > 20)'
  assert_status 0
  [[ $output == "history True" ]]
}

# bats test_tags=slow
@test "man finds a page for the command and for each subcommand, by PATH alone" {
  need man
  for page in globuswrap globuswrap-transfer globuswrap-sync globuswrap-sandbox; do
    PATH=$INSTALLED/bin:$PATH run man -w "$page"
    assert_status 0
    [[ $output == "$INSTALLED/share/man/man1/$page.1"* ]]
  done
  run env MANPATH="$INSTALLED/share/man" man globuswrap-transfer
  assert_status 0
  assert_contains "$output" "--sync-level"
}

# bats test_tags=slow
@test "bash completes commands and options with the installed file" {
  script='source "$INSTALLED/share/bash-completion/completions/globuswrap"
    complete -p globuswrap
    PATH=$INSTALLED/bin:$PATH COMP_WORDS=(globuswrap tra) COMP_CWORD=1 COMP_LINE="globuswrap tra" COMP_POINT=14
    _globuswrap && printf "%s\n" "${COMPREPLY[@]}"
    COMP_LINE="globuswrap transfer --sync-l" COMP_POINT=28
    _globuswrap && printf "%s\n" "${COMPREPLY[@]}"'
  run bash -c "$script"
  assert_status 0
  assert_contains "$output" "-F _globuswrap globuswrap"
  assert_line transfer
  assert_line --sync-level
  [[ $(head -n 1 "$INSTALLED/share/zsh/site-functions/_globuswrap") == "#compdef globuswrap" ]]
}

# What loading the modulefile does, as `set NAME VALUE` and `prepend NAME VALUE` lines.
loaded_by_tcl() { # [NAME=VALUE...]
  cat >modules.tcl <<'TCL'
proc prepend-path {name value} { puts "prepend $name $value" }
proc module-whatis {text} {}
proc conflict {name} {}
source [lindex $argv 0]
TCL
  env -i PATH="$PATH" "$@" tclsh modules.tcl "$INSTALLED/share/modulefiles/globuswrap/0.1.0"
}

# bats test_tags=slow
@test "the modulefile knows the prefix, and hides no man page of the system" {
  need tclsh
  run loaded_by_tcl
  assert_status 0
  [[ $output == "prepend PATH $INSTALLED/bin
prepend XDG_DATA_DIRS /usr/share
prepend XDG_DATA_DIRS /usr/local/share
prepend XDG_DATA_DIRS $INSTALLED/share" ]]
  run loaded_by_tcl MANPATH=/a XDG_DATA_DIRS=/b
  [[ $output == "prepend PATH $INSTALLED/bin
prepend MANPATH $INSTALLED/share/man
prepend XDG_DATA_DIRS $INSTALLED/share" ]]
  [[ $(head -c 9 "$INSTALLED/share/modulefiles/globuswrap/0.1.0") == "#%Module1" ]]
}

# bats test_tags=slow
@test "the modulefile for Lmod says the same" {
  lua=$INSTALLED/share/modulefiles/globuswrap/0.1.0.lua
  tcl=${lua%.lua}
  [[ $(grep -c @PREFIX@ "$lua" "$tcl" | cut -d: -f2 | sort -u) == 0 ]]
  said_in_lua=$(sed -n 's/^ *prepend_path("\([A-Z_]*\)", \(.*\))$/\1 \2/p' "$lua" | sed 's/prefix .. "\(.*\)"/$prefix\1/; s/"//g')
  said_in_tcl=$(sed -n 's/^ *prepend-path \([A-Z_]*\) \(.*\)$/\1 \2/p' "$tcl" | tr -d '"')
  [[ -n $said_in_lua && $said_in_lua == "$said_in_tcl" ]]
  command -v lua >/dev/null || skip "no lua here: not run"
  printf 'function help() end; whatis = help; conflict = help\nfunction prepend_path(n, v) print("prepend " .. n .. " " .. v) end\n' >modules.lua
  run env -i PATH="$PATH" lua -e "dofile('modules.lua'); dofile([[$lua]])"
  [[ $output == "$(loaded_by_tcl)" ]]
}

# bats test_tags=slow
@test "the version of the modulefile is that of the command" {
  version=$("$INSTALLED/bin/globuswrap" --version)
  [[ -f $INSTALLED/share/modulefiles/globuswrap/${version#globuswrap } ]]
  [[ -f $INSTALLED/share/modulefiles/globuswrap/${version#globuswrap }.lua ]]
}

# bats test_tags=slow
@test "uninstall removes all of it, and nothing that is another's" {
  cp -a "$INSTALLED" "$PWD/copy"
  touch copy/share/man/man1/theirs.1 copy/bin/theirs
  run make -C "$REPOSITORY" uninstall PREFIX="$PWD/copy"
  assert_status 0
  [[ $(find copy -type f -o -type l | sort) == "copy/bin/theirs
copy/share/man/man1/theirs.1" ]]
}
