#!/usr/bin/env bats
# The demo: what a newcomer runs first. It must end well, say what it did, and be able to fail.

load helper

setup_file() {
  load_globus
}

teardown_file() {
  unload_globus
}

setup() {
  isolate
}

@test "the demo compares every byte and shows the commands and requests" {
  run "$REPOSITORY/recipes/demo/run.sh" --verbose
  assert_status 0
  # The same numbers wherever they stand, and something is said before anything takes long.
  [[ ${lines[0]} == "== starting a local Globus"* ]]
  [[ $output == *"archive: 280 files, 2.9 MiB"*"(280 files, 2.9 MiB)"*"(281 files, 2.9 MiB)"* ]]
  [[ $output == *"copied in:   280 files, checksums equal"*"computed on: 280 files, checksums equal"* ]]
  [[ $output == *"copied out:  281 files, checksums equal: 280 results, and the list of checksums"* ]]
  [[ $output == *"+ "*"globus transfer --submission-id "* ]]
  [[ $output == *"POST"*"/transfer"* ]]
}

# bats test_tags=slow
@test "a job that gets one byte wrong makes the demo fail" {
  with_loaded_globus
  mkdir -p other/recipes/demo other/bin
  ln -s "$LAUNCHER" other/bin/globuswrap
  cp "$REPOSITORY/recipes/demo/run.sh" other/recipes/demo/
  sed 's/^count=0$/count=0; trap "printf x >>..\/out\/shouted\/empty" EXIT/' "$REPOSITORY/recipes/demo/job.sh" >other/recipes/demo/job.sh
  chmod +x other/recipes/demo/job.sh
  run other/recipes/demo/run.sh
  assert_status 1
  [[ $output == *"what was staged out: not what it should be"* ]]
}

# bats test_tags=slow
@test "a job that fails makes the demo fail" {
  with_loaded_globus
  mkdir -p other/recipes/demo other/bin
  ln -s "$LAUNCHER" other/bin/globuswrap
  cp "$REPOSITORY/recipes/demo/run.sh" other/recipes/demo/
  sed 's/^count=0$/exit 7/' "$REPOSITORY/recipes/demo/job.sh" >other/recipes/demo/job.sh
  chmod +x other/recipes/demo/job.sh
  run other/recipes/demo/run.sh
  assert_status 1
  [[ $output == *"the job failed: exit 7"* ]]
}

@test "an unknown option is refused" {
  run "$REPOSITORY/recipes/demo/run.sh" --fast
  assert_status 1
  [[ $output == *"unknown option: --fast"* ]]
}
