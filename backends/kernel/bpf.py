"""A small assembler for classic BPF programs (bpf(4), seccomp(2)): instructions with labels in, bytes out.

Written back to front: what is jumped to is laid down first, so every distance is known when a jump is made and
long ones get a relay by themselves.
"""

from __future__ import annotations

import struct

_LOAD, _AND, _RETURN, _JUMP = 0x20, 0x54, 0x06, 0x05
_IF_EQUAL, _IF_GREATER, _IF_AT_LEAST = 0x15, 0x25, 0x35

MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS of the kernel."""


class Program:
    """Instructions from the last to the first. A place is how many instructions follow it, itself included."""

    def __init__(self) -> None:
        self._code: list[bytes] = []
        self._answers: dict[int, int] = {}

    @property
    def here(self) -> int:
        """The place of what was written last: jump there to run it."""
        return len(self._code)

    def _put(self, code: int, true: int, false: int, value: int) -> int:
        self._code.append(struct.pack("=HBBI", code, true, false, value & 0xFFFFFFFF))
        return len(self._code)

    def answer(self, value: int) -> int:
        """Write "return value", or find one near enough to jump to; returns its place."""
        place = self._answers.get(value)
        if place is None or self.here - place > 200:
            place = self._answers[value] = self._put(_RETURN, 0, 0, value)
        return place

    def load(self, offset: int) -> int:
        """Write "A = 32 bits of struct seccomp_data at offset"."""
        return self._put(_LOAD, 0, 0, offset)

    def mask(self, bits: int) -> int:
        """Write "A &= bits"."""
        return self._put(_AND, 0, 0, bits)

    def go(self, place: int) -> int:
        """Write a jump to a place, unless it is the next one."""
        return place if place == self.here else self._put(_JUMP, 0, 0, self.here - place)

    def if_equal(self, value: int, then: int, otherwise: int) -> int:
        """Write "if A == value go there, otherwise there"."""
        return self._branch(_IF_EQUAL, value, then, otherwise)

    def if_greater(self, value: int, then: int, otherwise: int) -> int:
        """Write "if A > value …", without sign."""
        return self._branch(_IF_GREATER, value, then, otherwise)

    def if_at_least(self, value: int, then: int, otherwise: int) -> int:
        """Write "if A >= value …", without sign."""
        return self._branch(_IF_AT_LEAST, value, then, otherwise)

    def _branch(self, code: int, value: int, then: int, otherwise: int) -> int:
        # A conditional jump reaches 255 instructions far; a relay right behind it reaches all.
        far = [place for place in (then, otherwise) if self.here - place > 250]
        relays = {place: self.go(place) for place in far}
        then, otherwise = relays.get(then, then), relays.get(otherwise, otherwise)
        return self._put(code, self.here - then, self.here - otherwise, value)

    def to_bytes(self) -> bytes:
        """Return the program, first instruction first. Raises ValueError if the kernel would refuse its length."""
        if len(self._code) > MAX_INSTRUCTIONS:
            raise ValueError(f"the filter has {len(self._code)} instructions, the kernel takes {MAX_INSTRUCTIONS}")
        return b"".join(reversed(self._code))
