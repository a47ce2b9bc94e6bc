"""Parsers of the cgroup files that are read every second: bytes in, fields of Sample out.

They get the raw bytes of one read and are called only when those changed. Formats: cgroup-v2.rst
("Interface Files"), cgroup-v1/cpuacct.rst, memory.rst, blkio-controller.rst; accounting/psi.rst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backends.kernel.block import is_counted
from backends.kernel.cgroup1 import endless

Fields = dict[str, int | None]
Parse = Callable[[bytes], Fields]


def amount(field: str) -> Parse:
    """One number; "max" is None."""

    def parse(raw: bytes) -> Fields:
        return {field: int(raw) if raw[:1].isdigit() else None}

    return parse


def v1_limit(field: str) -> Parse:
    """One number, None where so large that it means no limit."""

    def parse(raw: bytes) -> Fields:
        return {field: endless(int(raw))}

    return parse


def keyed(names: dict[bytes, tuple[str, int]]) -> Parse:
    """Some of the "key value" lines: key → (field, factor). A missing key is None."""

    def parse(raw: bytes) -> Fields:
        words = raw.split()
        found = dict(zip(words[::2], words[1::2], strict=False))
        return {field: int(found[key]) * factor if key in found else None for key, (field, factor) in names.items()}

    return parse


def one_key(key: bytes, field: str) -> Parse:
    """One line of a long "key value" file, found without splitting it."""
    start = b"\n" + key + b" "

    def parse(raw: bytes) -> Fields:
        at = 0 if raw.startswith(start[1:]) else raw.find(start) + 1
        if at == 0 and not raw.startswith(start[1:]):
            return {field: None}
        return {field: int(raw[at + len(key) : _line_end(raw, at)])}

    return parse


def _line_end(raw: bytes, at: int) -> int:
    end = raw.find(b"\n", at)
    return len(raw) if end < 0 else end


def pressure(field: str) -> Parse:
    """The "some" total of a PSI file, in µs."""

    def parse(raw: bytes) -> Fields:
        line = raw.split(b"\n", 1)[0]
        _, found, total = line.partition(b"total=")
        return {field: int(total) if found and line.startswith(b"some") else None}

    return parse


def v2_io(raw: bytes) -> Fields:
    """io.stat: "254:0 rbytes=1 wbytes=2 rios=3 wios=4 …", the sum over disks. No line yet: no I/O yet."""
    sums = {b"rbytes": 0, b"wbytes": 0, b"rios": 0, b"wios": 0}
    for line in raw.splitlines():
        device, *pairs = line.split()
        if is_counted(device.decode()):
            for pair in pairs:
                key, _, value = pair.partition(b"=")
                if key in sums:
                    sums[key] += int(value)
    return {
        "io_read_bytes": sums[b"rbytes"],
        "io_write_bytes": sums[b"wbytes"],
        "io_read_ops": sums[b"rios"],
        "io_write_ops": sums[b"wios"],
    }


def v1_io(read_field: str, write_field: str) -> Parse:
    """blkio.throttle.io_service*: "254:0 Read 1" lines, the sum over disks."""

    def parse(raw: bytes) -> Fields:
        read = write = 0
        for device, way, value in _v1_io_lines(raw):
            if way == b"Read" and is_counted(device):
                read += value
            elif way == b"Write" and is_counted(device):
                write += value
        return {read_field: read, write_field: write}

    return parse


def _v1_io_lines(raw: bytes) -> Iterator[tuple[str, bytes, int]]:
    for line in raw.splitlines():
        words = line.split()
        if len(words) == 3:
            yield words[0].decode(), words[1], int(words[2])
