"""Words of a Dockerfile: where they end, what quotes and escapes mean in them, and variables.

The rules are docker's, which are a shell's without commands, arithmetic and arrays (Dockerfile reference,
"Environment replacement"): `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME:+word}`, `${NAME:?word}` and these without
the colon, `${NAME#pattern}`, `##`, `%`, `%%`, `${NAME/pattern/word}` and `//`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import translate

LONGEST = 131_072
"""Bytes that no word may have more of: with a longer one the kernel starts no program (MAX_ARG_STRLEN)."""

_DEEPEST = 50
_SPECIAL = "@*#?-$!0"
_MOST_WILDCARDS = 8


class WordError(ValueError):
    """A word that makes no sense; the message says why, not where."""


def split(text: str, escape: str) -> list[str]:
    """Return the words of a line with their quotes and escapes as they are. An open quote ends with the line."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == escape and quote != "'" and at + 1 < len(text):
            word.append(text[at : at + 2])
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            if word:
                words.append("".join(word))
                word = []
            at += 1
            continue
        word.append(char)
        at += 1
    if word:
        words.append("".join(word))
    return words


def expand(text: str, values: Mapping[str, str], escape: str = "\\", *, keep_quotes: bool = False) -> str:
    """Return a word with its variables replaced and its quotes and escapes gone. Raises WordError.

    keep_quotes is for the body of a here-document, in which quotes mean nothing.
    """
    return _Reader(text, values, escape, keep_quotes=keep_quotes).all()


def expand_words(text: str, values: Mapping[str, str], escape: str = "\\") -> list[str]:
    """Return the words that a word becomes: one whose variable holds spaces becomes several, unless it is quoted."""
    reader = _Reader(text, values, escape, mark=True)
    found = reader.all()
    return [word.replace("\0", " ") for word in found.split()]


class _Reader:
    def __init__(
        self, text: str, values: Mapping[str, str], escape: str, *, keep_quotes: bool = False, mark: bool = False
    ) -> None:
        self._text, self._values, self._escape = text, values, escape
        self._keeps_quotes, self._marks = keep_quotes, mark
        self._at = self._depth = self._length = 0

    def all(self) -> str:
        return self._until("")

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += 1
        return char

    def _until(self, stop: str) -> str:
        """Read up to a character that is not quoted, or to the end if that is asked for."""
        found: list[str] = []
        while char := self._peek():
            if stop and char == stop:
                self._at += 1
                return "".join(found)
            if char in "'\"" and not self._keeps_quotes:
                self._at += 1
                found.append(self._single() if char == "'" else self._double())
            elif char == "$":
                found.append(self._dollar())
            else:
                self._at += 1
                found.append(self._escaped() if char == self._escape else char)
            self._count(found[-1])
        if stop:
            raise WordError(f"there is no {stop!r} that ends a variable")
        return "".join(found)

    def _count(self, piece: str) -> None:
        self._length += len(piece)
        if self._length > LONGEST:
            raise WordError(f"with its variables replaced it is longer than {LONGEST} bytes")

    def _escaped(self) -> str:
        char = self._next()
        if self._keeps_quotes and char not in ("$", self._escape):
            return self._escape + char
        return self._quoted(char)

    def _quoted(self, text: str) -> str:
        """Mark quoted spaces, at which expand_words() must not split."""
        return re.sub(r"\s", "\0", text) if self._marks else text

    def _single(self) -> str:
        end = self._text.find("'", self._at)
        if end < 0:
            raise WordError("a ' is not closed")
        found, self._at = self._text[self._at : end], end + 1
        return self._quoted(found)

    def _double(self) -> str:
        found: list[str] = []
        while char := self._peek():
            if char == '"':
                self._at += 1
                return self._quoted("".join(found))
            if char == "$":
                found.append(self._dollar())
            else:
                self._at += 1
                found.append(self._escaped_in_quotes() if char == self._escape else char)
            self._count(found[-1])
        raise WordError('a " is not closed')

    def _escaped_in_quotes(self) -> str:
        char = self._peek()
        if char and char in f'"${self._escape}':
            return self._next()
        return self._escape

    def _dollar(self) -> str:
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            return self._values.get(name, "") if name else "$"
        self._at += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise WordError(f"variables stand in one another more than {_DEEPEST} deep")
        found = self._braced()
        self._depth -= 1
        return found

    def _name(self) -> str:
        match = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+").match(self._text, self._at)
        if match:
            self._at = match.end()
            return match.group()
        char = self._peek()
        if char and char in _SPECIAL:
            self._at += 1
            return char
        return ""

    def _braced(self) -> str:
        name = self._name()
        if not name:
            raise WordError("${ is not followed by the name of a variable")
        value = self._values.get(name)
        char = self._next()
        if char == "}":
            return value or ""
        if char == ":":
            char = self._next()
            if char not in ("-", "+", "?"):
                raise WordError(f"${{{name}:{char}…}} is not supported; there are :- :+ and :?")
            value = value or None
        if char in ("-", "+", "?") and char:
            return self._default(char, name, value)
        if char in ("#", "%") and char:
            is_long = self._peek() == char
            self._at += is_long
            return _cut(value or "", self._until("}"), from_end=char == "%", longest=is_long)
        if char == "/":
            is_all = self._peek() == "/"
            self._at += is_all
            pattern = self._until("/")
            return _compiled(pattern).sub(_constant(self._until("}")), value or "", 0 if is_all else 1)
        raise WordError(f"${{{name} is not closed" if not char else f"${{{name}{char}…}} is not supported")

    def _default(self, char: str, name: str, value: str | None) -> str:
        word = self._until("}")
        if char == "-":
            return word if value is None else value
        if char == "+":
            return "" if value is None else word
        if value is None:
            raise WordError(f"{name} is not set: {word}" if word else f"{name} is not set")
        return value


def _constant(text: str) -> Callable[[re.Match[str]], str]:
    return lambda _: text


def _compiled(pattern: str) -> re.Pattern[str]:
    if pattern.count("*") > _MOST_WILDCARDS:
        raise WordError(f"the pattern {pattern!r} holds more than {_MOST_WILDCARDS} *")
    # translate() anchors at the end, and makes no group that could be tried again and again.
    text = translate(pattern).removesuffix(r"\Z").removesuffix(r"\z")
    return re.compile(text, re.DOTALL)


def _cut(value: str, pattern: str, *, from_end: bool, longest: bool) -> str:
    compiled = _compiled(pattern)
    places = range(len(value), -1, -1) if from_end != longest else range(len(value) + 1)
    if len(value) > 4096:
        raise WordError("a value of more than 4096 bytes cannot be cut by a pattern")
    for at in places:
        part = value[at:] if from_end else value[:at]
        if compiled.fullmatch(part):
            return value[:at] if from_end else value[at:]
    return value
