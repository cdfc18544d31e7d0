"""`#GLOBUS` lines: what they say, and where a bad one is bad."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from globuswrap.errors import UsageProblem
from globuswrap.staging import directives
from globuswrap.staging.directives import Step, expand, parse

SCRIPT = """#!/bin/bash
#SBATCH --time=10
#GLOBUS set OUT=results:/run/%j
#GLOBUS set staging=login
# a comment
#GLOBUS stage-in archive:/raw/${RUN}/ scratch:/%j/in/ --recursive --sync-level=checksum
#GLOBUS stage-out scratch:/%j/out/ ${OUT}/ \\
#GLOBUS   --when always --if-present \\
#GLOBUS   --exclude '*.tmp' --include "core.*"

#GLOBUS cleanup scratch:/%j/ --when success
echo payload
#GLOBUS stage-in never:/ never:/
"""


def test_every_kind_of_line() -> None:
    script = parse(SCRIPT, "job.sh", {"RUN": "2018 50%"})
    assert script.settings == {"staging": "login"}
    assert script.late == (13,)
    assert script.steps == (
        Step(
            "stage-in.1",
            "stage-in",
            6,
            "archive:/raw/2018 50%%/",
            "scratch:/%j/in/",
            {"recursive": True, "sync-level": "checksum"},
        ),
        Step(
            "stage-out.1",
            "stage-out",
            7,
            "scratch:/%j/out/",
            "results:/run/%j/",
            {"filters": (("exclude", "*.tmp"), ("include", "core.*"))},
            "always",
            True,
        ),
        Step("cleanup.1", "cleanup", 11, "scratch:/%j/"),
    )
    assert script.steps[0].uses("j") and not script.steps[0].uses("a")


@pytest.mark.parametrize(
    ("line", "source"),
    [
        ("stage-in 'a:/with space' b:/", "a:/with space"),
        ('stage-in "a:/it\'s" b:/', "a:/it's"),
        ("stage-in a:/it\\'s b:/", "a:/it's"),
        ("stage-in a:/x\\ y b:/", "a:/x y"),
        ("stage-in a:/$(touch\\ x)`id`;&|<> b:/", "a:/$(touch x)`id`;&|<>"),
        ("stage-in a:/$HOME b:/", "a:/$HOME"),
        ("stage-in '${NOT}' b:/", "${NOT}"),
        ("stage-in a:/#hash b:/", "a:/#hash"),
        ("stage-in '#hash' b:/", "#hash"),
        ("stage-in -- -dash b:/", "-dash"),
        ("stage-in $'a:/new\\nline\\u2028\\x41\\'' b:/", "a:/new\nline\u2028A'"),
        ("stage-in a:/caf\u00e9\u2028x b:/", "a:/caf\u00e9\u2028x"),
        ('stage-in "a:/q\\"q\\$x" b:/', 'a:/q"q$x'),
        ("stage-in a:/'%%j' b:/", "a:/%j"),
        ("stage-in 'a:'\"/x\"/y b:/", "a:/x/y"),
    ],
)
def test_any_name_can_be_written(line: str, source: str) -> None:
    script = parse(f"#GLOBUS {line}\n")
    assert [expand(each.source, {}) for each in script.steps] == [source]


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("#GLOBUS\n", "1:9", "expected stage-in, stage-out, cleanup or set"),
        ("#!/bin/sh\n#GLOBUS stagein a:/ b:/\n", "2:9", "found 'stagein'"),
        ("#GLOBUS stage-in a:/\n", "1:21", "expected DESTINATION"),
        ("#GLOBUS stage-in a:/ b:/ c:/\n", "1:26", "found 'c:/'"),
        ("#GLOBUS stage-in a:/ b:/ --sync-level fast\n", "1:39", "expected exists, size, mtime or checksum"),
        ("#GLOBUS stage-in a:/ b:/ --sync-level=fast\n", "1:39", "found 'fast'"),
        ("#GLOBUS stage-in a:/ b:/ --label\n", "1:33", "expected a value after --label"),
        ("#GLOBUS stage-in a:/ b:/ --when success\n", "1:26", "expected an option of stage-in"),
        ("#GLOBUS stage-in a:/ b:/ --delete\n", "1:26", "found '--delete'"),
        ("#GLOBUS stage-out a:/ b:/ --when never\n", "1:34", "expected success, failure or always"),
        ("#GLOBUS stage-in a:/%z b:/\n", "1:21", "expected %j, %a, %A, %u, %x, %d or %% after %, found 'z'"),
        ("#GLOBUS stage-in 'a:/50%' b:/\n", "1:24", "after %"),
        ("#GLOBUS stage-in 'a:/ b:/\n", "1:18", "a quotation mark that is not closed"),
        ('#GLOBUS stage-in a:/ "b:/\n', "1:22", "a quotation mark that is not closed"),
        ("#GLOBUS stage-in a:/${NOT} b:/\n", "1:21", "NOT is not set"),
        ("#GLOBUS stage-in a:/${X-y} b:/\n", "1:23", "expected the name of a variable and }"),
        ("#GLOBUS stage-in a:/${X b:/\n", "1:21", "expected } after ${"),
        ("#GLOBUS stage-in a:/ b:/ # why\n", "1:26", "must be quoted"),
        ("#GLOBUS stage-in a:/ \\\nb:/\n", "1:22", "expected a line starting with #GLOBUS"),
        ("#GLOBUS stage-in a:/ \\\n#GLOBUS   b:/ --x\n", "2:15", "found '--x'"),
        ("#GLOBUS stage-in a:/ b:/\r\n", "1:25", "a DOS line end"),
        ("#GLOBUS stage-in a:/\udcff b:/\n", "1:21", "not UTF-8"),
        ("#GLOBUS set color=red\n", "1:13", "expected a NAME in capitals"),
        ("#GLOBUS set staging\n", "1:13", "expected NAME=VALUE"),
        ("#GLOBUS set A=1 2\n", "1:17", "quote a value with spaces"),
        ("#GLOBUS set poll=%j\n", "1:13", "a setting takes no symbols"),
        ("#GLOBUS cleanup a:/ b:/\n", "1:21", "ADDRESS being complete"),
        ("#GLOBUS stage-in $'a:/\\q' b:/\n", "1:23", "expected one of"),
        ("#GLOBUS stage-in '' b:/\n", "1:18", "expected SOURCE, found an empty text"),
    ],
)
def test_a_bad_line_names_its_place(text: str, place: str, expected: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse(text, "job.sh", {})
    assert caught.value.exit_code == 2
    assert caught.value.cause.startswith(f"job.sh:{place}: ")
    assert expected in caught.value.cause
    assert "nothing was submitted" in caught.value.remedy
    shown, caret = caught.value.detail.rsplit("\n", 1)
    assert caret.index("^") + 1 == int(place.split(":")[1])
    assert "\n" not in shown


def test_near_misses_are_comments() -> None:
    for line in ("##GLOBUS stage-in", "# GLOBUS stage-in", "#GLOBUSX", " #GLOBUS stage-in"):
        assert parse(f"{line} a:/\n").steps == ()


def test_a_python_and_a_csh_script() -> None:
    for first in ("#!/usr/bin/env python3", "#!/bin/csh -f"):
        script = parse(f"{first}\n#GLOBUS stage-in a:/ b:/\nimport os\n")
        assert len(script.steps) == 1


def test_symbols_are_replaced_and_guarded() -> None:
    values = {"j": "12.server", "u": "me", "x": "my job", "d": "/home/me/x"}
    assert expand("/s/%u/%j/%x%%%d", values) == "/s/me/12.server/my job%/home/me/x"
    with pytest.raises(UsageProblem, match="%a"):
        expand("/%a", values)
    for name in ("a/b", "..", "."):
        with pytest.raises(UsageProblem, match="one path component"):
            expand("/%x", {"x": name})


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1))
def test_a_quoted_text_comes_back(name: str) -> None:
    """Any text without a newline goes through double quotes, and `${NAME}` brings any text at all."""
    by_name = parse("#GLOBUS stage-in x${NAME} b:/\n", environment={"NAME": name})
    assert expand(by_name.steps[0].source, {}) == "x" + name
    if "\n" not in name:
        quoted = directives.escape(name)
        for special in ("\\", '"', "$"):
            quoted = quoted.replace(special, "\\" + special)
        script = parse(f'#GLOBUS stage-in "x{quoted}" b:/\n')
        assert expand(script.steps[0].source, {}) == "x" + name


@given(st.text(st.sampled_from("ab:/ '\"\\$%{}#-\n\tj=")))
def test_a_line_is_read_or_refused_never_a_defect(line: str) -> None:
    try:
        parse("#GLOBUS stage-out " + line)
    except UsageProblem as problem:
        assert problem.name == "directive-malformed"
