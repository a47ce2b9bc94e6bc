"""The files of a tar stream, one after the other; nothing of it is trusted, or written anywhere.

Only what archives of images need: plain files and links in POSIX ustar and pax, and GNU's long names (tar(5)). Names
are only compared with names, so `..` and absolute paths lead nowhere.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass, field

from backends.native.images.reading import Source
from backends.native.images.strict_json import Malformed

_BLOCK = 512
_MAX_HEADER = 1 << 20
_MAX_ENTRIES = 200_000
_MAX_SIZE = 1 << 62
_FILE, _LINKS = b"07\0", b"12"
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"


@dataclass(slots=True)
class Member:
    """A file or a link in an archive."""

    name: str
    """Normalized: without "./", ".." resolved, never absolute."""

    link: str
    """The normalized name that a link stands for; empty for a file."""

    size: int
    _source: Source = field(repr=False)
    _left: int = 0

    def read(self, size: int) -> bytes:
        """Return the next bytes of its content, none at the end. Raises Malformed if the archive ends before."""
        data = self._source.read(min(size, self._left))
        if not data and self._left and size:
            raise Malformed("the archive is cut short")
        self._left -= len(data)
        return data


def members(source: Source) -> Iterator[Member]:
    """Yield the files and links of a tar stream; each is to be read before the next. Raises Malformed."""
    longer: dict[str, str] = {}
    for count in range(_MAX_ENTRIES):
        header = _exactly(source, _BLOCK, is_start=count == 0)
        if not header.strip(b"\0"):
            return
        size, kind = _checked(header)
        if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
            if size > _MAX_HEADER:
                raise Malformed("the archive has a name of more than 1 MiB")
            text = _exactly(source, -(-size // _BLOCK) * _BLOCK)[:size]
            longer |= _longer(kind, text)
            continue
        size = _pax_size(longer, size)
        member = Member(
            name=_normalized(longer.get("path") or _name(header)),
            link=_link(header, kind, longer),
            size=0 if kind in _LINKS else size,
            _source=source,
        )
        member._left = 0 if kind in b"123456" else size
        padding = -member._left % _BLOCK
        longer = {}
        if kind in _FILE or kind in _LINKS:
            yield member
        while member.read(1 << 20):
            pass
        _exactly(source, padding)
    raise Malformed(f"the archive has more than {_MAX_ENTRIES} entries")


def _exactly(source: Source, size: int, *, is_start: bool = False) -> bytes:
    data = b""
    while len(data) < size:
        block = source.read(size - len(data))
        if not block:
            raise Malformed("it is no archive" if is_start else "the archive is cut short")
        data += block
    return data


def _checked(header: bytes) -> tuple[int, bytes]:
    """Return size and type of an entry whose checksum is right."""
    blanked = header[:148] + b" " * 8 + header[156:]
    if _number(header[148:156]) not in (sum(blanked), sum(byte - 256 * (byte > 127) for byte in blanked)):
        raise Malformed("it is no archive, or a damaged one")
    size = _number(header[124:136])
    if not 0 <= size < _MAX_SIZE:
        raise Malformed("the archive has a file of impossible size")
    return size, header[156:157]


def _number(text: bytes) -> int:
    """Return a number in octal, or in GNU's binary form for large ones."""
    if text[:1] == b"\x80":
        return int.from_bytes(text[1:], "big")
    digits = text.strip(b" \0").split(b"\0")[0]
    try:
        return int(digits or b"0", 8)
    except ValueError:
        raise Malformed("it is no archive, or a damaged one") from None


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _link(header: bytes, kind: bytes, longer: dict[str, str]) -> str:
    if kind not in _LINKS:
        return ""
    target = longer.get("linkpath") or _text(header[157:257])
    if kind == b"2" and not target.startswith("/"):  # symbolic ones start where they are
        name = longer.get("path") or _name(header)
        target = posixpath.join(posixpath.dirname(name), target)
    return _normalized(target)


def _text(field_: bytes) -> str:
    return field_.split(b"\0")[0].decode("utf-8", "replace")


def _normalized(name: str) -> str:
    return posixpath.normpath("/" + name).lstrip("/")


def _longer(kind: bytes, data: bytes) -> dict[str, str]:
    if kind == _LONG_NAME:
        return {"path": _text(data)}
    if kind == _LONG_LINK:
        return {"linkpath": _text(data)}
    return _pax(data) if kind == _PAX else {}


def _pax(data: bytes) -> dict[str, str]:
    """Return the records "LENGTH KEY=VALUE\\n" of a pax header."""
    found = {}
    while data:
        length_text, space, _ = data.partition(b" ")
        if not space or not length_text.isdigit() or len(length_text) > 8:
            raise Malformed("the archive has a damaged pax header")
        length = int(length_text)
        record, data = data[len(length_text) + 1 : length], data[length:]
        key, equals, value = record.rstrip(b"\n").partition(b"=")
        if not equals or length <= len(length_text):
            raise Malformed("the archive has a damaged pax header")
        if key.startswith(b"GNU.sparse"):
            raise Malformed("the archive has a sparse file, which archives of images do not have")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return found


def _pax_size(longer: dict[str, str], size: int) -> int:
    text = longer.get("size")
    if text is None:
        return size
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Malformed("the archive has a file of impossible size")
    return int(text)
