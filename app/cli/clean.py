"""Other people's text, made harmless for a terminal.

Names, log lines and error messages come from guests and from whoever named them. Escape sequences in
them could move the cursor, change the title or answer questions in the user's name.
"""

from __future__ import annotations

import re

# C0 (but tab and newline), DEL, C1, the marks that reverse the reading direction, line separators, lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CSI = "(?:\x1b\\[|\x9b)[0-?]*[ -/]*"
_STRING = "(?:\x1b[PX\\]^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c\n]*"  # OSC, DCS, SOS, PM, APC
_SHORT = "\x1b[ -/]*"
_SEQUENCE = re.compile(f"{_CSI}[@-~]?|{_STRING}(?:\x07|\x1b\\\\|\x9c)?|{_SHORT}[0-~]?")
# What may be the beginning of a sequence whose rest comes with the next piece.
_OPEN = re.compile(f"(?:{_CSI}|{_STRING}\x1b?|{_SHORT})\\Z")
_LONGEST_OPEN = 4096


def clean(text: str) -> str:
    """Return the text as one line: escape sequences gone, other control characters as "?"."""
    if text.isascii() and text.isprintable():
        return text
    text = _SEQUENCE.sub("", text)
    return _UNSAFE.sub("?", text.replace("\r\n", " ").replace("\n", " ").replace("\t", " "))


class Cleaner:
    """Cleans a stream that comes in pieces; sequences may be cut anywhere. Keeps tabs and newlines."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return what can be shown of the stream so far."""
        text = self._held + text
        self._held = ""
        if (found := _OPEN.search(text)) is not None and len(found.group()) < _LONGEST_OPEN:
            text, self._held = text[: found.start()], found.group()
        elif text.endswith("\r"):
            text, self._held = text[:-1], "\r"
        if text.isascii() and text.isprintable():
            return text
        text = _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
        return _UNSAFE.sub("", text)
