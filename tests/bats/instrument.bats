#!/usr/bin/env bats
# recipes/instrument.md: its code blocks, run as they stand in one shell, print what the document shows.
# shellcheck disable=SC2154 # archive_dir and the like are set by sandbox_start

load helper
load sandbox

setup_file() {
  load_globus
}

teardown_file() {
  unload_globus
}

setup() {
  isolate
  export GLOBUSWRAP=$LAUNCHER
  PATH=$REPOSITORY/bin:$REPOSITORY/.venv/bin:$PATH
  with_loaded_globus
  sandbox_start --collection archive --collection share:guest
  cp "$REPOSITORY/recipes/cleanup.sh" .
}

teardown() {
  sandbox_stop
}

# blocks FILE: writes every bash block to block.N, and the text block after it, if there is one, to expected.N.
blocks() {
  awk '
    /^```bash$/ { number++; file = "block." number; printf "" > file; printf "" > ("expected." number); next }
    /^```text$/ { file = "expected." number; next }
    /^```$/ { file = ""; next }
    file != "" { print > file }
  ' "$1"
}

# bats test_tags=slow
@test "the blocks of recipes/instrument.md print what it says" {
  blocks "$REPOSITORY/recipes/instrument.md"
  local number=0
  while [[ -e block.$((number + 1)) ]]; do
    number=$((number + 1))
    # Through a pipe: a loaded globus cannot share the place in a file.
    # shellcheck source=/dev/null
    source "./block.$number" > >(cat >"output.$number")
    wait $!
    diff "expected.$number" "output.$number"
  done
  [[ $number -eq 6 ]]
  # The cleanup has deleted the scans at the instrument, and nothing else.
  [[ -z $(ls -A "$archive_dir/inbox") ]]
  [[ $(<"$share_dir/scans/it's scan #1/it's scan #1.h5") == counts ]]
  [[ $(<"$share_dir/scans/scan 2/scan 2.h5") == 'more counts' ]]
  # Two scans, two transfers and two that compare once more, two permissions, two ingests: nothing twice.
  [[ $(sandbox log | grep -c 'POST.*/transfer$\|POST.*/transfer ') -eq 4 ]]
  [[ $(sandbox log | grep -c 'POST.*/access') -eq 2 ]]
  [[ $(sandbox log | grep -c 'POST.*/ingest') -eq 2 ]]
}

@test "the unit runs a command that globuswrap understands" {
  local line unit=$REPOSITORY/recipes/systemd/globuswrap-watch.service
  line=$(sed -n 's/^ExecStart=[^ ]* watch //p' "$unit")
  mkdir inbox
  read -r -a words <<<"${line/\/data\/inbox/inbox}"
  # The command is what comes after --, so an option of the watcher goes before.
  run "$LAUNCHER" watch --dry-run "${words[@]}"
  assert_status 0
  grep -q '^KillMode=process$' "$unit"
}
