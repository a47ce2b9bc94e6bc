"""One instruction of a Dockerfile: its options, and its arguments in the form that it takes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backends.native.build.words import WordError, split

FLAGS: dict[str, tuple[str, ...]] = {
    "FROM": ("platform",),
    "RUN": ("network", "mount", "security"),
    "COPY": ("from", "chown", "chmod", "link"),
    "ADD": ("chown", "chmod", "link", "checksum", "keep-git-dir"),
    "HEALTHCHECK": ("interval", "timeout", "start-period", "start-interval", "retries"),
}
"""What may stand between an instruction and its arguments, as --NAME=VALUE."""

_SWITCHES = ("link", "keep-git-dir")


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A here-document: lines up to one that is its name."""

    name: str
    body: str
    is_plain: bool = False
    """Its name was quoted: variables in it are left alone."""

    drops_tabs: bool = False
    """<<-: its lines lost the tabs they began with."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. Words hold variables and quotes still, except those of a JSON form."""

    keyword: str
    """In capitals."""

    text: str
    """As it was written, its lines joined."""

    line: int
    flags: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] = ()
    """Arguments; one word with all of it for a shell form, and where the instruction takes a single value."""

    pairs: tuple[tuple[str, str | None], ...] = ()
    """(name, value) of ENV, LABEL and ARG; value None: an ARG without default."""

    is_json: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    child: Instruction | None = None
    """What ONBUILD keeps, and the CMD of a HEALTHCHECK."""

    def flag(self, name: str, default: str = "") -> str:
        """Return the value of an option, the last if there are several."""
        return dict(self.flags).get(name, default)

    @property
    def rest(self) -> str:
        """The line without its keyword."""
        return self.text.partition(self.text.split(None, 1)[0])[2].strip()


def parse(text: str, line: int, escape: str, heredocs: Sequence[Heredoc] = ()) -> Instruction:
    """Return the instruction of a line that is whole. Raises WordError."""
    first, *more = text.split(None, 1)
    keyword = first.upper()
    reader = _READERS.get(keyword)
    if reader is None:
        raise WordError(f"there is no instruction {first[:40]!r}")
    rest = more[0] if more else ""
    flags, rest = _flags(keyword, rest, escape)
    found = reader(Instruction(keyword, text, line, flags, heredocs=tuple(heredocs)), rest.strip(), escape)
    return found


def _flags(keyword: str, rest: str, escape: str) -> tuple[tuple[tuple[str, str], ...], str]:
    known = FLAGS.get(keyword)
    if known is None:
        return (), rest
    found: list[tuple[str, str]] = []
    rest = rest.lstrip()
    while rest.startswith("--"):
        word, *more = split_first(rest)
        rest = more[0] if more else ""
        if word == "--":
            break
        name, equals, value = word[2:].partition("=")
        if name not in known:
            what = f"it knows {', '.join('--' + each for each in known)}"
            raise WordError(f"{keyword} has no option --{name[:40]}: {what}")
        if not equals and name in _SWITCHES:
            value = "true"
        elif not equals:
            raise WordError(f"--{name} needs a value: --{name}=…")
        if name in dict(found) and name != "mount":
            raise WordError(f"--{name} is there twice")
        found.append((name, value))
    return tuple(found), rest


def split_first(text: str) -> list[str]:
    """Return the first word, without the quotes around its value, and what follows it if there is anything."""
    match = re.match(r"""((?:[^\s"']|"[^"]*"|'[^']*'|["'])+)\s*""", text)
    assert match is not None
    word = re.sub(r"""=(["'])(.*)\1$""", r"=\2", match.group(1))
    return [word, text[match.end() :]]


def json_words(text: str) -> tuple[str, ...] | None:
    """Return the strings of a JSON array; None if it is none, as docker then takes it for a shell's line."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list) and all(isinstance(word, str) for word in found):
        return tuple(found)
    return None


_Reader = Callable[[Instruction, str, str], Instruction]


def _with(instruction: Instruction, **changes: object) -> Instruction:
    values = {name: getattr(instruction, name) for name in Instruction.__slots__}
    return Instruction(**values | changes)


def _command(instruction: Instruction, rest: str, escape: str) -> Instruction:
    if not rest and instruction.keyword == "RUN":
        raise WordError("RUN needs a command")
    words = json_words(rest)
    if words is not None:
        if any("\0" in word for word in words):
            raise WordError("a program and its arguments cannot hold NUL bytes")
        if instruction.keyword == "RUN" and not words:
            raise WordError("RUN needs a command")
        return _with(instruction, words=words, is_json=True)
    return _with(instruction, words=(rest,) if rest else ())


def _shell(instruction: Instruction, rest: str, escape: str) -> Instruction:
    words = json_words(rest)
    if not words:
        raise WordError('SHELL needs its words as a JSON array: SHELL ["/bin/bash", "-c"]')
    return _with(instruction, words=words, is_json=True)


def _paths(instruction: Instruction, rest: str, escape: str) -> Instruction:
    found = json_words(rest)
    words = found if found is not None else tuple(split(rest, escape))
    if len(words) < 2 or not all(words):
        raise WordError(f"{instruction.keyword} needs at least a source and a destination")
    return _with(instruction, words=words, is_json=found is not None)


def _list(instruction: Instruction, rest: str, escape: str) -> Instruction:
    found = json_words(rest) if instruction.keyword == "VOLUME" else None
    words = found if found is not None else tuple(split(rest, escape))
    if not words:
        raise WordError(f"{instruction.keyword} needs at least one argument")
    return _with(instruction, words=words, is_json=found is not None)


def _single(instruction: Instruction, rest: str, escape: str) -> Instruction:
    if not rest:
        raise WordError(f"{instruction.keyword} needs an argument")
    return _with(instruction, words=(rest,))


def _pairs(instruction: Instruction, rest: str, escape: str) -> Instruction:
    words = split(rest, escape)
    if not words:
        raise WordError(f"{instruction.keyword} needs NAME=VALUE")
    if "=" not in words[0] and instruction.keyword in ("ENV", "LABEL"):
        name, *value = rest.split(None, 1)
        if not value:
            raise WordError(f"{instruction.keyword} {name[:40]} needs a value: {instruction.keyword} NAME=VALUE")
        return _with(instruction, pairs=((name, value[0]),))
    pairs: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, text = word.partition("=")
        if not equals and instruction.keyword != "ARG":
            raise WordError(f"{word[:40]!r} is not NAME=VALUE; a value with spaces is put in quotes")
        if not name.strip("\"'"):
            raise WordError(f"{word[:40]!r} has no name")
        pairs.append((name, text if equals else None))
    return _with(instruction, pairs=tuple(pairs))


def _from(instruction: Instruction, rest: str, escape: str) -> Instruction:
    words = tuple(split(rest, escape))
    if len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise WordError("FROM needs an image, and maybe a name: FROM IMAGE [AS NAME]")
    if len(words) == 3 and not re.fullmatch(r"[a-z][a-z0-9_.-]*", words[2].lower()):
        raise WordError(f"{words[2][:40]!r} cannot be the name of a stage: letters, digits, '_', '.', '-'")
    return _with(instruction, words=words)


def _health(instruction: Instruction, rest: str, escape: str) -> Instruction:
    word, *more = rest.split(None, 1) if rest else ("",)
    if word.upper() == "NONE" and not more and not instruction.flags:
        return _with(instruction, words=("NONE",))
    if word.upper() != "CMD" or not more:
        raise WordError("HEALTHCHECK needs CMD and a command, or NONE")
    child = _command(Instruction("CMD", rest, instruction.line), more[0].strip(), escape)
    return _with(instruction, child=child)


def _onbuild(instruction: Instruction, rest: str, escape: str) -> Instruction:
    keyword = rest.split(None, 1)[0].upper() if rest else ""
    if keyword in ("ONBUILD", "FROM", "MAINTAINER"):
        raise WordError(f"ONBUILD {keyword} cannot be")
    if not keyword:
        raise WordError("ONBUILD needs an instruction")
    child = parse(rest, instruction.line, escape)
    if keyword in ("RUN", "COPY", "ADD") and any(re.match(r"\d*<<-?\w", word) for word in child.words):
        raise WordError("a here-document cannot be kept for ONBUILD")
    return _with(instruction, words=(rest,), child=child)


_READERS: dict[str, _Reader] = {
    "FROM": _from,
    "RUN": _command,
    "CMD": _command,
    "ENTRYPOINT": _command,
    "SHELL": _shell,
    "COPY": _paths,
    "ADD": _paths,
    "ENV": _pairs,
    "LABEL": _pairs,
    "ARG": _pairs,
    "WORKDIR": _single,
    "USER": _single,
    "STOPSIGNAL": _single,
    "MAINTAINER": _single,
    "EXPOSE": _list,
    "VOLUME": _list,
    "HEALTHCHECK": _health,
    "ONBUILD": _onbuild,
}
