"""Each defect that public examples and tools have been seen to have, and the test here that fails on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import REPOSITORY

#: What goes wrong there -> "file::test", one or several. A test of bats is named by the beginning of its title.
GUARDS: dict[str, tuple[str, ...]] = {
    "cli-sync.sh: a failed submission prints 'Submitted sync', saves an empty task id and exits 0": (
        "bats/cli-sync.bats::a submission that fails is not called submitted",
        "bats/cli-sync.bats::nonsense instead of an answer is not success",
    ),
    "cli-sync.sh: mirrored deletion is hard-wired on": (
        "bats/cli-sync.bats::deletion is off, and with --mirror only if the check file is there",
        "py/test_sync_deletion.py::test_without_delete_gone_files_stay_and_are_remembered",
    ),
    "cli-sync.sh: no lock": (
        "py/test_system_locks.py::test_of_many_takers_one_wins",
        "py/test_sync_run.py::test_two_that_both_believe_to_hold_the_lease_begin_one_run",
    ),
    "cli-sync.sh: state in the current directory": (
        "bats/cli-sync.bats::all well: silent, and the task is remembered",
        "py/test_sync_run.py::test_state_is_private",
    ),
    "cli-sync.sh: a 404 on an old task id wedges it": (
        "bats/cli-sync.bats::the last task gone",
        "py/test_sync_run.py::test_a_task_that_vanished_does_not_wedge",
    ),
    "batch.md: names with spaces are split": (
        "bats/recipe-batch.bats::the blocks of recipes/batch.md print what it says",
    ),
    "batch.md: a name present in both runs silently collides at the destination": (
        "py/test_batch_collisions.py::test_the_same_name_in_two_runs",
    ),
    "share-data.sh: fails when the permission exists": (
        "py/test_share_commands.py::test_share_data_sh_does_not_fail_when_the_permission_exists",
    ),
    "share-data.sh: deletes the destination before the new data is safe": (
        "py/test_share_commands.py::test_share_data_sh_does_not_delete_what_is_there_before_the_new_data_is_safe",
    ),
    "cleanup_cache.py: deletes the whole common directory of whatever was transferred": (
        "py/test_cleanup_commands.py::test_a_delivery_that_is_old_enough_goes_with_the_rules_that_pointed_there",
        "py/test_deletion_judge.py::test_no_path_without_a_matching_receipt_is_ever_deleted",
    ),
    "cleanup_cache.py: secrets in the source": (
        "py/test_service_accounts.py::test_the_account_of_the_file_acts_and_its_secret_is_nowhere",
    ),
    "watch.py: reacts to creation only, so to files that are not finished": (
        "py/test_watch_triggers.py::test_a_pattern_still_waits_until_the_file_is_complete",
        "py/test_watch_crashes.py::test_2000_files_and_50_kills_trigger_each_file_exactly_once",
    ),
    "watch.py: keeps no ledger, and nothing is caught up with after a restart": (
        "py/test_watch_crashes.py::test_2000_files_and_50_kills_trigger_each_file_exactly_once",
        "py/test_watch_triggers.py::test_a_second_drain_runs_nothing_again",
    ),
    "watch.py: an empty pattern matches nothing": ("py/test_watch_triggers.py::test_an_empty_pattern_is_refused",),
    "globus_auto: marks files transferred when the transfer is submitted": (
        "py/test_sync_run.py::test_a_failed_task_loses_nothing_and_is_sent_again_with_checksums",
    ),
    "globus_auto: whole store in memory": (
        "py/test_sync_engine.py::test_globus_auto_holds_the_whole_store_in_memory_and_this_does_not",
    ),
    "globus_auto: rejects every symlink": (
        "py/test_sync_run.py::test_links_are_kept_or_followed",
        "py/test_sync_engine.py::test_links_by_policy",
    ),
    "globus_auto: one copy of the program for each pair of directories": (
        "py/test_sync_run.py::test_two_profiles_on_one_tree",
    ),
    "demo chain: waits 180 s, swallows the failure, and the job runs without its data": (
        "py/test_staging_scenarios.py::test_stage_in_fails",
        "bats/toolkit.bats::a failed stage-in ends the job before the payload",
    ),
    "PSI/J: a job missing from the queue counts as completed": (
        "py/test_staging_schedulers.py::test_slurm_states_that_are_not_known_are_errors",
    ),
    "PSI/J: paths quoted twice": ("py/test_staging_submit.py::test_hostile_names_in_the_lines_themselves",),
    "PSI/J: the script ends in echo, so the scheduler sees success": (
        "bats/toolkit.bats::a failing payload stays the outcome though commands after it succeed",
    ),
    "a missing path stays ACTIVE for a day and blocks later transfers of the same file": (
        "py/test_transfers_exactly_once.py::test_a_conflict_is_resolved_by_the_label",
        "py/test_batch_commands.py::test_a_missing_source_stops_its_task_alone",
    ),
    "a missing data_access consent turns up in the job's .err at night": (
        "py/test_doctor_faults.py::test_a_prepared_fault_is_found_and_only_that",
    ),
    "task wait says 1 for failed, for timeout and for an API error": (
        "py/test_transfers_outcomes.py::test_each_outcome_has_its_code_and_message",
        "py/test_globus_errors.py::test_what_globus_printed_decides",
    ),
    "jobs queued for days start when the login session has expired": (
        "py/test_staging_scenarios.py::test_login_expires_and_comes_back",
    ),
    "stage-in fails and the job runs anyway; stage-out fails and is reported as success": (
        "py/test_staging_scenarios.py::test_stage_in_fails",
        "py/test_staging_scenarios.py::test_stage_out_fails",
    ),
    "batch lines: a newline, # or leading - in a name breaks the line": (
        "py/test_batch_lists.py::test_records_that_end_in_nul_hold_every_name",
    ),
    "a sync started in the middle of a copy mirrors the hole": (
        "py/test_sync_deletion.py::test_a_missing_check_file_fails_run_and_doctor_without_delete_too",
    ),
    "the collection path is not the POSIX path": (
        "py/test_transfers_commands.py::test_local_paths_are_addresses_where_they_are_mounted",
    ),
    "watchers fire before the file is complete": (
        "py/test_watch_triggers.py::test_a_pattern_still_waits_until_the_file_is_complete",
    ),
    "SUCCEEDED, but files were skipped": (
        "py/test_sync_run.py::test_skipped_files_are_not_taken_for_transferred",
        "py/test_sync_run.py::test_skips_under_strict_are_6",
    ),
}


@pytest.mark.parametrize("defect", GUARDS)
def test_a_test_guards_against_it(defect: str) -> None:
    for guard in GUARDS[defect]:
        place, _, name = guard.partition("::")
        path: Path = REPOSITORY / "tests" / place
        assert path.exists(), f"{guard}: no such file"
        text = path.read_text("utf-8")
        found = f'@test "{name}' in text if path.suffix == ".bats" else f"def {name}(" in text
        assert found, f"{guard}: no such test"
