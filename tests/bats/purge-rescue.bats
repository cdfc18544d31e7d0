#!/usr/bin/env bats
# recipes/purge-rescue.sh against the sandbox: what is in the archive, and what is left on scratch.
# shellcheck disable=SC2154 # archive_dir and the like are set by sandbox_start

load helper
load sandbox

SCRIPT=$REPOSITORY/recipes/purge-rescue.sh

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
@test "what is on the list is archived, compared, and deleted; the rest stays, and what changed meanwhile" {
  sandbox_start
  sandbox clock 3600
  mkdir -p "$scratch_dir/me/deep" "$scratch_dir/other"
  printf 'one\n' >"$scratch_dir/me/it's #1"
  printf 'two\n' >"$scratch_dir/me/deep/two"
  printf 'kept\n' >"$scratch_dir/me/not on the list"
  printf '%s\n' "/me/it's #1" /me/deep/two /me/gone-already >list
  run --separate-stderr "$SCRIPT" list scratch:/me archive:/rescued
  assert_status 0
  assert_contains "$output" "delete  /me/it's #1"
  [[ $(<"$archive_dir/rescued/it's #1") == one && -e "$scratch_dir/me/it's #1" ]]
  printf 'changed\n' >"$scratch_dir/me/deep/two"
  touch -d '3 hours' "$scratch_dir/me/deep/two"
  # As if the change came between the two steps: only the deletion is run, with what the batch recorded.
  run --separate-stderr "$LAUNCHER" cleanup --under scratch:/me --yes
  assert_status 0
  [[ ! -e "$scratch_dir/me/it's #1" && -e "$scratch_dir/me/deep/two" && -e "$scratch_dir/me/not on the list" ]]
  [[ $(<"$archive_dir/rescued/deep/two") == two ]]
}

# bats test_tags=slow
@test "with --yes at once, from a list with NUL; and nothing that another receipt proves but the list does not name" {
  sandbox_start
  sandbox clock 3600
  mkdir -p "$scratch_dir/me"
  printf 'one\n' >"$scratch_dir/me/one"
  printf 'two\n' >"$scratch_dir/me/two"
  "$LAUNCHER" transfer scratch:/me/two archive:/two --wait --receipt-files
  printf 'one\0' >list
  run --separate-stderr "$SCRIPT" --null --yes list scratch:/me archive:/rescued
  assert_status 0
  [[ ! -e $scratch_dir/me/one && -e $scratch_dir/me/two && $(<"$archive_dir/rescued/one") == one ]]
}

@test "says how it is used, and does nothing for an empty list" {
  run "$SCRIPT" --help
  assert_status 0
  assert_contains "$output" 'usage: purge-rescue.sh'
  run "$SCRIPT" list
  assert_status 2
  : >list
  run "$SCRIPT" list aaaaaaaa-0000-4000-8000-000000000001:/x aaaaaaaa-0000-4000-8000-000000000002:/y
  assert_status 0
}
