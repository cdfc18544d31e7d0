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

FILES = 2000
SLOW = 60
KILLS = 50
SETTLE = 0.8


def content(number: int) -> str:
    return "line\n" * (number % 7 + 1)


def write_all(inbox: Path, seed: int) -> None:
    """The files appear at random moments, in bursts and in subdirectories; slow ones in parts, over 0.5 to 1.5 seconds."""
    chance = random.Random(seed)
    numbers = list(range(FILES))
    chance.shuffle(numbers)
    slow = numbers[:SLOW]

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
    for number in numbers[SLOW:]:
        place = inbox / f"run {number % 5}"
        place.mkdir(exist_ok=True)
        (place / f"file {number}").write_text(content(number))
        if chance.random() < 0.1:
            time.sleep(chance.uniform(0.0, 0.12))
    for thread in threads:
        thread.join()


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_2000_files_and_50_kills_trigger_each_file_exactly_once(tmp_path: Path) -> None:
    inbox, noted = tmp_path / "inbox", tmp_path / "noted"
    inbox.mkdir()
    script = 'stat -c "%s %n" -- "$1" >>"$0"; case $1 in *[37]) sleep 0.15;; esac'
    argv = [str(support.LAUNCHER), "watch", str(inbox), "--settle", str(SETTLE), "--in-flight", "8"]
    command = ["--", "sh", "-c", script, str(noted), "{path}"]
    writer = threading.Thread(target=write_all, args=(inbox, 7))
    began = time.monotonic()
    writer.start()
    chance = random.Random(11)
    killed_running = 0
    for _ in range(KILLS):
        started = subprocess.Popen([*argv, "--quiet", *command], stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.15, 0.75))
        assert started.poll() is None, "the watcher ended by itself"
        started.kill()
        started.wait()
        killed_running += 1
    writer.join()
    for _ in range(20):  # what was running when the last one was killed may still be
        last = subprocess.run([*argv, "--drain", *command], capture_output=True, text=True)
        assert last.returncode == 0, last.stderr
        if noted.read_text().count("\n") >= FILES:
            break
    seconds = time.monotonic() - began
    lines = [line.split(" ", 1) for line in noted.read_text().splitlines()]
    times = Counter(path for _, path in lines)
    assert [path for path, count in times.items() if count != 1] == []
    early = [(size, path) for size, path in lines if int(size) != len(content(int(path.rpartition(" ")[2])))]
    assert early == []
    assert len(times) == FILES
    print(f"{FILES} files, {SLOW} of them slow, {killed_running} kills, {os.cpu_count()} cores: {seconds:.1f} s")
