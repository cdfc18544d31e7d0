"""How fast the sandbox is: small requests, submissions of 100,000 items (one by one, and ten at once), a restart with them,
and 100,000 small files moved by one task.

usage: python tests/bench/bench_sandbox.py [ITEMS]
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lib"))

from globus_sandbox import auth
from globuswrap.cli.sandbox import Sandbox

HEADERS = {
    "Authorization": f"Bearer {auth.token('access', 'transfer.api.globus.org', auth.USER)}",
    "Content-Type": "application/json",
}


class Client:
    def __init__(self, box: Sandbox) -> None:
        self.connection = http.client.HTTPConnection(box.url.removeprefix("http://"), timeout=600)

    def __call__(self, method: str, path: str, body: bytes | None = None) -> Any:
        self.connection.request(method, f"/transfer/v0.10{path}", body, HEADERS)
        answer = self.connection.getresponse()
        document = json.loads(answer.read())
        assert answer.status in (200, 202), document
        return document


def submission(box: Sandbox, client: Client, items: list[tuple[str, str]]) -> bytes:
    return json.dumps(
        {
            "DATA_TYPE": "transfer",
            "submission_id": client("GET", "/submission_id")["value"],
            "source_endpoint": box.collection("archive").id,
            "destination_endpoint": box.collection("scratch").id,
            "verify_checksum": True,
            "DATA": [
                {"DATA_TYPE": "transfer_item", "source_path": source, "destination_path": target}
                for source, target in items
            ],
        }
    ).encode()


def resident(pid: int, field: str = "VmRSS") -> float:
    """MiB of memory a process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return float("nan")


def main(number: int) -> None:
    starts = []
    for _ in range(5):
        before = time.perf_counter()
        with Sandbox():
            starts.append(time.perf_counter() - before)
    print(f"start until it answers: median {statistics.median(starts):.3f} s of {len(starts)}")

    with tempfile.TemporaryDirectory() as base, Sandbox(Path(base) / "box") as box:
        client = Client(box)
        took = []
        for _ in range(500):
            before = time.perf_counter()
            client("GET", "/submission_id")
            took.append(time.perf_counter() - before)
        print(f"small request: median {statistics.median(took) * 1000:.2f} ms, worst {max(took) * 1000:.2f} ms of 500")

        box.control.progress("held")
        print(f"idle server: {resident(box.pid):.0f} MiB")
        accepted = []
        for turn in range(10):
            body = submission(box, client, [(f"/data/{turn}/{n:06}", f"/in/{turn}/{n:06}") for n in range(number)])
            before = time.perf_counter()
            client("POST", "/transfer", body)
            accepted.append(time.perf_counter() - before)
        print(
            f"{number} items accepted: median {statistics.median(accepted):.2f} s, worst {max(accepted):.2f} s of 10 "
            f"({len(body) / 2**20:.1f} MiB each)"
        )
        print(f"after ten of them: {resident(box.pid):.0f} MiB, at most {resident(box.pid, 'VmHWM'):.0f} MiB")

    with tempfile.TemporaryDirectory() as base, Sandbox(Path(base) / "box", progress="held", durable=True) as box:
        client = Client(box)
        ten = [
            submission(box, client, [(f"/data/{turn}/{n:06}", f"/in/{turn}/{n:06}") for n in range(number)])
            for turn in range(10)
        ]
        threads = [threading.Thread(target=Client(box), args=("POST", "/transfer", body)) for body in ten]
        before = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(
            f"ten of {number} items at once, on disk: {time.perf_counter() - before:.1f} s, "
            f"at most {resident(box.pid, 'VmHWM'):.0f} MiB"
        )
        box.kill()
        before = time.perf_counter()
        box.restart()
        print(f"up again with them: {time.perf_counter() - before:.1f} s, {resident(box.pid):.0f} MiB")

    with tempfile.TemporaryDirectory() as base, Sandbox(Path(base) / "box") as box:
        client = Client(box)
        root = box.collection("archive").path
        for n in range(number):
            if n % 1000 == 0:
                (root / f"d{n // 1000:03}").mkdir()
            (root / f"d{n // 1000:03}" / f"{n:06}").write_bytes(b"%06d" % n)
        body = submission(box, client, [("/", "/copy/")])
        before = time.perf_counter()
        task = client("POST", "/transfer", body)["task_id"]
        answered = []
        while True:
            asked = time.perf_counter()
            document = client("GET", f"/task/{task}")
            if document["completion_time"] is not None:
                break
            asked = time.perf_counter()
            client("GET", "/submission_id")
            answered.append(time.perf_counter() - asked)
        seconds = time.perf_counter() - before
        assert document["status"] == "SUCCEEDED" and document["files_transferred"] == number, document
        print(
            f"{number} small files in one task: {seconds:.1f} s ({number / seconds:.0f} files/s), "
            f"at most {resident(box.pid, 'VmHWM'):.0f} MiB"
        )
        if answered:
            print(f"small request meanwhile: median {statistics.median(answered) * 1000:.2f} ms of {len(answered)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
