"""`.dockerignore`: which paths of the context a build does not see (Dockerfile reference, ".dockerignore file").

A pattern is matched against the whole path below the context and against its parents; the last that matches wins.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from backends.errors import UsageError

LONGEST = 1024**2
_MOST = 10_000
_MOST_STARS = 4
"""A regular expression with more of them can take for ever on a long path; the slow matcher cannot."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    is_exception: bool
    tokens: tuple[str, ...]
    expression: re.Pattern[str] | None
    text: str

    def matches(self, path: str) -> bool:
        if self.expression is not None:
            return self.expression.fullmatch(path) is not None
        return _slowly(self.tokens, path)


@dataclass(slots=True)
class Ignore:
    """The patterns of one file."""

    patterns: tuple[_Pattern, ...] = ()
    _known: dict[str, bool] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: bytes, name: str = ".dockerignore") -> Ignore:
        """Return what a file asks for. Raises UsageError with the line."""
        if len(data) > LONGEST:
            raise UsageError(f"{name} has more than {LONGEST // 1024**2} MiB")
        found = []
        for number, line in enumerate(data.decode("utf-8-sig", "surrogateescape").split("\n"), 1):
            text = line.strip()
            if text.startswith("#") or not text:
                continue
            try:
                pattern = _pattern(text)
            except ValueError as error:
                raise UsageError(f"{name}, line {number}: {error}") from None
            if pattern is not None:
                found.append(pattern)
            if len(found) > _MOST:
                raise UsageError(f"{name} has more than {_MOST} patterns")
        return cls(tuple(found))

    @property
    def has_exceptions(self) -> bool:
        """Say whether something below an ignored folder may be seen."""
        return any(pattern.is_exception for pattern in self.patterns)

    def ignores(self, path: str) -> bool:
        """Say whether the build does not see a path ("a/b", below the context)."""
        if not self.patterns or not path:
            return False
        known = self._known.get(path)
        if known is None:
            parents = _parents(path)
            ignored = False
            for pattern in self.patterns:
                if pattern.is_exception == ignored and any(pattern.matches(each) for each in parents):
                    ignored = not pattern.is_exception
            if len(self._known) < 100_000:
                self._known[path] = ignored
            known = ignored
        return known


def one_component(text: str) -> Callable[[str], bool]:
    """Return what says whether a name fits a pattern without slashes. Raises UsageError."""
    try:
        pattern = _pattern(text)
    except ValueError as error:
        raise UsageError(f"{text[:60]!r}: {error}") from None
    return pattern.matches if pattern is not None else lambda name: False


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]


def _pattern(text: str) -> _Pattern | None:
    is_exception = text.startswith("!")
    body = text[1:].strip() if is_exception else text
    if is_exception and not body:
        raise ValueError("there is nothing after !")
    parts: list[str] = []
    for part in body.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    if not parts:
        return None
    tokens = _tokens("/".join(parts))
    stars = sum(token in ("*", "**", "**/") for token in tokens)
    expression = re.compile("".join(map(_expression, tokens)), re.DOTALL) if stars <= _MOST_STARS else None
    return _Pattern(is_exception, tokens, expression, text)


def _tokens(text: str) -> tuple[str, ...]:
    found, at = [], 0
    while at < len(text):
        char = text[at]
        if text.startswith("**", at):
            at += 2
            while text.startswith("*", at):
                at += 1
            if text.startswith("/", at):
                at += 1
                found.append("**/")
            else:
                found.append("**")
            continue
        if char == "\\":
            if at + 1 >= len(text):
                raise ValueError("a \\ at the end means nothing")
            found.append("\\" + text[at + 1])
            at += 2
            continue
        if char == "[":
            end = _class_end(text, at)
            found.append(text[at:end])
            at = end
            continue
        found.append(char if char in "*?" else "\\" + char)
        at += 1
    return tuple(found)


def _class_end(text: str, begin: int) -> int:
    at = begin + 1 + text.startswith("^", begin + 1)
    first = at
    while at < len(text):
        if text[at] == "]" and at > first:
            re.compile(_class(text[begin : at + 1]))
            return at + 1
        at += 2 if text[at] == "\\" else 1
    raise ValueError(f"{text[begin:][:40]!r}: a [ is not closed")


def _class(token: str) -> str:
    """Return a set of characters as a regular expression has it; none has the slash in it."""
    body = token[1:-1]
    mark = "^" if body.startswith("^") else ""
    chars = _literals(body.removeprefix("^"))
    found, at = [], 0
    while at < len(chars):
        char = chars[at][0]
        if at + 2 < len(chars) and chars[at + 1] == ("-", True):
            found.append(f"{re.escape(char)}-{re.escape(chars[at + 2][0])}")
            at += 3
        else:
            found.append(re.escape(char))
            at += 1
    try:
        expression = f"(?!/)[{mark}{''.join(found)}]"
        re.compile(expression)
    except re.error:
        raise ValueError(f"{token[:40]!r} is no set of characters") from None
    return expression


def _literals(body: str) -> list[tuple[str, bool]]:
    """Return the characters of a set, and whether each stood there without an escape."""
    found, at = [], 0
    while at < len(body):
        is_escaped = body[at] == "\\" and at + 1 < len(body)
        found.append((body[at + is_escaped], not is_escaped))
        at += 1 + is_escaped
    return found


def _expression(token: str) -> str:
    plain = {"*": "[^/]*", "?": "[^/]", "**": ".*", "**/": "(?:.*/)?"}.get(token)
    if plain is not None:
        return plain
    return _class(token) if token.startswith("[") else re.escape(token[1:])


def _slowly(tokens: tuple[str, ...], path: str) -> bool:
    """Match without going back: the set of places in the pattern that can be reached, character after character."""
    sets = [re.compile(_class(token)) if token.startswith("[") else None for token in tokens]
    places = _closure({0}, tokens)
    for char in path:
        reached = set()
        for place in places:
            if place == len(tokens):
                continue
            token, known = tokens[place], sets[place]
            if known is not None:
                if known.match(char):
                    reached.add(place + 1)
            elif token == "**":
                reached.add(place)
            elif token == "**/":
                reached.add(place)
                if char == "/":
                    reached.add(place + 1)
            elif token == "*":
                if char != "/":
                    reached.add(place)
            elif token == "?":
                if char != "/":
                    reached.add(place + 1)
            elif token[1:] == char:
                reached.add(place + 1)
        # "**/" may be skipped only where it begins: what it has swallowed must end with the slash.
        begun = {place for place in reached if place < len(tokens) and tokens[place] == "**/" and place in places}
        places = begun | _closure(reached - begun, tokens)
        if not places:
            return False
    return len(tokens) in places


def _closure(places: set[int], tokens: tuple[str, ...]) -> set[int]:
    found, waiting = set(places), list(places)
    while waiting:
        place = waiting.pop()
        if place < len(tokens) and tokens[place] in ("*", "**", "**/") and place + 1 not in found:
            found.add(place + 1)
            waiting.append(place + 1)
    return found
