"""The BPF program that answers for a v2 group which devices its processes may use.

bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE; struct bpf_cgroup_dev_ctx in linux/bpf.h. A program stays attached as long
as its group lives, whoever loaded it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from backends.errors import KernelRefused, Unsupported
from backends.kernel import linux
from backends.kernel.device_filter import DeviceFilter, DeviceRule

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESS = 7

_PROG_ATTACH, _PROG_DETACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 8, 9, 13, 16
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI, _REPLACE = 2, 4
_MOST_PROGRAMS = 64

_Line = tuple[int, int, int, int, int]


def put(wanted: DeviceFilter, directory: str, *, replace: bool = False) -> None:
    """Attach a program for the filter to a group; with `replace` in the place of those that it has.

    Raises Unsupported where the kernel has no such programs, KernelRefused.
    """
    try:
        program = _load(assemble(wanted.rules(), otherwise=wanted.allows_all))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):
            text = "this kernel has no BPF device filter (CONFIG_CGROUP_BPF), which cgroup v2 needs for it"
            raise Unsupported(text) from error
        raise KernelRefused("load the BPF program that filters devices", error) from error
    try:
        with _opened(directory) as group:
            _exchange(group, program, attached(group) if replace else [])
    except OSError as error:
        raise KernelRefused(f"attach the BPF program that filters devices to {directory}", error) from error
    finally:
        os.close(program)


def _exchange(group: int, program: int, old: list[int]) -> None:
    """Attach the new one and take the old ones away, never leaving the group without any."""
    if len(old) == 1:
        previous = _program_fd(old[0])
        try:
            _attach(group, program, _ALLOW_MULTI | _REPLACE, previous)
            return
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.E2BIG):  # Linux before 5.6 has no replacing
                raise
        finally:
            os.close(previous)
    _attach(group, program, _ALLOW_MULTI)
    for number in old:
        with suppress(FileNotFoundError):
            previous = _program_fd(number)
            try:
                linux.bpf(_PROG_DETACH, struct.pack("III", group, previous, _ATTACH_CGROUP_DEVICE))
            finally:
                os.close(previous)


def attached(group: int) -> list[int]:
    """Return the numbers of the device programs that an open group has itself. Raises OSError."""
    numbers = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    attributes = ctypes.create_string_buffer(
        struct.pack("IIIIQII", group, _ATTACH_CGROUP_DEVICE, 0, 0, ctypes.addressof(numbers), _MOST_PROGRAMS, 0), 64
    )
    linux.bpf_in_place(_PROG_QUERY, attributes)
    count = struct.unpack_from("I", attributes, 24)[0]
    return list(numbers[:count])


def _attach(group: int, program: int, flags: int, replaced: int = 0) -> None:
    linux.bpf(_PROG_ATTACH, struct.pack("IIIII", group, program, _ATTACH_CGROUP_DEVICE, flags, replaced))


def _program_fd(number: int) -> int:
    return linux.bpf(_PROG_GET_FD_BY_ID, struct.pack("III", number, 0, 0))


@contextmanager
def _opened(directory: str) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _load(code: bytes) -> int:
    return linux.load_program(_PROG_TYPE_CGROUP_DEVICE, code)


def assemble(rules: list[DeviceRule] | tuple[DeviceRule, ...], *, otherwise: bool = False) -> bytes:
    """Return BPF instructions that give the answer of the first rule that fits, else `otherwise`.

    Registers: r1 the context, r2 type, r3 access asked, r4 major, r5 minor, r6 scratch, r0 the answer.
    """
    load = [(0x61, 2, 1, 0, 0), (0xBC, 3, 2, 0, 0), (0x54, 2, 0, 0, 0xFFFF), (0x74, 3, 0, 0, 16),
            (0x61, 4, 1, 4, 0), (0x61, 5, 1, 8, 0)]  # fmt: skip
    code = [*load, *(line for rule in rules for line in _rule(rule)), *_answer(otherwise)]
    return b"".join(struct.pack("<BBhi", op, dst | src << 4, offset, value) for op, dst, src, offset, value in code)


def _answer(allow: bool) -> list[_Line]:
    return [(0xB7, 0, 0, 0, int(allow)), (0x95, 0, 0, 0, 0)]


def _rule(rule: DeviceRule) -> list[_Line]:
    lines: list[_Line] = [(0x55, 2, 0, 0, _TYPES[rule.device_type])]
    access = sum(_ACCESS[letter] for letter in rule.access)
    if access != _ALL_ACCESS:
        lines += [(0xBC, 6, 3, 0, 0), (0x54, 6, 0, 0, access)]
        # An allowing rule must cover all that is asked for; a denying one is hit by any part of it.
        lines.append((0x5D, 6, 3, 0, 0) if rule.allow else (0x15, 6, 0, 0, 0))
    numbers = ((4, rule.major), (5, rule.minor))
    lines += [(0x55, register, 0, 0, _signed(number)) for register, number in numbers if number is not None]
    answer = _answer(rule.allow)
    length = len(lines) + len(answer)
    jumps = (0x55, 0x5D, 0x15)  # over the rest of this rule
    return [
        (op, dst, src, length - at - 1 if op in jumps else 0, value)
        for at, (op, dst, src, _, value) in enumerate(lines)
    ] + answer


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
