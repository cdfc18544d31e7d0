"""Spool items to disk, one line of JSON each as the Transfer API takes them, so that a million of them need no memory."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

from globuswrap.transfers.request import Request

#: What ends a line of the spool: the lines of a piece, without the last of these, are the inside of a JSON list.
END = ",\n"


@dataclass(frozen=True)
class Chunk:
    """Consecutive items that go as one task: where they are in the spool, how many, and the digest of their lines."""

    spool: Spool
    start: int
    end: int
    items: int
    digest: str
    examples: tuple[tuple[str, str | None], ...]


class Spool:
    """A file of items: by default one without a name in TMPDIR, so that whatever ends this process, nothing is left behind."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile() if file is None else file  # noqa: SIM115 (open while the spool lives)
        self.count = 0

    @staticmethod
    def of(lines: Iterable[bytes]) -> Spool:
        """A spool of lines that were in another."""
        spool = Spool()
        for line in lines:
            spool._file.write(line)
            spool.count += 1
        return spool

    def add(self, lines: list[str]) -> None:
        """Add items, each a line of JSON in ASCII that ends in END."""
        self._file.write("".join(lines).encode("ascii"))
        self.count += len(lines)

    def lines(self) -> Iterator[bytes]:
        self._file.seek(0)
        return iter(self._file)

    def items(self) -> Iterator[dict[str, Any]]:
        """The documents of the items, in order."""
        for line in self.lines():
            yield json.loads(line[: -len(END)])

    def pieces(self, size: int) -> Iterator[Chunk]:
        """The spool cut into pieces of `size` items, the last one of what is left."""
        start = 0
        while start < self._end():
            self._file.seek(start)
            lines = list(islice(self._file, size))
            body = b"".join(lines)
            yield Chunk(
                self,
                start,
                start + len(body),
                len(lines),
                hashlib.sha256(body).hexdigest(),
                tuple(_example(line) for line in lines[:3]),
            )
            start += len(body)

    def whole(self, items: int, digest: str) -> Chunk:
        """All of it as one piece, of which the number of items and the digest are known."""
        return Chunk(self, 0, self._end(), items, digest, tuple(_example(line) for line in islice(self.lines(), 3)))

    def raw(self) -> Iterator[bytes]:
        """Everything in it, block by block."""
        self._file.seek(0)
        while block := self._file.read(1 << 20):
            yield block

    def copy(self, piece: Chunk, target: IO[bytes]) -> None:
        """Write the items of a piece, as the inside of a JSON list."""
        self._file.seek(piece.start)
        left = piece.end - piece.start - len(END)
        while left > 0:
            block = self._file.read(min(left, 1 << 20))
            target.write(block)
            left -= len(block)

    def __del__(self) -> None:
        self._file.close()

    def _end(self) -> int:
        return self._file.seek(0, 2)


@dataclass(frozen=True)
class Load:
    """Spooled items of one source collection, and the request that they share (its `items` are empty). All items are in the
    directories `within`, if that is known."""

    request: Request
    spool: Spool
    within: tuple[str, str] | None = None


def document(piece: Chunk, head: dict[str, Any]) -> IO[bytes]:
    """The whole document of a piece, in an open file without a name: `head` with the items as its DATA."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    without = {name: value for name, value in head.items() if name != "DATA"}
    file.write(json.dumps(without)[:-1].encode("ascii") + b', "DATA": [\n')
    piece.spool.copy(piece, file)
    file.write(b"\n]}\n")
    file.seek(0)
    return file


def path_of(file: IO[bytes]) -> Path:
    """A path under which an open file can be read once more from its beginning."""
    return Path(f"/dev/fd/{file.fileno()}")


def _example(line: bytes) -> tuple[str, str | None]:
    item = json.loads(line[: -len(END)])
    return (item["path"], None) if "path" in item else (item["source_path"], item["destination_path"])
