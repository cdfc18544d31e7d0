"""No schedule of deliveries, cleanups, chains, syncs, kills and suspensions deletes a last copy; what may go goes in the end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

import deletion_world
from deletion_world import NAMES, OLD, TOP, World, world_of
from globuswrap.deletion import announcements

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
        world.play(kills=False)
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


@pytest.mark.parametrize("part", range(4))
def test_no_schedule_deletes_the_last_copy(part: int) -> None:
    run(range(part * 75, (part + 1) * 75))


@pytest.mark.chaos
@pytest.mark.parametrize("part", range(8))
def test_no_schedule_of_thousands_deletes_the_last_copy(part: int) -> None:
    run(range(1_000 + part * 250, 1_000 + (part + 1) * 250))
