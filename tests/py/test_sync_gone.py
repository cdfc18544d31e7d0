"""Which files are really gone at the source: what cannot be looked at is unknown, and unknown is never gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from globuswrap.syncs import gone, scan
from globuswrap.syncs.compare import ScanReport, compare
from globuswrap.syncs.gone import EMPTY, LINK, UNMOUNTED, Looked, folded
from globuswrap.syncs.manifest import MANIFEST, Writer, open_manifest
from sync_support import write_tree


def look(
    root: Path,
    directory: bytes,
    *names: bytes,
    follow: bool = False,
    lost: tuple[bytes, ...] = (),
    confirmed: bool = False,
) -> Looked:
    source = gone.Source(os.fsencode(root), follow=follow, lost=set(lost), proof=b".mounted", confirmed=confirmed)
    return source.look(directory, set(names))


def unknown(looked: Looked) -> tuple[bytes, str] | None:
    assert looked.unknown is None or not looked.gone
    return None if looked.unknown is None else (looked.unknown.path, looked.unknown.reason)


def test_what_somebody_removed_is_gone_and_what_a_rule_leaves_out_is_not(tmp_path: Path) -> None:
    write_tree(tmp_path, "a", "d/b")
    assert look(tmp_path, b"/", b"a", b"gone") == Looked({b"gone"})
    assert look(tmp_path, b"/d", b"b", b"gone") == Looked({b"gone"})
    assert look(tmp_path, b"/no/such", b"a") == Looked({b"a"})
    assert look(tmp_path, b"/a", b"was a directory") == Looked({b"was a directory"})
    assert look(tmp_path, b"/", b"d") == Looked({b"d"})  # the file d; a directory took its name


def test_below_a_link_nothing_is_gone(tmp_path: Path) -> None:
    write_tree(tmp_path, "other/a", "x")
    (tmp_path / "moved").symlink_to("other")
    (tmp_path / "dangling").symlink_to("absent")
    assert look(tmp_path, b"/moved", b"a") == Looked()  # seen through the link: left out, and there
    assert unknown(look(tmp_path, b"/moved", b"a", b"b")) == (b"moved", LINK)
    assert unknown(look(tmp_path, b"/dangling/deep", b"a")) == (b"dangling", LINK)
    assert look(tmp_path, b"/dangling", b"a", confirmed=True) == Looked({b"a"})
    assert look(tmp_path, b"/moved", b"b", follow=True) == Looked({b"b"})
    missing = look(tmp_path, b"/dangling", b"a", follow=True, confirmed=True).unknown
    assert missing is not None and not missing.confirmable


def test_in_an_emptied_directory_nothing_is_gone(tmp_path: Path) -> None:
    write_tree(tmp_path, "x")
    (tmp_path / "empty").mkdir()
    assert unknown(look(tmp_path, b"/empty", b"a")) == (b"empty", EMPTY)
    assert unknown(look(tmp_path, b"/empty/deep/er", b"a")) == (b"empty", EMPTY)
    assert look(tmp_path, b"/empty/deep", b"a", confirmed=True) == Looked({b"a"})
    write_tree(tmp_path, "empty/anything")
    assert look(tmp_path, b"/empty/deep", b"a") == Looked({b"a"})


def test_in_a_lost_mount_point_nothing_is_gone_unless_its_own_check_file_is_there(tmp_path: Path) -> None:
    write_tree(tmp_path, "disk/README", "x")
    assert unknown(look(tmp_path, b"/disk/run", b"a", lost=(b"disk",))) == (b"disk", UNMOUNTED)
    assert unknown(look(tmp_path, b"/vanished", b"a", lost=(b"vanished",))) == (b"vanished", UNMOUNTED)
    assert look(tmp_path, b"/disk", b"README", lost=(b"disk",)) == Looked()
    assert look(tmp_path, b"/diskette", b"a", lost=(b"disk",)) == Looked({b"a"})
    assert look(tmp_path, b"/disk", b"a", lost=(b"disk",), confirmed=True) == Looked({b"a"})
    write_tree(tmp_path, "disk/.mounted")
    assert look(tmp_path, b"/disk/run", b"a", lost=(b"disk",)) == Looked({b"a"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; see the test that breaks the listing")
def test_what_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    write_tree(tmp_path, "closed/a")
    (tmp_path / "closed").chmod(0)
    looked = look(tmp_path, b"/closed/deep", b"a", confirmed=True)
    (tmp_path / "closed").chmod(0o700)
    assert looked.unknown is not None and not looked.unknown.confirmable and not looked.gone


def test_what_cannot_be_listed_is_unknown_and_no_confirmation_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, "d/a")

    def broken(_path: bytes) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(gone.os, "scandir", broken)
    looked = look(tmp_path, b"/d", b"b", confirmed=True)
    assert looked.gone == set() and looked.unknown is not None and not looked.unknown.confirmable
    assert "Input/output error" in looked.unknown.shown


def test_a_directory_whose_status_cannot_be_read_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, "x")

    def broken(path: bytes) -> None:
        raise OSError(116, "Stale file handle", path)

    monkeypatch.setattr(gone.os, "lstat", broken)
    looked = look(tmp_path, b"/d/e", b"a", confirmed=True)
    assert looked.gone == set() and looked.unknown is not None and not looked.unknown.confirmable


@pytest.mark.parametrize(
    ("there", "name"),
    [
        ("README", "readme"),
        ("Stra\u00dfe", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("\u00c9cole/x", "e\u0301cole/x"),
        ("A/B/c", "a/b/C"),
    ],
)
def test_a_name_in_another_spelling_is_not_gone(tmp_path: Path, there: str, name: str) -> None:
    write_tree(tmp_path, there, "x")
    directory, _, base = name.rpartition("/")
    looked = look(tmp_path, b"/" + directory.encode(), base.encode(), b"gone")
    assert looked == Looked({b"gone"}, {base.encode(): there.encode()})


def test_names_that_are_not_utf8_have_no_other_spelling() -> None:
    assert folded(b"caf\xe9") != folded("caf\u00e9".encode())
    assert folded(b"A\xff") == folded(b"a\xff")


def manifest_of(tmp_path: Path, text: bytes) -> Path:
    path = tmp_path / "manifest.gz"
    with Writer(path, MANIFEST) as writer:
        writer.write(text)
    return path


def test_a_comparison_never_takes_unknown_paths_for_gone(tmp_path: Path) -> None:
    old = open_manifest(
        manifest_of(tmp_path, b"/\x001 1 a\x001 1 b\x00/d\x001 1 c\x00/d/e\x001 1 f\x00/d/empty\x00/g\x001 1 h\x00")
    )
    frames = [(scan.TROUBLE, b"/a\0why"), (scan.TROUBLE, b"/d\0why"), (scan.TEXT, b"/\x00")]
    assert list(compare(frames, old, ScanReport())) == [(b"/", [b"-1 1 b"]), (b"/g", [b"-1 1 h"])]


def test_a_comparison_never_takes_an_unknown_file_beside_a_changed_one_for_gone(tmp_path: Path) -> None:
    old = open_manifest(manifest_of(tmp_path, b"/\x001 1 a\x001 1 b\x001 1 c\x00"))
    frames = [(scan.TROUBLE, b"/a\0why"), (scan.TEXT, b"/\x002 1 c\x00")]
    assert list(compare(frames, old, ScanReport())) == [(b"/", [b"-1 1 b", b"+2 1 c"])]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_scan_tells_directories_on_another_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    write_tree(tmp_path, *(f"d{number}/sub/x" for number in range(12)))
    real = os.stat

    class Elsewhere:
        """A status with another device number."""

        def __init__(self, status: os.stat_result) -> None:
            self.st_dev, self.st_mode, self.st_ino = status.st_dev + 1, status.st_mode, status.st_ino

    def faked(path: object, **options: object) -> object:
        status = real(path, **options)  # type: ignore[call-overload]
        return Elsewhere(status) if path == "d3" else status

    monkeypatch.setattr(scan.os, "stat", faked)
    seen = ScanReport()
    options = scan.ScanOptions(workers=workers)
    list(compare(scan.scan(os.fsencode(tmp_path), options), open_manifest(tmp_path / "absent"), seen))
    assert seen.mounts == {b"d3", b"d3/sub"} and seen.any_file
