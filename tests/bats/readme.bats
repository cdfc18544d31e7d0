#!/usr/bin/env bats
# README.md as a newcomer follows it: every console block is run as it stands, from a fresh clone, and by a user that is
# not root with an installation that nobody can write to.
# shellcheck disable=SC2154 # status and output are set by run

load helper

setup() {
  isolate
}

# steps FILE [HEADING]: the commands of the console blocks (after a heading), and the job script where it stands, as one
# shell script.
steps() {
  awk -v from="${2-}" '
    from != "" && !on { on = ($0 == from); next }
    /^```/ { kind = inside ? "" : substr($0, 4); inside = !inside
             if (kind == "bash") print "cat >job.sh <<\"END OF JOB\""
             else if (was == "bash" && !inside) print "END OF JOB"
             was = kind; next }
    kind == "bash" { print }
    kind == "console" && /^[$] / { print "echo \"\\$ \"" quoted(substr($0, 3)); print substr($0, 3) }
    function quoted(text) { gsub(/\047/, "\047\\\047\047", text); return "\047" text "\047" }
  ' "$1"
}

# What the steps must have shown, whoever ran them.
assert_staged() {
  assert_status 0
  assert_contains "$output" $'results/run7/sorted.txt\n7\n12\n31\n'
  assert_contains "$output" "stage-in"
}

# bats test_tags=slow
@test "from a fresh clone: every step of the README, as it stands" {
  need git
  git clone -q "$REPOSITORY" clone
  # What is being worked on is what is tested.
  cp "$REPOSITORY"/README.md clone/
  cp -R "$REPOSITORY"/{bin,lib,tools,share,recipes,Makefile} clone/
  cd clone
  { printf 'set -eu\n' && steps README.md; } >"$BATS_TEST_TMPDIR/steps"
  [[ $(grep -c '^echo "\\\$ "' "$BATS_TEST_TMPDIR/steps") -ge 15 ]]
  # They have a globus already, which stays theirs.
  mkdir "$BATS_TEST_TMPDIR/bin"
  ln -s "$REPOSITORY/.venv/bin/globus" "$BATS_TEST_TMPDIR/bin/globus"
  PATH=$BATS_TEST_TMPDIR/bin:$PATH run bash "$BATS_TEST_TMPDIR/steps"
  assert_staged
  assert_contains "$output" "Its globus command is $BATS_TEST_TMPDIR/bin/globus."
  [[ ! -e $HOME/.local/bin/globus ]]
  assert_contains "$output" "every byte compared"
  assert_contains "$output" "globuswrap 0."
  [[ -x $HOME/.local/bin/globuswrap && -f $HOME/.local/share/man/man1/globuswrap.1 ]]
  [[ ! -e $HOME/.local/state/globuswrap/sandbox ]]
}

# bats test_tags=slow
@test "from an installed prefix: a user that is not root, nothing to write to" {
  ((EUID == 0)) || skip "not root: cannot become somebody else"
  need setpriv
  shared=$(mktemp -d)
  prefix=$shared/opt/globuswrap
  "$REPOSITORY/tools/install" "$prefix" >/dev/null
  chmod -R a-w "$shared"
  chmod 755 "$shared"
  mkdir "$BATS_TEST_TMPDIR/nobody"
  their=$(mktemp -d)
  { printf 'set -eu\n' && steps "$prefix/share/globuswrap/README.md" "## A staged job in five minutes"; } >"$their/steps"
  chown -R 65534:65534 "$their"
  cd "$their"
  before=$(find "$shared" | sort | sha256sum)
  run setpriv --reuid 65534 --regid 65534 --clear-groups \
    env -i PATH="$prefix/bin:/usr/bin:/bin" HOME="$their" TMPDIR="$their" bash "$their/steps"
  cd /
  printf '%s\n' "$output" >&2
  after=$(find "$shared" | sort | sha256sum)
  unwritten=0
  [[ $before == "$after" ]] || unwritten=1
  chmod -R u+w "$shared"
  rm -rf "$shared" "$their"
  assert_staged
  [[ $unwritten == 0 ]]
}

@test "the steps are what the README says" {
  cat >page.md <<'PAGE'
```console
$ not this
```
## Here
```console
$ echo "it's"
output
$ true
```
```bash
#!/bin/sh
echo "$1"
```
```console
$ sh job.sh yes
```
PAGE
  run bash -c "$(steps page.md '## Here')"
  assert_status 0
  [[ $output == "\$ echo \"it's\""$'\n'"it's"$'\n$ true\n$ sh job.sh yes\nyes' ]]
}
