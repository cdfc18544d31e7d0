"""`#GLOBUS` lines: from the text of a job script to the steps of a chain, or one error with its line and column.

Pure: nothing is read but the text and the mapping given as the environment. As with #SBATCH and #PBS, directives count
only before the first command. Grammar and symbols are described in docs/job-scripts.md.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from globuswrap.errors import UsageProblem
from globuswrap.system.log import printable
from globuswrap.transfers.options import Common, declared

PREFIX = "#GLOBUS"
STAGE_IN = "stage-in"
STAGE_OUT = "stage-out"
CLEANUP = "cleanup"
SET = "set"
VERBS = (STAGE_IN, STAGE_OUT, CLEANUP, SET)

SUCCESS = "success"
FAILURE = "failure"
ALWAYS = "always"
WHEN = (SUCCESS, FAILURE, ALWAYS)

#: What `set` may set besides names for `${NAME}`.
SETTINGS = (
    "staging",
    "stage-partition",
    "stage-queue",
    "stage-account",
    "stage-time",
    "poll",
    "fault-grace",
    "stop-before",
    "on-early-release",
)

SYMBOLS = {
    "j": "job id",
    "a": "array index",
    "A": "id of the array",
    "u": "user",
    "x": "job name",
    "d": "working directory of the job",
}

#: Options of `globus transfer` (and a few of ours) that a stage line may carry: name -> kind. A kind is "flag" (it also
#: has a `--no-` twin), "value", "filter" (may be given again, in order) or a tuple of the values allowed.
TRANSFER_OPTIONS: dict[str, str | tuple[str, ...]] = {
    "recursive": "flag",
    **{each.key: "flag" if each.switch else each.choices or "value" for each in declared(Common)},
    "strict": "flag",
    "label": "value",
    "deadline": "value",
    "notify": "value",
    "fault-grace": "value",
    "include": "filter",
    "exclude": "filter",
}
OUT_OPTIONS: dict[str, str | tuple[str, ...]] = {"when": WHEN, "if-present": "plain-flag"}
OPTIONS: dict[str, dict[str, str | tuple[str, ...]]] = {
    STAGE_IN: TRANSFER_OPTIONS,
    STAGE_OUT: {**TRANSFER_OPTIONS, **OUT_OPTIONS},
    CLEANUP: {"when": WHEN},
}
SHORT = {"-r": "--recursive", **{short: f"--{each.key}" for each in declared(Common) for short in each.also}}


@dataclass(frozen=True)
class Step:
    """One `#GLOBUS` line as a step: `name` is `stage-in.1` and so on, numbered within its kind. Every text is a template:
    symbols are still in it, `%%` is a per cent sign; see `expand`."""

    name: str
    kind: str
    line: int
    source: str
    destination: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    when: str = SUCCESS
    if_present: bool = False

    def uses(self, *symbols: str) -> bool:
        """Whether source or destination uses one of the symbols, given as letters."""
        return bool(set(symbols) & (symbols_of(self.source) | symbols_of(self.destination)))

    def runs_after(self, success: bool) -> bool:
        """Whether the step is for this outcome of the job."""
        return self.when == ALWAYS or (self.when == SUCCESS) == success


@dataclass(frozen=True)
class Script:
    """What the `#GLOBUS` lines of a script say. `late`: numbers of those after the first command, without effect."""

    steps: tuple[Step, ...]
    settings: Mapping[str, str]
    late: tuple[int, ...]


@dataclass(frozen=True)
class _Line:
    """What follows the prefix, continuation lines joined. `places` has the line and column in the script of each character,
    and of the end."""

    text: str
    places: list[tuple[int, int]]
    script: list[str]
    name: str

    def problem(self, at: int, expected: str) -> UsageProblem:
        """The error that a bad line ends in, at this index of its text."""
        return _malformed(self.script, self.name, *self.places[at], expected)


@dataclass(frozen=True)
class _Word:
    """A word of a line, as a template, and where it is in the line's text."""

    text: str
    start: int
    end: int


def _malformed(script: list[str], name: str, line: int, column: int, expected: str) -> UsageProblem:
    return UsageProblem(
        "directive-malformed",
        f"{printable(name)}:{line}:{column}: {expected}",
        f"correct line {line}; nothing was submitted",
        detail=f"{printable(script[line - 1])}\n{' ' * (column - 1)}^",
    )


def parse(text: str, name: str = "script", environment: Mapping[str, str] | None = None) -> Script:
    """What the directives of a job script say.

    `text` is the script decoded as UTF-8 with surrogate escapes; `name` is how errors call it; `environment` gives
    `${NAME}`.
    Raises UsageProblem `directive-malformed` with `name:line:column: what was expected` for the first bad line.
    """
    script = text.split("\n")
    variables = {each: escape(value) for each, value in (environment or {}).items()}
    steps: list[Step] = []
    settings: dict[str, str] = {}
    late: list[int] = []
    number = 0
    commands = False
    while number < len(script):
        number += 1
        if not _is_directive(script[number - 1]):
            commands = commands or not (script[number - 1].strip() == "" or script[number - 1].startswith("#"))
        elif commands:
            late.append(number)
        else:
            line, number = _logical_line(script, name, number)
            words = deque(_words(line, variables))
            verb = words.popleft() if words else _Word("", len(line.text), len(line.text))
            if verb.text not in VERBS:
                raise line.problem(verb.start, f"expected {_choice(VERBS)}" + _found(verb.text))
            if verb.text == SET:
                _set(line, verb, words, variables, settings)
            else:
                count = sum(step.kind == verb.text for step in steps) + 1
                steps.append(_step(line, verb, words, f"{verb.text}.{count}"))
    return Script(tuple(steps), settings, tuple(late))


def symbols_of(template: str) -> set[str]:
    """The letters of the symbols a template uses, `%%` left out."""
    return {letter for letter in re.findall(r"%(.)", template, re.DOTALL) if letter != "%"}


def expand(template: str, values: Mapping[str, str]) -> str:
    """The template with its symbols replaced; `values` maps letters to texts.

    Raises UsageProblem when a symbol has no value (`%a` outside an array), or when one that names a single path
    component holds a slash or is `..`.
    """

    def replace(found: re.Match[str]) -> str:
        letter = found.group(1)
        if letter == "%":
            return "%"
        value = values.get(letter, "")
        if not value:
            raise UsageProblem(
                "symbol-without-value",
                f"%{letter} ({SYMBOLS.get(letter, 'unknown')}) has no value here: {printable(template)}",
                "use it only where the job has one; %% is a per cent sign",
            )
        if letter != "d" and ("/" in value or value in (".", "..")):
            raise UsageProblem(
                "symbol-not-a-name",
                f"%{letter} is {printable(value)!r}, which is not one path component",
                "give the job another name, or leave the symbol out",
            )
        return value

    return re.sub(r"%(.)", replace, template, flags=re.DOTALL)


def escape(text: str) -> str:
    """The template that expands to `text`."""
    return text.replace("%", "%%")


def _is_directive(line: str) -> bool:
    return line == PREFIX or line.startswith((PREFIX + " ", PREFIX + "\t", PREFIX + "\r"))


def _logical_line(script: list[str], name: str, number: int) -> tuple[_Line, int]:
    """The line that begins at this number, from 1, with those that continue it; and the number of the last of them."""
    text, places = "", list[tuple[int, int]]()
    while True:
        line = script[number - 1]
        if line.endswith("\r"):
            complaint = "a DOS line end: convert the script to Unix line ends"
            raise _malformed(script, name, number, len(line), complaint)
        if bad := _NOT_UTF_8.search(line):
            complaint = "a byte that is not UTF-8: Globus takes only UTF-8 names"
            raise _malformed(script, name, number, bad.start() + 1, complaint)
        text += line[len(PREFIX) :]
        places += [(number, column) for column in range(len(PREFIX) + 1, len(line) + 1)]
        if (len(text) - len(text.rstrip("\\"))) % 2 == 0:
            places.append((number, max(len(line) + 1, len(PREFIX) + 2)))
            return _Line(text, places, script, name), number
        text = text[:-1]
        places.pop()
        if number == len(script) or not _is_directive(script[number]):
            complaint = f"expected a line starting with {PREFIX} after the backslash"
            raise _malformed(script, name, number, len(line), complaint)
        number += 1


_NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # as surrogate escapes


def _words(line: _Line, variables: Mapping[str, str]) -> Iterator[_Word]:
    at = 0
    while begin := re.compile(r"[^ \t]").search(line.text, at):
        if begin[0] == "#":
            raise line.problem(
                begin.start(), "a name that starts with # must be quoted; a comment has a line of its own"
            )
        text, at = _word(line, begin.start(), variables)
        yield _Word(text, begin.start(), at)


# The pieces of a word, outside of quotation marks and between double ones.
_IN_BOTH = r"""(?P<double>")|\$\{(?P<variable>[^}]*)\}|(?P<brace>\$\{)|(?P<symbol>%.?)"""
_BARE = re.compile(
    rf"""'(?P<single>[^']*)'|\$'(?P<ansi>(?:\\.|[^'\\])*)'|(?P<open>\$?')|\\(?P<escaped>.)|{_IN_BOTH}"""
    r"""|(?P<plain>[^ \t'"\\%$]+|.)"""
)
_QUOTED = re.compile(rf"""\\(?P<escaped>["\\$`])|{_IN_BOTH}|(?P<plain>[^"\\%$]+|.)""")


def _word(line: _Line, at: int, variables: Mapping[str, str]) -> tuple[str, int]:
    """The word at this index, as a template, and the index after it."""
    out: list[str] = []
    quote: int | None = None
    while at < len(line.text) and (quote is not None or line.text[at] not in " \t"):
        piece = (_BARE if quote is None else _QUOTED).match(line.text, at)
        assert piece is not None
        kind = str(piece.lastgroup)
        body, start = piece[kind], piece.start(kind)
        if kind == "double":
            quote = at if quote is None else None
        elif kind == "open":
            raise line.problem(at, "a quotation mark that is not closed")
        elif kind == "brace":
            raise line.problem(at, "expected } after ${")
        elif kind == "variable":
            out.append(_variable(line, at, body, variables))
        elif kind == "escaped":
            out.append(escape(body))
        elif kind == "ansi":
            out.append(_ansi(line, start, body))
        else:
            _check_symbols(line, start, body)
            out.append(body)
        at = piece.end()
    if quote is not None:
        raise line.problem(quote, "a quotation mark that is not closed")
    return "".join(out), at


def _check_symbols(line: _Line, start: int, text: str) -> None:
    for found in re.finditer("%(.?)", text):
        if found[1] != "%" and found[1] not in SYMBOLS:
            known = ", ".join(f"%{each}" for each in SYMBOLS)
            raise line.problem(start + found.start(), f"expected {known} or %% after %" + _found(found[1]))


_ANSI = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
_HEX = "[0-9a-fA-F]"
_ANSI_PIECE = re.compile(
    rf"\\(?:x(?P<byte>{_HEX}{{1,2}})|u(?P<short>{_HEX}{{1,4}})|U(?P<long>{_HEX}{{1,8}})|(?P<letter>.))|%.?"
)


def _ansi(line: _Line, start: int, text: str) -> str:
    """`$'...'`: the one way to write a newline or a tab in a name."""

    def replaced(found: re.Match[str]) -> str:
        at = start + found.start()
        if found[0].startswith("%"):
            _check_symbols(line, at, found[0])
            return found[0]
        if found["letter"]:
            if found["letter"] not in _ANSI:
                raise line.problem(at, r"expected one of \n \t \r \f \v \\ \' \" \xHH \uHHHH \UHHHHHHHH")
            return _ANSI[found["letter"]]
        code = int(found["byte"] or found["short"] or found["long"], 16)
        if code == 0 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF or (found["byte"] and code > 0x7F):
            raise line.problem(at, "expected a character's number after the backslash (not zero)")
        return escape(chr(code))

    return _ANSI_PIECE.sub(replaced, text)


def _variable(line: _Line, at: int, name: str, variables: Mapping[str, str]) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise line.problem(at + 2, "expected the name of a variable and }: nothing but ${NAME} is expanded")
    if name not in variables:
        raise line.problem(at, f"{name} is not set: expected a variable of the environment")
    if _NOT_UTF_8.search(variables[name]):
        raise line.problem(at, f"the value of {name} is not UTF-8")
    return variables[name]


def _set(line: _Line, verb: _Word, words: deque[_Word], variables: dict[str, str], settings: dict[str, str]) -> None:
    if not words:
        raise line.problem(verb.end, "expected NAME=VALUE after set")
    if len(words) > 1:
        raise line.problem(words[1].start, "expected one NAME=VALUE; quote a value with spaces")
    word = words[0]
    name, equals, value = word.text.partition("=")
    if not equals:
        raise line.problem(word.start, "expected NAME=VALUE")
    if name in SETTINGS:
        if symbols_of(value):
            raise line.problem(word.start, "a setting takes no symbols: %% is a per cent sign")
        settings[name] = expand(value, {})
    elif re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        variables[name] = value
    else:
        raise line.problem(word.start, f"expected a NAME in capitals, or {_choice(SETTINGS)}" + _found(name))


def _step(line: _Line, verb: _Word, words: deque[_Word], name: str) -> Step:
    wanted = ("ADDRESS",) if verb.text == CLEANUP else ("SOURCE", "DESTINATION")
    places: list[str] = []
    options: dict[str, Any] = {}
    only_places = False
    while words:
        word = words.popleft()
        if word.text == "--" and not only_places:
            only_places = True
        elif word.text.startswith("-") and word.text != "-" and not only_places:
            _option(line, verb, word, words, options)
        elif len(places) == len(wanted):
            complaint = f"expected an option or the end of the line, {' '.join(wanted)} being complete"
            raise line.problem(word.start, complaint + _found(word.text))
        elif not word.text:
            raise line.problem(word.start, f"expected {wanted[len(places)]}, found an empty text")
        else:
            places.append(word.text)
    if len(places) < len(wanted):
        raise line.problem(len(line.text), f"expected {wanted[len(places)]} (NAME_OR_UUID:/path)")
    when, if_present = options.pop("when", SUCCESS), options.pop("if-present", False)
    number, _ = line.places[verb.start]
    return Step(name, verb.text, number, places[0], "".join(places[1:]), options, when, if_present)


def _option(line: _Line, verb: _Word, word: _Word, words: deque[_Word], options: dict[str, Any]) -> None:
    """Note an option, with its value, which may be the next word."""
    allowed = OPTIONS[verb.text]
    typed, equals, value = word.text.partition("=")
    name = SHORT.get(typed, typed)
    negated = name.startswith("--no-") and allowed.get(name[5:]) == "flag"
    key = name[5:] if negated else name[2:]
    kind = allowed.get(key) if name.startswith("--") else None
    after = word.start + len(typed)
    if kind is None:
        known = ", ".join(f"--{each}" for each in allowed)
        raise line.problem(word.start, f"expected an option of {verb.text}{_found(name)}; it has {known}")
    if kind in ("flag", "plain-flag"):
        if equals:
            raise line.problem(after, f"{name} takes no value")
        options[key] = not negated
        return
    start = after + 1
    if not equals:
        if not words:
            raise line.problem(word.end, f"expected a value after {name}")
        following = words.popleft()
        value, start = following.text, following.start
    if isinstance(kind, tuple) and value not in kind:
        raise line.problem(start, f"expected {_choice(kind)}" + _found(value))
    if kind == "filter":
        # One list of both kinds: their order counts, the first match wins.
        options["filters"] = (*options.get("filters", ()), (key, value))
    else:
        options[key] = value


def _choice(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"


def _found(text: str) -> str:
    return f", found {printable(text)!r}" if text else ""
