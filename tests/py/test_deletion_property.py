"""No schedule of deliveries, cleanups, chains, syncs, kills and suspensions deletes a last copy; what may go goes in the end."""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path

import pytest

import deletion_world
import support
from deletion_world import NAMES, OLD, TOP, World, world_of
from globuswrap.deletion import announcements, carry_out, evidence, mirror, storage, uses
from globuswrap.deletion.carry_out import Sending
from globuswrap.deletion.judge import Seen
from globuswrap.errors import Interrupted, Problem, Refused, TryLater, UsageProblem
from globuswrap.globus import command

PAIRS = [("a", "b"), ("b", "c"), ("c", "a"), ("a", "twin"), ("twin", "b"), ("b", "twin")]


def schedule(seed: int, state: Path) -> World:
    with world_of(seed, state) as world:
        for name in NAMES:
            world.storage["A"][f"/p/d/{name}"] = (f"content {name}", OLD)
        for _ in range(world.random.randint(1, 4)):
            world.deliver(*world.random.choice(PAIRS), listed=world.random.random() < 0.9)
        if world.random.random() < 0.3 and "/d/1" in world.storage["B"] and "/d/1" not in world.storage["C"]:
            # Of the same size and time, by a transfer that nobody asked for its files.
            world.storage["C"]["/d/1"] = ("another", OLD)
            world.deliver("c", "b", listed=False, name="1")
        for number in range(world.random.randint(2, 3)):
            kind = world.random.random()
            collection = world.random.choice(tuple(TOP))
            if kind < 0.75:
                world.start(f"cleanup {collection} {number}", lambda where=collection: deletion_world.cleanup(where))
            elif kind < 0.9:
                own = state / f"chain{number}"
                world.start(
                    f"chain {collection} {number}",
                    lambda number=number, where=collection, own=own: deletion_world.chain(world, number, where, own),
                )
            else:
                name = world.random.choice(NAMES)
                world.given_up.add(f"content {name}")
                world.start(
                    f"sync {collection} {number}",
                    lambda where=collection, name=name: deletion_world.mirrored(where, name),
                )
        world.play()
        settle(world)
    return world


def settle(world: World) -> None:
    """Everything that was left over ends, one way or the other, and nothing is in the way any more: what may go goes."""
    for task_id in list(world.tasks):
        world.carry_out(task_id)
    world.now += 10 * announcements.LASTS
    for collection in ("a", "b", "c", "twin"):
        world.start(f"last cleanup {collection}", lambda where=collection: last_cleanup(world, where))
        world.defects += [f"the last cleanup of {collection}: {each!r}" for each in world.play(kills=False)]
    if announcements.announced():
        left = [each for each in announcements.announced() if each.created > world.now - announcements.LASTS]
        world.defects += [f"{each.deletes} is still announced" for each in left]


def last_cleanup(world: World, collection: str) -> None:
    """Nobody else is there: nothing waits for anything, and what is shown to go goes."""
    found = deletion_world.cleanup(collection, timeout=None)
    world.defects += [f"{collection}:{each.path} waits: {each.reason}" for each in found.kept if each.later]
    for each in found.deleted:
        storage, path = world.place(collection, each.path)
        if path in world.storage[storage]:
            world.defects.append(f"{collection}:{each.path} may go and stays")


def run(seeds: range) -> None:
    for seed in seeds:
        with tempfile.TemporaryDirectory() as state:
            world = schedule(seed, Path(state))
            assert not world.defects, (seed, world.defects, world.trace)


def test_a_deletion_of_the_same_storage_by_another_name_is_in_the_way(tmp_path: Path) -> None:
    """The other copy of b:/d/1 is a:/p/d/1, which is twin:/d/1, which another process is about to delete."""
    with world_of(0, tmp_path) as world:
        world.storage["A"]["/p/d/1"] = ("content 1", OLD)
        world.deliver("a", "b", name="1")
        other = announcements.announce("twin", {"/d/1": ("c", "/d/1")})
        assert [each.later for each in deletion_world.cleanup("b").kept] == [True]
        announcements.withdraw(other)
        with pytest.raises(TryLater, match="still running"):
            deletion_world.cleanup("b", timeout=0.0)


def test_a_deletion_that_may_be_of_the_same_storage_is_in_the_way(tmp_path: Path) -> None:
    """As above, and no probe can be made beside what the other deletes: whether it is the proof is not known."""
    with world_of(0, tmp_path) as world:
        world.storage["A"]["/p/d/1"] = ("content 1", OLD)
        world.deliver("a", "b", name="1")
        announcements.announce("twin", {"/d/1": ("c", "/d/1")})
        world.refuse("mkdir", "twin:", Refused("denied", "", ""))
        assert [each.later for each in deletion_world.cleanup("b").kept] == [True]


def test_what_is_deleted_is_named_and_has_to_be_deleted_soon(tmp_path: Path) -> None:
    """A file that has become a directory is not deleted with all that is in it, and a task that is not known about cannot run
    for ever after."""
    with world_of(0, tmp_path) as world:
        world.storage["A"]["/p/d/1"] = ("content 1", OLD)
        world.deliver("a", "b", name="1")
        sent: list[tuple[str, ...]] = []
        call = command.call

        def noting(*args: str, **rest: object) -> object:
            sent.append(args)
            return call(*args, **rest)

        world.patched.setattr(command, "call", noting)
        with pytest.raises(TryLater, match="still running"):
            deletion_world.cleanup("b", timeout=0.0)
        (deletion,) = [args for args in sent if args[0] == "delete" and args[-1] == "b:/d/1"]
        assert "--recursive" not in deletion and "-r" not in deletion
        (task,) = [task for task in world.tasks.values() if task["paths"] == ["/d/1"]]
        assert task["deadline"] <= world.now + announcements.LASTS + 1


def test_a_copy_that_went_between_plan_and_deletion_is_seen_to_be_gone(tmp_path: Path) -> None:
    with world_of(0, tmp_path) as world:
        world.storage["A"]["/p/d/1"] = ("content 1", OLD)
        world.deliver("a", "b", name="1")

        def known() -> evidence.Evidence:
            return evidence.gather("a", None)

        found = carry_out.plan(known(), [TOP["a"]], evidence.View())
        assert [each.path for each in found.deleted] == ["/p/d/1"]
        del world.storage["B"]["/d/1"]
        carry_out.carry_out(found, lambda paths: carry_out.judged(known(), paths, evidence.View()), Sending("cleanup"))
        assert ["is gone" in each.reason for each in found.kept] == [True] and world.contents() == {"content 1"}
        assert not any(task["paths"] == ["/p/d/1"] for task in world.tasks.values())


def test_a_deletion_counts_until_its_task_has_ended(tmp_path: Path) -> None:
    """Of the first, nobody waits any more: its announcement stays, or the second would delete the other copy."""
    with world_of(0, tmp_path) as world:
        world.storage["A"]["/p/d/1"] = ("content 1", OLD)
        world.deliver("a", "b", name="1")
        with pytest.raises(TryLater, match="still running"):
            deletion_world.cleanup("a", timeout=0.0)
        assert [each.later for each in deletion_world.cleanup("b", timeout=0.0).kept] == [True]
        for task_id in list(world.tasks):
            world.carry_out(task_id)
        assert world.defects == [] and world.contents() == {"content 1"}
        assert ["is gone" in each.reason for each in deletion_world.cleanup("b").kept] == [True]


def test_a_use_that_may_be_of_the_same_storage_counts(tmp_path: Path) -> None:
    """No probe can be looked for where the chain has its files: whether they are these is not known."""
    with world_of(0, tmp_path) as world:
        world.storage["A"]["/p/d/1"] = ("content 1", OLD)
        world.deliver("a", "b", name="1")
        uses.hold("chain c1", tmp_path / "ended", [("c", "/d")])
        world.refuse("stat", "c:", Refused("denied", "", ""))
        assert ["in use by chain c1" in each.reason for each in deletion_world.cleanup("a").kept] == [True]


def test_a_mirror_keeps_what_somebody_needs_by_another_name(tmp_path: Path) -> None:
    """twin:/d is a:/p/d."""
    with world_of(0, tmp_path):
        mine = announcements.announce("a", {"/p/d/1": None})

        def examined() -> mirror.Examined:
            return mirror.examine("a", {"/p/d/1": mirror.Sent(1, 7)}, lambda *_: {"1": Seen("file", 1, 7.0)}, mine)

        assert examined().deleted == ["/p/d/1"]
        uses.hold("chain c1", tmp_path / "ended", [("twin", "/d")])
        assert examined().used == ["/p/d/1"]
        (tmp_path / "ended").touch()
        announcements.announce("c", {"/d/1": ("twin", "/d/1")})
        assert examined().relied_on == ["/p/d/1"]


def test_a_deletion_by_another_name_counts_until_its_task_has_ended(tmp_path: Path) -> None:
    """twin:/d/1, which waits to be deleted, is a:/p/d/1, which proves b:/d/1. Only its announcement tells."""
    with world_of(0, tmp_path) as world:
        world.storage["A"]["/p/d/1"] = ("content 1", OLD)
        world.deliver("a", "b", name="1")
        world.deliver("twin", "c", name="1")
        with pytest.raises(TryLater, match="still running"):
            deletion_world.cleanup("twin", timeout=0.0)
        assert [each.later for each in deletion_world.cleanup("b", timeout=0.0).kept] == [True]


def test_on_another_device_a_probe_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that is mounted twice has two device numbers, and over NFS and FUSE other inodes."""
    asked: list[str] = []

    def call(*args: str, **rest: object) -> object:
        asked.append(args[0])
        return {"type": "dir"}

    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == tmp_path.stat().st_dev:
            support.cannot("/dev/shm is not a file system of its own here")
        one, two = str(uuid.UUID(int=2)), str(uuid.UUID(int=3))
        settings = tmp_path / "config.toml"
        settings.write_text(
            f'[collections.one]\nid = "{one}"\nmounted = {{"{tmp_path}" = "/"}}\n'
            f'[collections.two]\nid = "{two}"\nmounted = {{"{other}" = "/"}}\n'
        )
        settings.chmod(0o600)
        monkeypatch.setenv("GLOBUSWRAP_CONFIG", str(settings))
        monkeypatch.setattr(command, "call", call)
        for directory in (tmp_path, Path(other)):
            (directory / "1").write_text("1")
        probes = storage.Probes()
        assert probes.same((one, "/1"), (one, "/./1")) is True and asked == []
        assert probes.same((one, "/1"), (two, "/1")) is True and asked == ["mkdir", "stat"]


def test_names_that_differ_by_case_in_one_directory_may_be_one_file() -> None:
    probes = storage.Probes()
    here = ("a", "/d/x")
    assert [probes.same(here, ("a", f"/d/{name}")) for name in ("x", "X", "y")] == [True, None, False]


@pytest.mark.parametrize("ends", [UsageProblem("x", "", ""), Interrupted(15)])
def test_a_probe_is_removed_also_when_the_run_fails_or_is_interrupted(tmp_path: Path, ends: BaseException) -> None:
    with world_of(0, tmp_path) as world:
        with pytest.raises(type(ends)), storage.probing() as probes:
            assert probes.same(("a", "/p/d/1"), ("b", "/d/1")) is False
            assert probes.same(("a", "/p/d/1"), ("twin", "/d/1")) is True
            assert [path.startswith(f"/p/d/{storage.PREFIX}") for path in world.directories["A"]] == [True]
            raise ends
        for task_id in world.tasks:
            world.carry_out(task_id)
        assert world.directories["A"] == set()


@pytest.mark.parametrize("problem", [Refused("denied", "", ""), TryLater("no-answer", "", "")])
def test_where_no_probe_can_be_made_nothing_is_told_apart(problem: Problem, tmp_path: Path) -> None:
    """A probe that was never made is found nowhere: not a sign of two storages, for no pair of directories."""
    with world_of(0, tmp_path) as world:
        world.refuse("mkdir", "", problem)
        with storage.probing() as probes:
            assert [probes.same(("a", "/p/d/1"), (other, "/d/1")) for other in ("b", "c", "b")] == [None] * 3


@pytest.mark.parametrize("part", range(4))
def test_no_schedule_deletes_the_last_copy(part: int) -> None:
    run(range(part * 75, (part + 1) * 75))


@pytest.mark.chaos
@pytest.mark.parametrize("part", range(8))
def test_no_schedule_of_thousands_deletes_the_last_copy(part: int) -> None:
    run(range(1_000 + part * 250, 1_000 + (part + 1) * 250))
