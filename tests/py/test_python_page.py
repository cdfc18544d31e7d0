"""docs/python.md as a notebook: its blocks run in order, as cells, in one Python that talks to a sandbox."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from globuswrap.cli.sandbox import Sandbox
from support import REPOSITORY

#: Runs cells as a notebook does: what ends a cell is shown, as text and, where it can, as HTML.
NOTEBOOK = """
import ast, contextlib, io, json, sys
space, shown = {"__name__": "__main__"}, []
for source in json.load(sys.stdin):
    *body, last = ast.parse(source).body
    ends = isinstance(last, ast.Expr)
    out, value = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        exec(compile(ast.Module(body if ends else [*body, last], []), "cell", "exec"), space)
        if ends:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), space)
    html = getattr(value, "_repr_html_", None)
    shown.append({"out": out.getvalue(), "text": None if value is None else repr(value), "html": html and html()})
json.dump(shown, sys.stdout)
"""


def test_the_page_runs_as_a_notebook(new_sandbox: Callable[..., Sandbox], tmp_path: Path, loaded_globus: str) -> None:
    box = new_sandbox(collections=("archive", "scratch", "results", "share:guest"))
    archive = box.collection("archive").path
    for name in ("2018/run7/a", "run7/dark.h5", "run7/raw/scan 1.h5", "run7/calibration/c", "run8/dark.h5"):
        (archive / name).parent.mkdir(parents=True, exist_ok=True)
        (archive / name).write_text("data")
    cells = re.findall(r"^```python\n(.*?)^```", (REPOSITORY / "docs" / "python.md").read_text("utf-8"), re.M | re.S)
    work = tmp_path / "work"
    work.mkdir()
    env = {"PYTHONPATH": str(REPOSITORY / "lib"), "GLOBUSWRAP_POLL": "1s", "GLOBUSWRAP_GLOBUS": loaded_globus}
    done = box.run([sys.executable, "-c", NOTEBOOK], input=json.dumps(cells), env=env, cwd=work, timeout=280)
    assert done.returncode == 0, done.stderr
    by_call: dict[str, Any] = {}
    for cell, shown in zip(cells, json.loads(done.stdout), strict=True):
        for name in re.findall(r"globuswrap\.([a-z]+)\(", cell):
            by_call.setdefault(name, shown)
    assert set(by_call) == {"transfer", "status", "wait", "submit", "batch", "sync", "share", "delete", "history"}

    assert by_call["transfer"]["out"] == "succeeded: 1 file(s), 4 bytes\n"
    assert re.fullmatch(r"<Result task=\S{36} outcome=succeeded .*files=1 moved=4 B>", by_call["transfer"]["text"])
    assert "<td>succeeded</td>" in by_call["transfer"]["html"]
    assert re.fullmatch(r"<Outcome task=\S{36} outcome=succeeded .*>", by_call["wait"]["text"])
    assert by_call["submit"]["text"].startswith("<SubmittedJob chain=c") and "state=done" in by_call["submit"]["text"]
    assert by_call["batch"]["out"] == "succeeded 3 files\n" and "items=3" in by_call["batch"]["text"]
    assert by_call["sync"]["out"] == "finished 0\n" and by_call["sync"]["text"].startswith(
        "<RunResult outcome=finished"
    )
    assert "steps=create" in by_call["share"]["text"] and by_call["delete"]["text"].startswith("<Result ")
    head, *rows = by_call["history"]["text"].splitlines()
    assert head.split() == ["task", "requested", "outcome", "bytes", "rate", "took", "route"] and len(rows) >= 3
    assert by_call["history"]["html"].count("<tr>") == len(rows) + 1
    for shown in by_call.values():
        assert all(len(line) < 240 for line in (shown["text"] or "").splitlines()) and "0x" not in (shown["text"] or "")
        assert shown["html"] is None or shown["html"].startswith(("<table>", "<p>"))

    # The files are where the page says.
    assert (box.collection("results").path / "jobs" / "run7" / "a").read_text() == "data"
    assert len(list((box.collection("scratch").path / "both").iterdir())) == 3
    assert (box.collection("share").path / "for" / "anna" / "a").read_text() == "data"


def test_a_prompt_completes_the_public_names_and_imports_none_of_them(new_sandbox: Callable[..., Sandbox]) -> None:
    program = (
        "import sys, globuswrap; names = dir(globuswrap); before = [m for m in sys.modules if m.startswith('globuswrap.')];"
        "assert all(hasattr(globuswrap, each) for each in names); import json; print(json.dumps([names, before]))"
    )
    done = new_sandbox().run([sys.executable, "-c", program], env={"PYTHONPATH": str(REPOSITORY / "lib")})
    names, before = json.loads(done.stdout)
    functions = {"transfer", "delete", "batch", "wait", "sync", "submit", "share", "status", "history"}
    assert functions <= set(names) and not [each for each in names if each.startswith("_") and each != "__version__"]
    assert before == []


def test_what_others_have_written_is_escaped_in_a_notebook() -> None:
    from globuswrap.transfers.outcome import Outcome

    shown = Outcome("x", "failed", 1, "<script>alert(1)</script>")._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown
