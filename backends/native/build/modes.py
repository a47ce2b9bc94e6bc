"""Permission bits as --chmod takes them: digits, or chmod(1)'s words ("u=rwX,go=rX"). Pure; without a umask."""

from __future__ import annotations

import re

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_SPECIAL = {"u": 0o4000, "g": 0o2000, "o": 0o1000}
"""Set-id bits, and the sticky bit, which chmod(1) counts among those of others."""

_LONGEST = 200


def is_mode(text: str) -> bool:
    """Say whether that can be a mode."""
    if re.fullmatch("[0-7]{1,5}", text):
        return True
    return len(text) <= _LONGEST and all(_CLAUSE.fullmatch(clause) for clause in text.split(","))


def changed(text: str, before: int, *, is_folder: bool) -> int:
    """Return the bits that a file with some others gets. text is one of which is_mode() is true."""
    if text[0] in "01234567":
        return int(text, 8) & 0o7777
    mode = before & 0o7777
    for who, actions in (clause.groups() for clause in map(_CLAUSE.fullmatch, text.split(",")) if clause):
        for sign, what in _ACTION.findall(actions):
            mode = _applied(mode, who.replace("a", "ugo") or "ugo", sign, what, is_folder=is_folder)
    return mode


def _applied(mode: int, who: str, sign: str, what: str, *, is_folder: bool) -> int:
    bits = mask = 0
    for each in set(who):
        bits |= _bits(mode, what, each, is_folder=is_folder)
        mask |= 7 << _SHIFTS[each] | _SPECIAL[each]
    if sign == "-":
        return mode & ~bits
    if sign == "+":
        return mode | bits
    # A folder keeps its set-id bits unless they are named, as with chmod(1).
    kept = mode & 0o6000 if is_folder else 0
    return mode & ~mask | bits | kept


def _bits(mode: int, what: str, who: str, *, is_folder: bool) -> int:
    if what and what in "ugo":
        return (mode >> _SHIFTS[what] & 7) << _SHIFTS[who]
    runs = "x" in what or ("X" in what and (is_folder or bool(mode & 0o111)))
    bits = ("r" in what) << 2 | ("w" in what) << 1 | runs
    return bits << _SHIFTS[who] | (_SPECIAL[who] if ("t" if who == "o" else "s") in what else 0)
