#!/usr/bin/env bats
# recipes/cleanup.sh against the sandbox.
# shellcheck disable=SC2154 # archive_dir and the like are set by sandbox_start

load helper
load sandbox

SCRIPT=$REPOSITORY/recipes/cleanup.sh

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
}

teardown() {
  sandbox_stop
}

# bats test_tags=slow
@test "removes from the source what was delivered, keeps what was not, and of two copies one" {
  sandbox_start --collection archive --collection share:guest
  # The service's time goes ahead of the files': what is to count as older than a task has to be so by more than a second.
  sandbox clock 3600
  mkdir "$archive_dir/run"
  printf 'counts\n' >"$archive_dir/run/it's #1"
  "$REPOSITORY/recipes/share-data.sh" archive:/run share:/run/ all-users
  printf 'late\n' >"$archive_dir/run/late"
  touch -d '2 hours' "$archive_dir/run/late"
  run --separate-stderr "$SCRIPT" --older-than 0 archive:/run/
  assert_status 0
  assert_contains "$output" "delete  /run/it's #1"
  [[ -e "$archive_dir/run/it's #1" ]]
  run --separate-stderr "$SCRIPT" --older-than 0 --yes archive:/run/ share:/run/
  assert_status 0
  assert_contains "$output" "keep    /run/late  ("
  [[ ! -e "$archive_dir/run/it's #1" && -e "$archive_dir/run/late" && -e "$share_dir/run/it's #1" ]]
  run --separate-stderr "$SCRIPT" --older-than 90d share:/run/
  assert_contains "$output" '0 files'
}

@test "refuses what is not bounded, and says how it is used" {
  run "$SCRIPT" --help
  assert_status 0
  assert_contains "$output" 'usage: cleanup.sh'
  run "$SCRIPT"
  assert_status 2
  run "$SCRIPT" --yes aaaaaaaa-0000-4000-8000-000000000001:/
  assert_status 2
  assert_contains "$output" refused-root
}
