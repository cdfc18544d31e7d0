"""No schedule of deliveries, cleanups, chains, syncs, kills and suspensions deletes a last copy; what may go goes in the end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

import deletion_world
from deletion_world import NAMES, OLD, TOP, World, world_of
from globuswrap.deletion import announcements, storage
from globuswrap.errors import Interrupted, Refused, TryLater, UsageProblem
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


def test_where_no_probe_can_be_made_nothing_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe that was never made is found nowhere: not a sign of two storages, for no pair of directories."""
    with world_of(0, tmp_path):
        call = command.call

        def refusing(*args: str, **rest: object) -> object:
            if args[0] == "mkdir":
                raise Refused("denied", "", "")
            return call(*args)

        monkeypatch.setattr(command, "call", refusing)
        with storage.probing() as probes:
            assert [probes.same(("a", "/p/d/1"), (other, "/d/1")) for other in ("b", "c", "b")] == [None] * 3


@pytest.mark.parametrize("part", range(4))
def test_no_schedule_deletes_the_last_copy(part: int) -> None:
    run(range(part * 75, (part + 1) * 75))


@pytest.mark.chaos
@pytest.mark.parametrize("part", range(8))
def test_no_schedule_of_thousands_deletes_the_last_copy(part: int) -> None:
    run(range(1_000 + part * 250, 1_000 + (part + 1) * 250))
