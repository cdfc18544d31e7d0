"""Each file triggers its command exactly once, and none before it is complete, whatever happens to the watcher."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

import support

SETTLE = 0.8


def content(number: int) -> str:
    return "line\n" * (number % 7 + 1)


def write_all(inbox: Path, seed: int, files: int, slowly: int) -> None:
    """The files appear at random moments, in bursts and in subdirectories; slow ones in parts, over 0.5 to 1.5 seconds."""
    chance = random.Random(seed)
    numbers = list(range(files))
    chance.shuffle(numbers)
    slow = numbers[:slowly]

    def write_slowly(mine: list[int]) -> None:
        for number in mine:
            with (inbox / f"slow {number}").open("w") as file:
                for part in content(number).splitlines(keepends=True):
                    file.write(part)
                    file.flush()
                    time.sleep(chance.uniform(0.02, 0.3))

    threads = [threading.Thread(target=write_slowly, args=(slow[each::6],)) for each in range(6)]
    for thread in threads:
        thread.start()
    for number in numbers[slowly:]:
        place = inbox / f"run {number % 5}"
        place.mkdir(exist_ok=True)
        (place / f"file {number}").write_text(content(number))
        if chance.random() < 0.1:
            time.sleep(chance.uniform(0.0, 0.12))
    for thread in threads:
        thread.join()


def test_150_files_and_8_kills_trigger_each_file_exactly_once(tmp_path: Path) -> None:
    trigger_each_once(tmp_path, files=150, slowly=6, kills=8)


@pytest.mark.slow
@pytest.mark.chaos
def test_2000_files_and_50_kills_trigger_each_file_exactly_once(tmp_path: Path) -> None:
    trigger_each_once(tmp_path, files=2000, slowly=60, kills=50)


def trigger_each_once(place: Path, files: int, slowly: int, kills: int) -> None:
    inbox, noted = place / "inbox", place / "noted"
    inbox.mkdir()
    script = 'stat -c "%s %n" -- "$1" >>"$0"; case $1 in *[37]) sleep 0.15;; esac'
    argv = [str(support.LAUNCHER), "watch", str(inbox), "--settle", str(SETTLE), "--in-flight", "8"]
    command = ["--", "sh", "-c", script, str(noted), "{path}"]
    writer = threading.Thread(target=write_all, args=(inbox, 7, files, slowly))
    began = time.monotonic()
    writer.start()
    chance = random.Random(11)
    interrupted = 0
    for number in range(kills):
        before = lines_of(noted)
        started = subprocess.Popen([*argv, "--quiet", *command], stderr=subprocess.DEVNULL)
        if number % 2:
            time.sleep(chance.uniform(0.15, 0.75))
        else:  # in the midst of its commands, however busy the machine is
            until_lines(noted, min(files, before + chance.randint(1, files // kills)))
        assert started.poll() is None, "the watcher ended by itself"
        started.kill()
        started.wait()
        interrupted += before < lines_of(noted) < files
    writer.join()
    for _ in range(20):  # what was running when the last one was killed may still be
        last = subprocess.run([*argv, "--drain", *command], capture_output=True, text=True)
        assert last.returncode in (0, 75), last.stderr
        if lines_of(noted) >= files:
            break
    seconds = time.monotonic() - began
    assert interrupted >= kills // 4
    lines = [line.split(" ", 1) for line in noted.read_text().splitlines()]
    times = Counter(path for _, path in lines)
    assert [path for path, count in times.items() if count != 1] == []
    early = [(size, path) for size, path in lines if int(size) != len(content(int(path.rpartition(" ")[2])))]
    assert early == []
    assert len(times) == files
    print(
        f"{files} files, {slowly} of them slow, {kills} kills, {interrupted} of them while commands ran,"
        f" {os.cpu_count()} cores: {seconds:.1f} s"
    )


def until_lines(file: Path, count: int) -> None:
    end = time.monotonic() + 240
    while lines_of(file) < count and time.monotonic() < end:
        time.sleep(0.02)


def lines_of(file: Path) -> int:
    try:
        return file.read_text().count("\n")
    except FileNotFoundError:
        return 0
