#!/usr/bin/env bats
# recipes/batch.md: its code blocks, run as they stand in one shell, print what the document shows.
# shellcheck disable=SC2154 # archive_dir and the like are set by sandbox_start

load helper
load sandbox

setup() {
  isolate
  export GLOBUSWRAP=$LAUNCHER
  PATH=$REPOSITORY/bin:$REPOSITORY/.venv/bin:$PATH
  sandbox_start
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

# Ids differ from run to run.
ids_alike() {
  sed -E 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UUID/g' "$1"
}

@test "the blocks of recipes/batch.md print what it says" {
  blocks "$REPOSITORY/recipes/batch.md"
  local number=0
  while [[ -e block.$((number + 1)) ]]; do
    number=$((number + 1))
    # shellcheck source=/dev/null
    source "./block.$number" >"output.$number"
    diff <(ids_alike "expected.$number") <(ids_alike "output.$number")
  done
  [[ $number -eq 9 ]]
  [[ ! -e $archive_dir/runs/monday && ! -e $archive_dir/runs/tuesday ]]
  [[ $(<"$scratch_dir/both/dark.2.h5") == 'another dark field' ]]
  [[ $(<"$scratch_dir/both/raw/operator's scan.h5") == 'scan two' ]]
  # Three submissions of the batches, one of them the verification, and the deletion.
  [[ $(sandbox log | grep -c 'POST.*/transfer') -ge 3 ]]
}
