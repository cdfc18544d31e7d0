#!/usr/bin/env bats
# recipes/share-data.sh against the sandbox.
# shellcheck disable=SC2154 # archive_dir and the like are set by sandbox_start

load helper
load sandbox

SCRIPT=$REPOSITORY/recipes/share-data.sh

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

start() {
  sandbox_start --collection archive --collection share:guest
  mkdir "$archive_dir/run 1"
  printf 'counts\n' >"$archive_dir/run 1/it's #1"
}

# bats test_tags=slow
@test "delivers, grants, prints an address, and can be run again" {
  start
  for _ in 1 2; do
    run --separate-stderr "$SCRIPT" --until +30d --receipts "$PWD/receipts" 'archive:/run 1' 'share:/for you/é/' 'group:Sandbox Users' all-users
    assert_status 0
  done
  assert_contains "$output" "keep   /for you/é/ r group:Sandbox Users"
  assert_contains "$output" "file-manager?origin_id=$share_id&origin_path=/for%20you/%C3%A9/"
  [[ $(<"$share_dir/for you/é/it's #1") == counts ]]
  [[ $(sandbox log | grep -c 'POST.*/access') -eq 2 ]]
  [[ $(find receipts -name '*.json' | wc -l) -eq 1 ]]
}

# bats test_tags=slow
@test "a transfer that fails grants nothing, deletes nothing, and says so with its exit status" {
  start
  mkdir "$share_dir/p"
  printf 'old\n' >"$share_dir/p/old"
  sandbox fault fail
  run --separate-stderr "$SCRIPT" --replace 'archive:/run 1' share:/p/ all-users
  assert_status 1
  assert_contains "$stderr" task-failed
  [[ -e $share_dir/p/old ]]
  [[ $(sandbox log | grep -c 'POST.*/access') -eq 0 ]]
}

@test "says how it is used" {
  run "$SCRIPT" --help
  assert_status 0
  assert_contains "$output" 'usage: share-data.sh'
  run "$SCRIPT" archive:/a share:/b
  assert_status 2
  run "$SCRIPT" --nonsense
  assert_status 2
  run "$SCRIPT" --until
  assert_status 2
}
