"""Which device nodes a group of processes may use, as a step: v1 files, or a BPF program in v2.

v1: Documentation/admin-guide/cgroup-v1/devices.rst. v2 has no files for it: a program of type
BPF_PROG_TYPE_CGROUP_DEVICE on the group answers each mknod and open (cgroup-v2.rst, "Device controller").
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass

from backends.errors import Unsupported
from backends.kernel import linux
from backends.kernel.mounts import KernelStep

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

_BPF_PROG_LOAD, _BPF_PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI = 15, 6, 2


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """One kind of access that is allowed; all else is not."""

    device_type: str
    """ "c" or "b"."""

    major: int | None
    minor: int | None
    """None is any."""

    access: str
    """Of "r", "w", "m" (mknod)."""

    def __str__(self) -> str:
        numbers = ":".join("*" if number is None else str(number) for number in (self.major, self.minor))
        return f"{self.device_type} {numbers} {self.access}"


DEFAULT_RULES = (
    DeviceRule("c", None, None, "m"),
    DeviceRule("b", None, None, "m"),
    *(DeviceRule("c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
    *(DeviceRule("c", 5, minor, "rwm") for minor in (0, 1, 2)),
    DeviceRule("c", 136, None, "rwm"),
)
"""Docker's: any node may be made, but only null, zero, full, random, urandom and terminals be opened."""


@dataclass(frozen=True, slots=True)
class AllowDevices(KernelStep):
    """Allow a group these devices and no others."""

    rules: tuple[DeviceRule, ...]
    v1_directory: str | None
    """The group's folder in v1's devices hierarchy; None: use BPF."""

    v2_directory: str | None
    kind = "devices"

    def describe(self) -> str:
        how = "devices.allow" if self.v1_directory else "a BPF program"
        return f"allow {len(self.rules)} kinds of devices and no others, by {how}"

    def by_hand(self) -> str:
        if not self.v1_directory:
            return ""
        allow = "; ".join(f"echo '{rule}' > {self.v1_directory}/devices.allow" for rule in self.rules)
        return f"echo a > {self.v1_directory}/devices.deny; {allow}"

    def run(self) -> None:
        if self.v1_directory:
            _write(f"{self.v1_directory}/devices.deny", "a")
            for rule in self.rules:
                _write(f"{self.v1_directory}/devices.allow", str(rule))
        elif self.v2_directory:
            _attach(self.rules, self.v2_directory)
        else:
            raise Unsupported("this host has no way to keep a container from the host's devices")


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _attach(rules: tuple[DeviceRule, ...], directory: str) -> None:
    try:
        program = _load(assemble(rules))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):
            text = "this kernel has no BPF device filter (CONFIG_CGROUP_BPF), which cgroup v2 needs for it"
            raise Unsupported(text) from error
        raise
    group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        linux.bpf(_BPF_PROG_ATTACH, struct.pack("IIII", group, program, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
    finally:
        os.close(group)
        os.close(program)


def _load(code: bytes) -> int:
    buffer, licence = ctypes.create_string_buffer(code, len(code)), ctypes.create_string_buffer(b"Apache-2.0")
    addresses = ctypes.addressof(buffer), ctypes.addressof(licence)
    head = struct.pack("IIQQ", _PROG_TYPE_CGROUP_DEVICE, len(code) // 8, *addresses)
    return linux.bpf(_BPF_PROG_LOAD, head.ljust(72, b"\0"))


def assemble(rules: tuple[DeviceRule, ...]) -> bytes:
    """Return BPF instructions that answer 1 if a rule fits struct bpf_cgroup_dev_ctx, else 0.

    Registers: r1 the context, r2 type, r3 access asked, r4 major, r5 minor, r6 scratch, r0 the answer.
    """
    load = [(0x61, 2, 1, 0, 0), (0xBC, 3, 2, 0, 0), (0x54, 2, 0, 0, 0xFFFF), (0x74, 3, 0, 0, 16),
            (0x61, 4, 1, 4, 0), (0x61, 5, 1, 8, 0)]  # fmt: skip
    code = [*load, *(line for rule in rules for line in _rule(rule)), (0xB7, 0, 0, 0, 0), (0x95, 0, 0, 0, 0)]
    return b"".join(struct.pack("<BBhi", op, dst | src << 4, offset, value) for op, dst, src, offset, value in code)


def _rule(rule: DeviceRule) -> list[tuple[int, int, int, int, int]]:
    access = sum(_ACCESS[letter] for letter in rule.access)
    tests = [[(0x55, 2, 0, 0, _TYPES[rule.device_type])]]
    tests.append([(0xBC, 6, 3, 0, 0), (0x54, 6, 0, 0, access), (0x5D, 6, 3, 0, 0)])  # asked & allowed != asked
    numbers = ((4, rule.major), (5, rule.minor))
    tests += [[(0x55, register, 0, 0, number)] for register, number in numbers if number is not None]
    flat = [line for test in tests for line in test]
    answer = [(0xB7, 0, 0, 0, 1), (0x95, 0, 0, 0, 0)]
    length = len(flat) + len(answer)
    jumps = (0x55, 0x5D)  # jump if not equal: over the rest of this rule
    return [
        (op, dst, src, length - at - 1 if op in jumps else 0, value) for at, (op, dst, src, _, value) in enumerate(flat)
    ] + answer
