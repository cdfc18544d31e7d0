"""`#GLOBUS` lines: from the text of a job script to a list of directives, or one error with its line and column.

Pure: nothing is read but the text and the mapping given as the environment. As with #SBATCH and #PBS, directives count
only before the first command. Grammar and symbols are described in docs/job-scripts.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from globuswrap.errors import UsageProblem
from globuswrap.system.log import printable as printable
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
class Directive:
    """One `#GLOBUS` line. Every text is a template: symbols are still in it, `%%` is a per cent sign; see `expand`."""

    verb: str
    line: int
    source: str = ""
    destination: str = ""
    options: tuple[tuple[str, object], ...] = ()
    when: str = SUCCESS
    if_present: bool = False


@dataclass(frozen=True)
class Script:
    """What the `#GLOBUS` lines of a script say. `late`: numbers of those after the first command, without effect."""

    directives: tuple[Directive, ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    late: tuple[int, ...] = ()

    def of(self, verb: str) -> tuple[Directive, ...]:
        return tuple(directive for directive in self.directives if directive.verb == verb)

    def uses(self, symbol: str) -> bool:
        """Whether any line uses the symbol, given as its letter."""
        return any(
            symbol in symbols_of(text)
            for directive in self.directives
            for text in (directive.source, directive.destination)
        )


@dataclass(frozen=True)
class _Char:
    text: str
    line: int
    column: int


@dataclass(frozen=True)
class _Word:
    text: str  # template
    line: int
    column: int


class _Complaint:
    """Builds the one error a bad line ends in."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name
        self.lines = lines

    def __call__(self, line: int, column: int, expected: str) -> UsageProblem:
        shown = printable(self.lines[line - 1])
        return UsageProblem(
            "directive-malformed",
            f"{printable(self.name)}:{line}:{column}: {expected}",
            f"correct line {line}; nothing was submitted",
            detail=f"{shown}\n{' ' * (column - 1)}^",
        )


def parse(text: str, name: str = "script", environment: Mapping[str, str] | None = None) -> Script:
    """The directives of a job script.

    `text` is the script decoded as UTF-8 with surrogate escapes; `name` is how errors call it; `environment` gives
    `${NAME}`.
    Raises UsageProblem `directive-malformed` with `name:line:column: what was expected` for the first bad line.
    """
    lines = text.split("\n")
    complain = _Complaint(name, lines)
    names = dict(environment or {})
    own: dict[str, str] = {}  # set NAME=VALUE: templates already
    directives: list[Directive] = []
    settings: dict[str, str] = {}
    late: list[int] = []
    number = 0
    commands = False
    while number < len(lines):
        line = lines[number]
        number += 1
        if not _is_directive(line):
            commands = commands or not (line.strip() == "" or line.startswith("#"))
            continue
        if commands:
            late.append(number)
            continue
        chars, number = _logical_line(lines, number, complain)
        words = _words(chars, names, own, complain)
        first = _Word("", number, len(PREFIX) + 2) if not words else words[0]
        if first.text not in VERBS:
            raise complain(first.line, first.column, f"expected {_choice(VERBS)}" + _found(first.text))
        if first.text == SET:
            _set(words, own, settings, complain)
        else:
            directives.append(_directive(words, complain))
    return Script(tuple(directives), tuple(settings.items()), tuple(late))


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


def _logical_line(lines: list[str], number: int, complain: _Complaint) -> tuple[list[_Char], int]:
    """The characters after the prefix, continuation lines joined; `number` is that of the first line, from 1."""
    chars: list[_Char] = []
    while True:
        line = lines[number - 1]
        if line.endswith("\r"):
            raise complain(number, len(line), "a DOS line end: convert the script to Unix line ends")
        for column, char in enumerate(line, 1):
            if "\udc80" <= char <= "\udcff":
                raise complain(number, column, "a byte that is not UTF-8: Globus takes only UTF-8 names")
            if column > len(PREFIX):
                chars.append(_Char(char, number, column))
        body = line[len(PREFIX) :]
        trailing = len(body) - len(body.rstrip("\\"))
        if trailing % 2 == 0:
            return chars, number
        chars.pop()
        number += 1
        if number > len(lines) or not _is_directive(lines[number - 1]):
            raise complain(number - 1, len(line), f"expected a line starting with {PREFIX} after the backslash")


def _words(chars: list[_Char], names: Mapping[str, str], own: Mapping[str, str], complain: _Complaint) -> list[_Word]:
    words: list[_Word] = []
    at = 0
    while at < len(chars):
        if chars[at].text in " \t":
            at += 1
            continue
        start = chars[at]
        if start.text == "#":
            raise complain(
                start.line, start.column, "a name that starts with # must be quoted; a comment has a line of its own"
            )
        text, at = _word(chars, at, names, own, complain)
        words.append(_Word(text, start.line, start.column))
    return words


def _word(
    chars: list[_Char], at: int, names: Mapping[str, str], own: Mapping[str, str], complain: _Complaint
) -> tuple[str, int]:
    out: list[str] = []
    quote: _Char | None = None
    while at < len(chars):
        char = chars[at]
        following = chars[at + 1].text if at + 1 < len(chars) else ""
        if quote is None and char.text in " \t":
            break
        if quote is None and char.text == "$" and following == "'":
            piece, at = _ansi(chars, at + 2, char, complain)
            out.append(piece)
        elif quote is None and char.text == "'":
            piece, at = _single(chars, at + 1, char, complain)
            out.append(piece)
        elif char.text == '"':
            quote = char if quote is None else None
            at += 1
        elif char.text == "\\" and (quote is None or following in ('"', "\\", "$", "`")):
            if not following:
                raise complain(char.line, char.column, "expected a character after the backslash")
            out.append(escape(following))
            at += 2
        elif char.text == "$" and following == "{":
            piece, at = _variable(chars, at, names, own, complain)
            out.append(piece)
        elif char.text == "%":
            out.append(_symbol(chars, at, complain))
            at += 2
        else:
            out.append(char.text)
            at += 1
    if quote is not None:
        raise complain(quote.line, quote.column, "a quotation mark that is not closed")
    return "".join(out), at


def _symbol(chars: list[_Char], at: int, complain: _Complaint) -> str:
    letter = chars[at + 1].text if at + 1 < len(chars) else ""
    if letter != "%" and letter not in SYMBOLS:
        known = ", ".join(f"%{each}" for each in SYMBOLS)
        raise complain(chars[at].line, chars[at].column, f"expected {known} or %% after %" + _found(letter))
    return "%" + letter


def _single(chars: list[_Char], at: int, opening: _Char, complain: _Complaint) -> tuple[str, int]:
    out: list[str] = []
    while at < len(chars):
        if chars[at].text == "'":
            return "".join(out), at + 1
        if chars[at].text == "%":
            out.append(_symbol(chars, at, complain))
            at += 2
        else:
            out.append(chars[at].text)
            at += 1
    raise complain(opening.line, opening.column, "a quotation mark that is not closed")


_ANSI = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "\\": "\\", "'": "'", '"': '"'}
_ANSI_HEX = {"x": 2, "u": 4, "U": 8}


def _ansi(chars: list[_Char], at: int, opening: _Char, complain: _Complaint) -> tuple[str, int]:
    """`$'...'`: the one way to write a newline or a tab in a name."""
    out: list[str] = []
    while at < len(chars):
        char = chars[at]
        following = chars[at + 1].text if at + 1 < len(chars) else ""
        if char.text == "'":
            return "".join(out), at + 1
        if char.text == "\\" and following in _ANSI:
            out.append(_ANSI[following])
            at += 2
        elif char.text == "\\" and following in _ANSI_HEX:
            digits = ""
            at += 2
            while len(digits) < _ANSI_HEX[following] and at < len(chars) and chars[at].text in "0123456789abcdefABCDEF":
                digits += chars[at].text
                at += 1
            code = int(digits or "0", 16)
            if code == 0 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF or (following == "x" and code > 0x7F):
                raise complain(char.line, char.column, "expected a character's number after the backslash (not zero)")
            out.append(escape(chr(code)))
        elif char.text == "\\":
            raise complain(char.line, char.column, r"expected one of \n \t \r \f \v \\ \' \" \xHH \uHHHH \UHHHHHHHH")
        elif char.text == "%":
            out.append(_symbol(chars, at, complain))
            at += 2
        else:
            out.append(char.text)
            at += 1
    raise complain(opening.line, opening.column, "a quotation mark that is not closed")


def _variable(
    chars: list[_Char], at: int, names: Mapping[str, str], own: Mapping[str, str], complain: _Complaint
) -> tuple[str, int]:
    opening = chars[at]
    name = ""
    at += 2
    while at < len(chars) and chars[at].text != "}":
        name += chars[at].text
        at += 1
    if at == len(chars):
        raise complain(opening.line, opening.column, "expected } after ${")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise complain(
            opening.line, opening.column + 2, "expected the name of a variable and }: nothing but ${NAME} is expanded"
        )
    if name in own:
        return own[name], at + 1
    if name not in names:
        raise complain(opening.line, opening.column, f"{name} is not set: expected a variable of the environment")
    value = names[name]
    if any("\udc80" <= char <= "\udcff" for char in value):
        raise complain(opening.line, opening.column, f"the value of {name} is not UTF-8")
    return escape(value), at + 1


def _set(words: list[_Word], own: dict[str, str], settings: dict[str, str], complain: _Complaint) -> None:
    verb = words[0]
    if len(words) == 1:
        raise complain(verb.line, verb.column + len(verb.text), "expected NAME=VALUE after set")
    if len(words) > 2:
        raise complain(words[2].line, words[2].column, "expected one NAME=VALUE; quote a value with spaces")
    word = words[1]
    name, equals, value = word.text.partition("=")
    if not equals:
        raise complain(word.line, word.column, "expected NAME=VALUE")
    if name in SETTINGS:
        settings[name] = expand(value, {}) if not symbols_of(value) else _no_symbols(word, complain)
    elif re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        own[name] = value
    else:
        raise complain(word.line, word.column, f"expected a NAME in capitals, or {_choice(SETTINGS)}" + _found(name))


def _no_symbols(word: _Word, complain: _Complaint) -> str:
    raise complain(word.line, word.column, "a setting takes no symbols: %% is a per cent sign")


def _directive(words: list[_Word], complain: _Complaint) -> Directive:
    verb = words[0]
    allowed = OPTIONS[verb.text]
    wanted = ("ADDRESS",) if verb.text == CLEANUP else ("SOURCE", "DESTINATION")
    places: list[_Word] = []
    options: dict[str, object] = {}
    position = 1
    only_places = False
    while position < len(words):
        word = words[position]
        position += 1
        if word.text == "--" and not only_places:
            only_places = True
        elif word.text.startswith("-") and word.text != "-" and not only_places:
            position = _option(words, position, allowed, options, complain)
        elif len(places) == len(wanted):
            raise complain(
                word.line,
                word.column,
                f"expected an option or the end of the line, {' '.join(wanted)} being complete" + _found(word.text),
            )
        elif not word.text:
            raise complain(word.line, word.column, f"expected {wanted[len(places)]}, found an empty text")
        else:
            places.append(word)
    if len(places) < len(wanted):
        last = complain.lines[words[-1].line - 1]
        raise complain(words[-1].line, len(last) + 1, f"expected {wanted[len(places)]} (NAME_OR_UUID:/path)")
    when = str(options.pop("when", SUCCESS))
    if_present = bool(options.pop("if-present", False))
    texts = [place.text for place in places]
    source, destination = (texts[0], "") if verb.text == CLEANUP else (texts[0], texts[1])
    return Directive(verb.text, verb.line, source, destination, tuple(options.items()), when, if_present)


def _option(
    words: list[_Word],
    position: int,
    allowed: Mapping[str, str | tuple[str, ...]],
    options: dict[str, object],
    complain: _Complaint,
) -> int:
    """Reads the option in words[position - 1]; returns the position after it and its value."""
    word = words[position - 1]
    name, equals, value = word.text.partition("=")
    name = SHORT.get(name, name)
    negated = name.startswith("--no-") and allowed.get(name[5:]) == "flag"
    key = name[5:] if negated else name[2:]
    kind = allowed.get(key) if name.startswith("--") else None
    if kind is None:
        raise complain(
            word.line, word.column, f"expected an option of {words[0].text}{_found(name)}; it has {_listed(allowed)}"
        )
    if kind in ("flag", "plain-flag"):
        if equals:
            raise complain(word.line, word.column + len(name), f"{name} takes no value")
        options[key] = not negated
        return position
    column = word.column + len(name) + 1
    line = word.line
    if not equals:
        if position == len(words):
            raise complain(word.line, word.column + len(word.text), f"expected a value after {name}")
        value, line, column = words[position].text, words[position].line, words[position].column
        position += 1
    if isinstance(kind, tuple) and value not in kind:
        raise complain(line, column, f"expected {_choice(kind)}" + _found(value))
    if kind == "filter":
        # One list of both kinds: their order counts, the first match wins.
        earlier = options.get("filters", ())
        assert isinstance(earlier, tuple)
        options["filters"] = (*earlier, (key, value))
    else:
        options[key] = value
    return position


def _choice(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _listed(allowed: Mapping[str, object]) -> str:
    return ", ".join(f"--{name}" for name in allowed)


def _found(text: str) -> str:
    return f", found {printable(text)!r}" if text else ""
