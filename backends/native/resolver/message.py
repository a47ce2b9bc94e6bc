"""The little of DNS that is ours to read and write: one question, and records of addresses and names (RFC 1035).

What is asked of others is passed on as bytes. So of what a container sends, header and question are looked at, and
nothing else; of what a name server answers, the same.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

A, PTR, AAAA, ANY = 1, 12, 28, 255
IN = 1
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NO_SUCH_NAME, NOT_IMPLEMENTED, REFUSED = 0, 1, 2, 3, 4, 5

MOST_UDP = 512
"""Bytes of an answer by UDP to who says nothing of more."""

_HEAD = struct.Struct("!HHHHHH")
_RESPONSE, _AUTHORITATIVE, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0100, 0x0080
_OPCODE = 0x7800
_TTL_S = 0
"""Nobody is to keep what changes with the next start."""

_MOST_RECORDS = 24
"""Of one kind in an answer; so many fit into 512 bytes."""


class Malformed(Exception):
    """It is no question that could be answered; code is what to say, None: nothing."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__("malformed")
        self.code = code


@dataclass(frozen=True, slots=True)
class Question:
    """What a message asks."""

    id: int
    flags: int
    name: str
    """In lower case, without the last dot."""

    kind: int
    of_class: int
    wire: bytes
    """The question as it came, for the answer."""


def parse(data: bytes) -> Question:
    """Return what is asked. Raises Malformed."""
    number, flags = _header(data)
    if flags & _RESPONSE:
        raise Malformed  # answering answers would never end
    if flags & _OPCODE:
        raise Malformed(NOT_IMPLEMENTED)
    return _question(data, number, flags)


def parse_answer(data: bytes) -> Question:
    """Return what an answer is to. Raises Malformed."""
    number, flags = _header(data)
    if not flags & _RESPONSE:
        raise Malformed
    return _question(data, number, flags)


def _header(data: bytes) -> tuple[int, int]:
    if len(data) < _HEAD.size:
        raise Malformed
    number, flags = struct.unpack_from("!HH", data)
    return number, flags


def _question(data: bytes, number: int, flags: int) -> Question:
    if struct.unpack_from("!H", data, 4)[0] != 1:
        raise Malformed(FORMAT_ERROR)
    labels, at = [], _HEAD.size
    while True:
        if at >= len(data):
            raise Malformed(FORMAT_ERROR)
        length = data[at]
        if length == 0:
            break
        if length > 63 or at + 1 + length >= len(data) or at - _HEAD.size + length > 254:  # a pointer, or too long
            raise Malformed(FORMAT_ERROR)
        labels.append(data[at + 1 : at + 1 + length])
        at += 1 + length
    if at + 5 > len(data):
        raise Malformed(FORMAT_ERROR)
    kind, of_class = struct.unpack_from("!HH", data, at + 1)
    name = b".".join(labels).decode("latin-1").lower()
    return Question(number, flags, name, kind, of_class, data[_HEAD.size : at + 5])


def answer_addresses(question: Question, addresses: Sequence[str]) -> bytes:
    """Return the answer that a name of ours has these addresses; of another kind than asked are left out."""
    records = [ipaddress.ip_address(address).packed for address in addresses]
    length = {A: 4, AAAA: 16}.get(question.kind, 0)
    return _answer(question, NO_ERROR, [record for record in records if len(record) == length])


def answer_names(question: Question, names: Sequence[str]) -> bytes:
    """Return the answer that an address of ours belongs to these names."""
    return _answer(question, NO_ERROR, [_wire_name(name) for name in names] if question.kind == PTR else [])


def answer_code(question: Question, code: int) -> bytes:
    """Return an answer that is an error, or says nothing."""
    return _answer(question, code, [])


def refuse(data: bytes, code: int) -> bytes:
    """Return the answer to a message whose question cannot be read."""
    number, flags = _header(data)
    return _HEAD.pack(number, _RESPONSE | flags & (_OPCODE | _RECURSION_DESIRED) | code, 0, 0, 0, 0)


def _answer(question: Question, code: int, records: Sequence[bytes]) -> bytes:
    kept = records[:_MOST_RECORDS]
    flags = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | question.flags & _RECURSION_DESIRED | code
    parts = [_HEAD.pack(question.id, flags, 1, len(kept), 0, 0), question.wire]
    for record in kept:
        # 0xC00C: the name is the question's, which is at byte 12.
        parts.append(struct.pack("!HHHIH", 0xC00C, question.kind, IN, _TTL_S, len(record)) + record)
    return b"".join(parts)


def _wire_name(name: str) -> bytes:
    labels = [label.encode("latin-1", "replace")[:63] for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def with_id(data: bytes, number: int) -> bytes:
    """Return a message under another number."""
    return struct.pack("!H", number) + data[2:]


def address_in(name: str) -> str | None:
    """Return the address that a name below in-addr.arpa or ip6.arpa stands for; None if it is none."""
    try:
        if name.endswith(".in-addr.arpa"):
            return str(ipaddress.IPv4Address(".".join(reversed(name[:-13].split(".")))))
        if name.endswith(".ip6.arpa"):
            digits = "".join(reversed(name[:-9].split(".")))
            return str(ipaddress.IPv6Address(int(digits, 16))) if len(digits) == 32 else None
    except ValueError:
        pass
    return None
