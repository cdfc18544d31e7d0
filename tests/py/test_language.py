"""Plain English: none of the words that once stood for something only their author knew, in help, messages and documents.

What is allowed is listed: phrases of ordinary English, and names.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from support import REPOSITORY
from test_docs_complete import PAGES, walked

#: Each with what to write instead.
BANNED = {
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bwish(?:es)?\b": "request, option",
    r"\btroubles?\b": "problem, error",
    r"\bbegun elsewhere\b": "started by another process",
    r"\b(?:kept|left) as it is\b": "not changed",
    r"\bwhat is (?:not )?there\b": "the present files; No error if there are none.",
    r"\btold\b": "reported, printed",
    r"\bsaid\b": "reported, given",
    r"\blook(?:s|ed|ing)? at\b": "check, see, read",
    r"\b(?:two|each|one|a) looks?\b(?! like)": "poll",
    r"\bis no (?:TOML|file|number|duration|directory|known)\b": "is not a ...",
    r"\bby hand of\b": "by",
    r"\b(?:is|are|was|were|be) (?:not |already |still |all )?there\b(?!\?)": "exists, has arrived",
    r"\baside\b": "moved to; set aside",
    r"\blooks? (?:whether|first|again|once)\b": "check",
    r"\b(?:its|their|own|whose) words\b": "reason, message",
    r"\bstanding\b": "status",
    r"\b(?:lapsed|patience)\b": "expired; wait policy",
    r"\bno (?:TOML|file of yours)\b": "is not ...; is not owned by you",
    r"\brun again\b": "rerun",
    r"\bcan say it\b": "can see",
    r"\bwhat would go wrong\b": "problems",
    r"\bpicked up\b": "processed",
    r"\bGlobus cannot take\b": "Globus cannot handle",
    r"\bis another one\b": "differs",
    r"\bstopped by signal\b": "Interrupted. ...",
    r"\bwith(?:out| no) a word\b": "silently",
    r"\bstands? for\b": "names, means",
    r"\bbegun\b": "started",
    r"\b(?:takes?|taken|took) (?:it |them )?up\b": "adopt, retry, continue",
    r"\banew\b": "again",
    r"\bcancell(?:ed|ing)\b": "canceled",
    r"\b(?:behaviours?|colours?|licence|centres?|favour\w*)\b": "American spelling",
    r"\b(?:normal|organ|recogn|initial)is(?:e|ed|es|ing)\b": "American spelling",
    r"\bno (?:\w+ )?\w+ (?:is|are) called\b": "there is no ... named",
    r"\bgo(?:es)? on (?:from|by itself|all the same)\b": "continue",
    r"\bwait on(?:: | with\b)": "keep waiting",
    r"\b(?:attempt|one|run) begins\b": "starts",
    r"\bmake room\b": "free some space",
    r"\bfor ever\b": "forever, only ever",
    r"\bno such (?:form|choice|option value)\b": "is not valid",
    r"\bis wanted\b": "write a ...",
    r"\bbefore its time\b": "unexpectedly",
    r"\bfix what it\b": "fix the reported problem",
    r"\bhere and now\b": "on this machine, now",
    r"\bto judge by\b": "judging by",
    r"\ball the same\b": "anyway, still",
    r"\bknown are\b": "use one of",
    r"\b(?:is|was) made twice\b": "was created twice",
    r"\blies ahead\b": "is in the future",
    r"\balready there\b": "already up to date",
    r"\bis no way of\b": "is not a ... mode",
    r"\bnor what to\b|\bneither a list\b": "Nothing to ...: give ...",
}
#: Ordinary English, and names: matched first, and taken out.
ALLOWED = re.compile(
    r"it is not to be looked at|you said yes|/\w+/looks|\blooks started trouble trouble_at\b"
    r"|The task has been cancelled successfully|\b(?:set|moved) aside|(?:--lost |again, or )aside|\.aside",
    re.I,
)


def texts() -> Iterator[tuple[str, str]]:
    """Every line of help, and every text in the code that is no docstring: what can reach a terminal."""
    for path, found in walked():
        parts = [found.help or "", *(getattr(each, "help", None) or "" for each in found.params)]
        yield f"globuswrap {' '.join(path)} --help", "\n".join(parts)
    for path in sorted((REPOSITORY / "lib").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in bare else None
            if isinstance(text, str) and " " in text.strip():
                yield f"{path.relative_to(REPOSITORY)}:{getattr(node, 'lineno', 0)}", text


def found_in(text: str) -> list[str]:
    rest = ALLOWED.sub("", text)
    return [
        f"{match[0]!r}: write {instead}"
        for pattern, instead in BANNED.items()
        for match in re.finditer(pattern, rest, re.I)
    ]


def test_help_and_messages_use_the_words_of_the_field() -> None:
    wrong = [f"{where}: {each}" for where, text in texts() for each in found_in(text)]
    assert not wrong, "\n".join(wrong)


def test_documents_use_the_words_of_the_field() -> None:
    recipes = [
        *(REPOSITORY / "recipes").rglob("*.s[eh]*"),
        *(REPOSITORY / "lib").rglob("*.sh"),
        *(REPOSITORY / "docs").glob("*.txt"),
    ]
    pages = [*PAGES, REPOSITORY / "CHANGELOG.md", *recipes]
    assert len(recipes) > 8
    wrong = [f"{path.name}: {each}" for path in pages for each in found_in(path.read_text("utf-8"))]
    assert not wrong, "\n".join(wrong)


def test_the_check_sees_what_it_looks_for() -> None:
    assert found_in("What is not there is no failure.") and found_in("mend the cause") and found_in("Between two looks")
    assert found_in("the job is held until its data is there") and found_in("a name that Globus cannot take")
    assert (
        found_in("no chain is called 'x'") and found_in("wait on: globuswrap wait 1") and found_in("A new one begins.")
    )
    assert not found_in("this looks like a UUID; there are two; it is set aside; see troubleshooting")
