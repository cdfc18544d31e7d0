"""Scan, manifest and comparison, against a plain model of the same tree."""

from __future__ import annotations

import gzip
import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from globuswrap.errors import Problem, Refused, UsageProblem
from globuswrap.syncs import manifest, scan
from globuswrap.syncs.compare import ScanReport, compare
from globuswrap.syncs.manifest import (
    Writer,
    at_or_below,
    delta_blocks,
    delta_text,
    file_name,
    merge,
    open_manifest,
    order,
)
from support import HOSTILE_NAMES, require_tool

HOSTILE = [
    *(name.encode() for name in HOSTILE_NAMES),
    *(b"\nleads", b"trails\n", b"%s", b"{b}", b"!", b"\x01\x7f", b"\r", b"\x0b\x0c", "u\u0308".encode(), b"\xff\xfe"),
    *(
        b"caf\xe9",
        "\U0001f600".encode(),
        "\ue000private".encode(),
        b"123 456 name",
        b"+plus",
        b"@at",
        b".hidden",
        b"..more",
    ),
    b"x" * 255,
]


def listing(root: Path, **options: object) -> bytes:
    return b"".join(
        payload for kind, payload in scan.scan(os.fsencode(root), scan.ScanOptions(**options)) if kind == scan.TEXT
    )  # type: ignore[arg-type]


def asides(root: Path, **options: object) -> list[tuple[int, bytes]]:
    return [frame for frame in scan.scan(os.fsencode(root), scan.ScanOptions(**options)) if frame[0] != scan.TEXT]  # type: ignore[arg-type]


def by_hand(root: Path) -> bytes:
    """The same listing, written down the slow and obvious way."""
    found: list[tuple[bytes, bytes]] = []
    for directory, directories, files in os.walk(os.fsencode(root)):
        path = directory[len(os.fsencode(root)) :] or b"/"
        if files or not directories:
            found.append(
                (order(path), path + b"\0" + b"".join(record(directory + b"/" + name) for name in sorted(files)))
            )
    return b"".join(text for _, text in sorted(found))


def record(path: bytes) -> bytes:
    status = os.lstat(path)
    return b"%d %d %b\0" % (status.st_mtime_ns, status.st_size, os.path.basename(path))


def grow(root: Path, seed: int, directories: int = 60, files: int = 400) -> list[bytes]:
    chance = random.Random(seed)
    places = [os.fsencode(root)]
    for number in range(directories):
        place = (
            chance.choice(places)
            + b"/"
            + chance.choice(HOSTILE)[:200]
            + (b"%d" % chance.randrange(3) if number % 2 else b"")
        )
        if not os.path.lexists(place):
            os.mkdir(place)
            places.append(place)
    for _ in range(files):
        path = chance.choice(places) + b"/" + chance.choice([b"f%d" % chance.randrange(50), chance.choice(HOSTILE)])
        if not os.path.lexists(path):
            write(path, chance)
    return places


def write(path: bytes, chance: random.Random) -> None:
    with open(path, "wb") as file:
        file.write(b"x" * chance.randrange(9))
    time = chance.randrange(-(10**18), 2 * 10**18)
    os.utime(path, ns=(time, time))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_listing_is_exactly_what_is_there(tmp_path: Path, workers: int) -> None:
    grow(tmp_path, 1)
    assert listing(tmp_path, workers=workers) == by_hand(tmp_path)


def test_one_large_directory_is_sorted_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_SORT_IN_MEMORY", 70)
    monkeypatch.setattr(scan, "_SLICE", 16)
    grow(tmp_path, 2, directories=3, files=3000)
    frames = list(scan.scan(os.fsencode(tmp_path), scan.ScanOptions(workers=1)))
    assert len(frames) > 5
    assert b"".join(payload for _, payload in frames) == by_hand(tmp_path)


def test_a_tree_is_cut_into_parts_for_workers(tmp_path: Path) -> None:
    grow(tmp_path, 3)
    walker = scan._Walker(os.fsencode(tmp_path), scan.ScanOptions())
    units = walker.units()
    assert len(units) > 8
    assert b"".join(payload for unit in units for _, payload in walker.frames(unit)) == by_hand(tmp_path)


def test_an_empty_tree_has_one_record(tmp_path: Path) -> None:
    assert listing(tmp_path) == b"/\0"


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file") as caught:
        listing(tmp_path / "absent")
    assert caught.value.name == "source-unreadable"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; see the test that changes its user")
def test_unreadable_directory_is_told(tmp_path: Path) -> None:
    _make_unreadable(tmp_path)
    assert asides(tmp_path) == [(scan.TROUBLE, b"/closed\0Permission denied")]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_directory_is_told_not_read_as_deleted(tmp_path: Path, workers: int) -> None:
    root, old = tmp_path / "tree", tmp_path / "m.gz"
    root.mkdir()
    _make_unreadable(root)
    for number in range(20):
        (root / f"d{number}").mkdir()
    commit(root, old)
    old.chmod(0o644)
    got = as_other_user(root, lambda: differences_and_unknown(root, old, workers))
    assert got == ([], {b"closed": "Permission denied"})


def _make_unreadable(root: Path) -> None:
    (root / "closed" / "inner").mkdir(parents=True)
    (root / "closed" / "inner" / "file").write_text("x")
    (root / "closed" / "file").write_text("x")
    (root / "open.txt").write_text("x")
    (root / "closed").chmod(0o000)


def differences_and_unknown(root: Path, old: Path, workers: int) -> tuple[list[object], dict[bytes, str]]:
    seen = ScanReport()
    found = list(compare(scan.scan(os.fsencode(root), scan.ScanOptions(workers=workers)), open_manifest(old), seen))
    return list(found), seen.unknown


def as_other_user(root: Path, work: object) -> object:
    """What `work` returns when an unprivileged user does it."""
    for directory in [root, *list(root.parents)[:-2]]:
        directory.chmod(directory.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        return work()  # type: ignore[operator]
    finally:
        os.seteuid(0)


def test_links_by_policy(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("12345")
    (tmp_path / "to_file").symlink_to("real/file")
    (tmp_path / "to_directory").symlink_to("real")
    (tmp_path / "to_nothing").symlink_to("absent")
    (tmp_path / "real" / "up").symlink_to("..")
    names = lambda text: [row.split(b" ", 2)[-1] for row in text[:-1].split(b"\0")]  # noqa: E731

    assert names(listing(tmp_path)) == [b"/real", b"file"]
    assert {payload.split(b"\0")[0] for _, payload in asides(tmp_path)} == {
        b"/to_file", b"/to_directory", b"/to_nothing", b"/real/up",
    }  # fmt: skip
    assert {kind for kind, _ in asides(tmp_path)} == {scan.NOTE}
    assert {kind for kind, _ in asides(tmp_path, symlinks="error")} == {scan.TROUBLE}

    followed = listing(tmp_path, symlinks="follow")
    assert names(followed) == [b"/", b"to_file", b"/real", b"file", b"/to_directory", b"file"]
    assert b" 5 to_file" in followed
    assert sorted(payload.split(b"\0")[0] for _, payload in asides(tmp_path, symlinks="follow")) == [
        b"/real/up", b"/to_directory/up", b"/to_nothing",
    ]  # fmt: skip

    kept = listing(tmp_path, symlinks="keep")
    assert names(kept) == [b"/", b"to_directory", b"to_file", b"to_nothing", b"/real", b"file", b"up"]
    assert b" @2 up" in kept


def test_links_are_followed_the_same_way_by_workers(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"d{number:02}").mkdir()
        (tmp_path / f"d{number:02}" / "file").write_text("x")
        (tmp_path / f"l{number:02}").symlink_to(f"d{number:02}")
        (tmp_path / f"d{number:02}" / "up").symlink_to("..")
    alone = list(scan.scan(os.fsencode(tmp_path), scan.ScanOptions("follow", workers=1)))
    among = list(scan.scan(os.fsencode(tmp_path), scan.ScanOptions("follow", workers=2)))
    text = [b"".join(payload for kind, payload in frames if kind == scan.TEXT) for frames in (alone, among)]
    assert text[0] == text[1]
    assert text[0].count(b" file\0") == 60
    assert [frame for frame in alone if frame[0]] == [frame for frame in among if frame[0]]


def test_special_files_are_left_out_and_noted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(tmp_path)
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
        assert listing(tmp_path) == b""
        assert sorted(payload.split(b"\0")[0] for _, payload in asides(tmp_path)) == [b"/pipe", b"/socket"]


def test_filters_first_match_wins(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tmp", "keep.tmp", "cache/x.tif", "sub/cache/y", "sub/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    rules = scan.Filters((("include", "keep*"), ("exclude", "*.tmp"), ("exclude", "cache/")))
    rows = [row.split(b" ", 2)[-1] for row in listing(tmp_path, filters=rules)[:-1].split(b"\0")]
    assert rows == [b"/", b"a.tif", b"keep.tmp", b"/sub", b"z"]
    for bad in (("exclude", "a/b"), ("exclude", "/"), ("only", "x")):
        with pytest.raises(UsageProblem):
            scan.Filters((bad,))


def test_a_worker_that_dies_is_not_an_empty_tree(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"d{number}").mkdir()
        for inner in range(50):
            (tmp_path / f"d{number}" / ("x" * 200 + str(inner))).touch()
    code = (
        "import os, sys; from globuswrap.syncs import scan\n"
        "original = scan._Walker.frames\n"
        "def frames(self, unit):\n"
        "    if unit.path == b'/d7': os._exit(9)\n"
        "    return original(self, unit)\n"
        "scan._Walker.frames = frames\n"
        "from globuswrap.errors import Refused\n"
        "try: list(scan.scan(os.fsencode(sys.argv[1]), scan.ScanOptions(workers=2)))\n"
        "except Refused as problem: print(problem.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("scan-broke-off\n", "")


def test_a_slow_file_system_gets_more_workers_a_busy_machine_does_not() -> None:
    at_once, slow = [2e-6] * 9, [300e-6] * 9
    assert scan.workers_for([], 1) == scan.workers_for(at_once, 1) == 1
    assert scan.workers_for(at_once, 2) == 2 and scan.workers_for(at_once, 64) == scan._BUSY_WORKERS
    assert scan.workers_for(slow, 1) == scan.workers_for(slow, 64) == scan.MOST_WORKERS
    assert 2 < scan.workers_for([15e-6], 2) < scan.MOST_WORKERS
    assert scan.workers_for([*at_once, 0.1, 0.1], 2) == 2  # it waited for the processor then, not for the file system


def test_the_latency_of_slow_metadata_is_hidden_by_workers(tmp_path: Path) -> None:
    root, library = tmp_path / "tree", tmp_path / "slow.so"
    for number in range(20):
        (root / f"d{number}").mkdir(parents=True)
        (root / f"d{number}" / "file").touch()
    source = Path(__file__).parents[1] / "doubles" / "slow_metadata.c"
    compiler = require_tool("cc", "a file system with slow metadata is made of a C file")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    code = (
        "import os, sys; from globuswrap.syncs import scan\n"
        "original = scan._scan_in_workers\n"
        "def in_workers(walker, units, count):\n"
        "    print(count, end=' ')\n"
        "    return original(walker, units, count)\n"
        "scan._scan_in_workers = in_workers\n"
        "print(sum(payload.count(b' file\\0') for _, payload in scan.scan(os.fsencode(sys.argv[1]))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, root],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == (f"{scan.MOST_WORKERS} 20\n", "")


# The manifest.


def commit(root: Path, old: Path, **options: object) -> int:
    """Bring a manifest to what is there now; how many records a comparison found."""
    delta = old.with_suffix(".delta")
    found = 0
    with Writer(delta, manifest.DELTA) as writer:
        frames = scan.scan(os.fsencode(root), scan.ScanOptions(**options))  # type: ignore[arg-type]
        for directory, rows in compare(frames, open_manifest(old), ScanReport()):
            found += len(rows)
            writer.write(delta_text(directory, rows))
    merge(old, delta_blocks(delta), old)
    return found


def differences(root: Path, old: Path) -> list[bytes]:
    frames = scan.scan(os.fsencode(root))
    return [row for _, rows in compare(frames, open_manifest(old), ScanReport()) for row in rows]


def without_emptied(text: bytes, now: bytes) -> bytes:
    """A listing without the records of directories that lost all their files, and are not in the listing `now`."""
    records, kept = text[:-1].split(b"\0"), []
    there = set(now.split(b"\0"))
    for row, after in zip(records, [*records[1:], b"/"], strict=True):
        if not (row.startswith(b"/") and after.startswith(b"/") and row not in there):
            kept.append(row + b"\0")
    return b"".join(kept)


def content(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()).split(b"\0", 1)[1]


@pytest.mark.parametrize("seed", range(12))
def test_after_any_changes_the_delta_leads_from_the_old_listing_to_the_new(tmp_path: Path, seed: int) -> None:
    root, old = tmp_path / "tree", tmp_path / "m.gz"
    root.mkdir()
    chance = random.Random(seed)
    places = grow(root, seed)
    assert commit(root, old) > 0
    assert content(old) == listing(root)
    assert commit(root, old) == 0
    for _ in range(6):
        change(root, places, chance)
        commit(root, old, workers=chance.choice([1, 2]))
        assert without_emptied(content(old), listing(root)) == listing(root)
        assert all(row == b"-" for row in differences(root, old))


def change(root: Path, places: list[bytes], chance: random.Random) -> None:
    import shutil

    for _ in range(chance.randrange(1, 30)):
        place = chance.choice(places)
        if not os.path.isdir(place):
            continue
        path = place + b"/" + chance.choice([b"f%d" % chance.randrange(50), chance.choice(HOSTILE)])
        match chance.randrange(6):
            case 0 if os.path.isdir(path):
                shutil.rmtree(path)
            case 0 | 1 if os.path.lexists(path) and not os.path.isdir(path):
                os.unlink(path)
            case 2 if os.path.isdir(path):
                shutil.rmtree(path)
                write(path, chance)
            case 3 if os.path.isfile(path):
                os.unlink(path)
                os.makedirs(path)
                places.append(path)
                write(path + b"/inside", chance)
            case 4 if not os.path.lexists(path):
                os.mkdir(path)
                places.append(path)
            case _ if not os.path.isdir(path):
                write(path, chance)


names = st.binary(min_size=1, max_size=6).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
records = st.dictionaries(names, st.tuples(st.integers(-(10**18), 10**19), st.integers(0, 10**6)), max_size=12)
trees = st.dictionaries(st.lists(names, max_size=3).map(lambda parts: b"/" + b"/".join(parts)), records, max_size=8)


def text_of(tree: dict[bytes, dict[bytes, tuple[int, int]]]) -> Iterator[bytes]:
    for directory in sorted(tree, key=order):
        rows = [b"%d %d %b\0" % (*tree[directory][name], name) for name in sorted(tree[directory])]
        yield directory + b"\0" + b"".join(rows)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=trees, after=trees, frame=st.integers(1, 300), piece=st.integers(1, 200),
       window=st.sampled_from([1, 30, 60, 1 << 20]))  # fmt: skip
def test_any_two_listings(
    tmp_path: Path, before: dict[bytes, dict[bytes, tuple[int, int]]], after: dict[bytes, dict[bytes, tuple[int, int]]],
    frame: int, piece: int, window: int,
) -> None:  # fmt: skip
    old_text = b"".join(text_of(before))
    old, new = tmp_path / "m.gz", tmp_path / "new.gz"
    with Writer(old, manifest.MANIFEST) as writer:
        writer.write(old_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest, "_WINDOW", window)
        known = manifest.blocks(old_text[at : at + piece] for at in range(0, len(old_text), piece))
        found = list(compare(framed(after, frame), known, ScanReport()))
        merge(old, iter(found), new)
    signed = {(directory, row) for directory, rows in found for row in rows}
    expected = set()
    for directory in before.keys() | after.keys():
        was = {b"%d %d %b" % (*v, k) for k, v in before.get(directory, {}).items()}
        now = {b"%d %d %b" % (*v, k) for k, v in after.get(directory, {}).items()}
        names_now = after.get(directory, {}).keys()
        expected |= {(directory, b"+" + row) for row in now - was}
        expected |= {(directory, b"-" + row) for row in was - now if file_name(row) not in names_now}
        if directory in after and not now and directory not in before:
            expected.add((directory, b"+"))
        if directory in before and not was and directory not in after:
            expected.add((directory, b"-"))
    assert signed == expected
    assert [order(d) for d, _ in found] == sorted(order(d) for d, _ in found)
    emptied: dict[bytes, dict[bytes, tuple[int, int]]] = {d: {} for d in before if before[d]}
    assert content(new) == b"".join(text_of({**emptied, **after}))


def framed(tree: dict[bytes, dict[bytes, tuple[int, int]]], size: int) -> Iterator[scan.Frame]:
    """The listing in frames as small as they may be: a directory's record stays with its first file."""
    held = b""
    for text in text_of(tree):
        directory, *rows = text[:-1].split(b"\0")
        for number, row in enumerate(rows or [b""]):
            held += (directory + b"\0" if number == 0 else b"") + (row + b"\0" if rows else b"")
            if len(held) >= size:
                yield scan.TEXT, held
                held = b""
    if held:
        yield scan.TEXT, held


def test_a_new_directory_in_two_frames_is_not_taken_for_the_next_in_the_manifest() -> None:
    known = manifest.blocks([b"/b\x001 1 y\x00"])
    frames = [(scan.TEXT, b"/a\x001 1 x\x00"), (scan.TEXT, b"1 1 y\x00"), (scan.TEXT, b"/b\x001 1 y\x00")]
    assert list(compare(frames, known, ScanReport())) == [(b"/a", [b"+1 1 x", b"+1 1 y"])]


def test_what_was_skipped_is_not_committed(tmp_path: Path) -> None:
    old = tmp_path / "m.gz"
    with Writer(old, manifest.MANIFEST) as writer:
        writer.write(b"/\x001 1 a\x001 1 b\x00/d\x001 1 x\x00")
    delta = [
        (b"/", [b"-1 1 a", b"+2 2 a", b"+1 1 c"]),
        (b"/d", [b"-1 1 x", b"+2 2 x"]),
        (b"/d/e", [b"+1 1 y"]),
        (b"/f", [b"+"]),
    ]
    skipped = {b"c", b"d", b"f"}
    merge(old, manifest.without(delta, skipped), old)
    assert content(old) == b"/\x002 2 a\x001 1 b\x00/d\x001 1 x\x00"


def test_at_or_below() -> None:
    assert at_or_below(b"a/b/c", {b"a/b"}) and at_or_below(b"a/b", {b"a/b"}) and at_or_below(b"x", {b""})
    assert not at_or_below(b"a/bc", {b"a/b"}) and not at_or_below(b"a", {b"a/b"})


@pytest.mark.parametrize("cut", [1, 5, 8, 9, 30])
def test_a_manifest_cut_off_is_damaged_never_shorter(tmp_path: Path, cut: int) -> None:
    root, old = tmp_path / "tree", tmp_path / "m.gz"
    root.mkdir()
    grow(root, 5)
    commit(root, old)
    old.write_bytes(old.read_bytes()[:-cut])
    with pytest.raises(manifest.ManifestDamaged):
        commit(root, old)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".m")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not gzip",
        gzip.compress(b"", mtime=0),
        gzip.compress(b"other format\0/\0", mtime=0),
        gzip.compress(manifest.MANIFEST, mtime=0),
    ],
)
def test_something_else_is_not_a_manifest(tmp_path: Path, data: bytes) -> None:
    old = tmp_path / "m.gz"
    old.write_bytes(data)
    with pytest.raises(manifest.ManifestDamaged):
        next(open_manifest(old))


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    root, old = tmp_path / "tree", tmp_path / "m.gz"
    root.mkdir()
    grow(root, 6)
    commit(root, old)
    good = old.read_bytes()
    for at in range(12, len(good), 97):
        old.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        with pytest.raises(Problem):
            commit(root, old)


def test_the_manifest_reads_with_standard_tools(tmp_path: Path) -> None:
    root, old = tmp_path / "tree", tmp_path / "m.gz"
    root.mkdir()
    (root / "a b").write_text("12345")
    os.utime(root / "a b", ns=(10**18 + 7, 10**18 + 7))
    commit(root, old)
    shown = subprocess.run(
        f"zcat {old} | tr '\\0' '\\n'", shell=True, capture_output=True, text=True, check=True
    ).stdout
    assert shown == "globuswrap manifest 1\n/\n1000000000000000007 5 a b\n"


def many(directories: int, changed: int) -> Iterator[scan.Frame]:
    """A listing of directories with 100 files each, made as it is read; one file of each `changed`th has another time."""
    for number in range(directories):
        time = 2 if number % changed == changed - 1 else 1
        rows = b"".join(b"%d 10 file-%06d\0" % (time if at == 0 else 1, at) for at in range(100))
        yield scan.TEXT, b"/%06d\0" % number + rows


def peak_of_comparing(directories: int, path: Path) -> int:
    """Bytes that Python held at most while such a listing was compared with its manifest of the last run."""
    import tracemalloc

    with Writer(path, manifest.MANIFEST) as writer:
        for _, text in many(directories, directories + 1):
            writer.write(text)
    tracemalloc.start()
    try:
        found = sum(1 for _ in compare(many(directories, 10), open_manifest(path), ScanReport()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == directories // 10
    return peak


@pytest.mark.slow
def test_globus_auto_holds_the_whole_store_in_memory_and_this_does_not(tmp_path: Path) -> None:
    small, large = peak_of_comparing(4000, tmp_path / "small"), peak_of_comparing(16000, tmp_path / "large")
    assert large < small * 1.5 + 500_000, (small, large)
