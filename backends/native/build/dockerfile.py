"""A Dockerfile as a list of instructions (docs.docker.com/reference/dockerfile, "Format").

Pure: text in, instructions out. Words keep their variables and quotes; those are replaced when the instruction is
carried out, since what they mean depends on what came before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from backends.errors import UsageError
from backends.native.build.instruction import Heredoc, Instruction, parse
from backends.native.build.words import WordError, split

LONGEST = 2 * 1024**2
"""Bytes of a Dockerfile."""

_MOST = 10_000
_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)\s*([^<\s]+)")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


class DockerfileError(UsageError):
    """An instruction makes no sense; says in which line."""

    def __init__(self, line: int, text: str, *, hint: str = "") -> None:
        super().__init__(f"Dockerfile, line {line}: {text}", hint=hint)
        self.line = line


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """What a Dockerfile says."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"


def read(data: bytes) -> Dockerfile:
    """Return the instructions of a Dockerfile. Raises DockerfileError."""
    if len(data) > LONGEST:
        raise DockerfileError(1, f"it has more than {LONGEST // 1024**2} MiB")
    if b"\0" in data:
        raise DockerfileError(data[: data.index(b"\0")].count(b"\n") + 1, "it holds a NUL byte; is it a text file?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DockerfileError(data[: error.start].count(b"\n") + 1, "it is not UTF-8 text") from None
    # Only these end a line: str.splitlines knows more.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    escape, begin = _directives(lines)
    found = []
    reader = _Lines(lines, escape, begin)
    while (instruction := reader.next()) is not None:
        found.append(instruction)
        if len(found) > _MOST:
            raise DockerfileError(instruction.line, f"more than {_MOST} instructions")
    return Dockerfile(tuple(found), escape)


def parse_line(text: str, line: int = 1, escape: str = "\\") -> Instruction:
    """Return the instruction that a single line is. Raises DockerfileError."""
    found = read_lines(text.split("\n"), escape, line)
    if len(found) != 1:
        raise DockerfileError(line, f"{text[:60]!r} is not one instruction")
    return found[0]


def read_lines(lines: Sequence[str], escape: str, line: int) -> list[Instruction]:
    """Return the instructions of lines that stand at a line of something else."""
    reader, found = _Lines(lines, escape, 0), []
    while (instruction := reader.next()) is not None:
        found.append(replace(instruction, line=line))
    return found


def _directives(lines: Sequence[str]) -> tuple[str, int]:
    """Return the escape character and the number of lines with directives; they stand before all else."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines):
        match = _DIRECTIVE.fullmatch(line.strip())
        name = match.group(1).lower() if match else ""
        if match is None or name not in _DIRECTIVES:
            return found.get("escape", "\\"), number
        if name in found:
            raise DockerfileError(number + 1, f"the directive {name} is there twice")
        found[name] = match.group(2)
        if name == "escape" and found[name] not in ("\\", "`"):
            raise DockerfileError(number + 1, f"escape={found[name]}: it can only be \\ or `")
    return found.get("escape", "\\"), len(lines)


class _Lines:
    def __init__(self, lines: Sequence[str], escape: str, begin: int) -> None:
        self._lines, self._escape, self._at = lines, escape, begin
        # An escape character at the end of the line, and none before it, which would make it a plain one.
        mark = re.escape(escape)
        self._goes_on = re.compile(rf"(?:^|[^{mark}]){mark}[ \t]*$")

    def next(self) -> Instruction | None:
        """Return the next instruction, or None at the end."""
        while self._at < len(self._lines) and _is_void(self._lines[self._at]):
            self._at += 1
        if self._at >= len(self._lines):
            return None
        line = self._at + 1
        text = self._joined()
        if not text:  # an escape character alone
            return self.next()
        try:
            return parse(text, line, self._escape, self._heredocs(text, line))
        except WordError as error:
            raise DockerfileError(line, str(error)) from None

    def _joined(self) -> str:
        """Return the line with those that continue it; comments and empty lines among these are left out."""
        parts: list[str] = []
        while self._at < len(self._lines):
            text = self._lines[self._at]
            self._at += 1
            if parts and _is_void(text):
                continue
            if not parts:
                text = text.lstrip()
            if not self._goes_on.search(text):
                parts.append(text)
                break
            parts.append(text.rstrip(" \t")[:-1])
        return "".join(parts).rstrip()

    def _heredocs(self, text: str, line: int) -> tuple[Heredoc, ...]:
        if text.split(None, 1)[0].upper() not in _WITH_HEREDOCS or "<<" not in text:
            return ()
        found = []
        for word in split(text, self._escape):
            match = _HEREDOC.fullmatch(word)
            if match is None or word.startswith(("'", '"')):
                continue
            quoted = match.group(3)
            name = quoted.replace("'", "").replace('"', "").replace(self._escape, "")
            if not name:
                continue
            body = self._body(name, line, drops_tabs=bool(match.group(2)))
            found.append(Heredoc(name, body, is_plain=name != quoted, drops_tabs=bool(match.group(2))))
        return tuple(found)

    def _body(self, name: str, line: int, *, drops_tabs: bool) -> str:
        body: list[str] = []
        while self._at < len(self._lines):
            text = self._lines[self._at]
            self._at += 1
            text = text.lstrip("\t") if drops_tabs else text
            if text == name:
                return "".join(f"{each}\n" for each in body)
            body.append(text)
        raise DockerfileError(line, f"the here-document <<{name} does not end: no line is {name!r}")


def _is_void(line: str) -> bool:
    text = line.strip()
    return not text or text.startswith("#")
