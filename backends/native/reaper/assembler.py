"""As much of an x86-64 assembler as the small first process needs, and the ELF file around its code.

Each method adds one instruction; its docstring is the instruction in Intel's notation. Operands are 64 bits
wide unless said. See the Intel 64 manual, volume 2, and elf(5).
"""

from __future__ import annotations

import struct

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 = range(16)

_BASE = 0x400000
_HEADERS = 64 + 2 * 56
_CONDITIONS = {"e": 0x84, "ne": 0x85, "l": 0x8C, "ge": 0x8D, "le": 0x8E, "g": 0x8F}


class Assembler:
    """Collects instructions; jumps and addresses are by label, resolved at the end."""

    def __init__(self) -> None:
        self._code = bytearray()
        self._labels: dict[str, int] = {}
        self._holes: list[tuple[int, str]] = []
        """(offset of a 32-bit distance, label): counted from behind the hole."""

    def label(self, name: str) -> None:
        """Name this place."""
        self._labels[name] = len(self._code)

    def data(self, name: str, text: bytes) -> None:
        """Put bytes here and name their place."""
        self.label(name)
        self._code += text

    def syscall(self, number: int) -> None:
        """mov rax, number; syscall"""
        self.mov(RAX, number)
        self._code += b"\x0f\x05"

    def mov(self, to: int, value: int) -> None:
        """mov to, value   (sign-extended from 32 bits)"""
        self._code += bytes([_rex(0, to), 0xC7, 0xC0 | to & 7]) + struct.pack("<i", value)

    def copy(self, to: int, source: int) -> None:
        """mov to, source"""
        self._register(0x89, source, to)

    def load(self, to: int, base: int, offset: int = 0) -> None:
        """mov to, [base + offset]"""
        self._memory(b"\x8b", to, base, offset)

    def load_byte(self, to: int, base: int, offset: int = 0) -> None:
        """movzx to, byte [base + offset]"""
        self._memory(b"\x0f\xb6", to, base, offset)

    def load_int(self, to: int, base: int, offset: int = 0) -> None:
        """movsxd to, dword [base + offset]"""
        self._memory(b"\x63", to, base, offset)

    def store(self, base: int, offset: int, source: int) -> None:
        """mov [base + offset], source"""
        self._memory(b"\x89", source, base, offset)

    def store_byte(self, base: int, offset: int, source: int) -> None:
        """mov byte [base + offset], low byte of source"""
        self._memory(b"\x88", source, base, offset)

    def address(self, to: int, base: int, offset: int) -> None:
        """lea to, [base + offset]"""
        self._memory(b"\x8d", to, base, offset)

    def address_of(self, to: int, label: str) -> None:
        """lea to, [rip + label]"""
        self._code += bytes([_rex(to, 0), 0x8D, (to & 7) << 3 | 5])
        self._distance(label)

    def add(self, to: int, value: int) -> None:
        """add to, value"""
        self._immediate(0, to, value)

    def sub(self, to: int, value: int) -> None:
        """sub to, value"""
        self._immediate(5, to, value)

    def and_(self, to: int, value: int) -> None:
        """and to, value"""
        self._immediate(4, to, value)

    def compare(self, left: int, value: int) -> None:
        """cmp left, value"""
        self._immediate(7, left, value)

    def compare_registers(self, left: int, right: int) -> None:
        """cmp left, right"""
        self._register(0x39, right, left)

    def subtract_registers(self, to: int, other: int) -> None:
        """sub to, other"""
        self._register(0x29, other, to)

    def shift_right(self, to: int, bits: int) -> None:
        """shr to, bits"""
        self._code += bytes([_rex(0, to), 0xC1, 0xC0 | 5 << 3 | to & 7, bits])

    def jump(self, label: str) -> None:
        """jmp label"""
        self._code += b"\xe9"
        self._distance(label)

    def jump_if(self, condition: str, label: str) -> None:
        """je, jne, jl, jge, jle or jg label"""
        self._code += bytes([0x0F, _CONDITIONS[condition]])
        self._distance(label)

    def call(self, label: str) -> None:
        """call label"""
        self._code += b"\xe8"
        self._distance(label)

    def ret(self) -> None:
        """ret"""
        self._code += b"\xc3"

    def executable(self) -> bytes:
        """Return a static ELF file whose code begins at the first instruction; its stack is not executable."""
        for hole, label in self._holes:
            struct.pack_into("<i", self._code, hole, self._labels[label] - (hole + 4))
        size = _HEADERS + len(self._code)
        ident = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8)  # 64 bits, little endian
        head = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        code = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, read and execute
        stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK, read and write
        return head + code + stack + bytes(self._code)

    def _register(self, opcode: int, reg: int, rm: int) -> None:
        self._code += bytes([_rex(reg, rm), opcode, 0xC0 | (reg & 7) << 3 | rm & 7])

    def _immediate(self, operation: int, to: int, value: int) -> None:
        self._code += bytes([_rex(0, to), 0x81, 0xC0 | operation << 3 | to & 7]) + struct.pack("<i", value)

    def _memory(self, opcode: bytes, reg: int, base: int, offset: int) -> None:
        self._code += bytes([_rex(reg, base)]) + opcode + bytes([0x80 | (reg & 7) << 3 | base & 7])
        if base & 7 == RSP:
            self._code.append(0x24)  # a SIB byte: no index
        self._code += struct.pack("<i", offset)

    def _distance(self, label: str) -> None:
        self._holes.append((len(self._code), label))
        self._code += bytes(4)


def _rex(reg: int, rm: int) -> int:
    return 0x48 | reg >> 3 << 2 | rm >> 3
