"""A process that waits in the kernel until it is let go, as for a disk that does not answer; run as a program.

It mounts a file system of its own (FUSE, Documentation/filesystems/fuse.rst) in a mount namespace of its own, and
never answers what a child asks of it. Prints the child's pid when that waits; lets go when standard input ends.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_INIT = 26
_ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def waiting_process(folder: Path) -> Iterator[int]:
    """Yield the pid of a process that waits for a disk until the block ends."""
    command = ["unshare", "-m", "--propagation", "private", sys.executable, __file__, str(folder)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield int(server.stdout.readline())


def _main(folder: str) -> None:
    disk = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={disk},rootmode=40000,user_id=0,group_id=0".encode()
    if ctypes.CDLL(None, use_errno=True).mount(b"slow", folder.encode(), b"fuse", 0, options):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)
    # What the kernel says first, (length, operation, number, …), and the answer: version 7.31, and sizes.
    _, operation, number = struct.unpack_from("IIQ", os.read(disk, 65536 * 2))
    assert operation == _INIT
    answer = struct.pack("IIIIHHI", 7, 31, 0, 0, 1, 1, 4096).ljust(64, b"\0")
    os.write(disk, struct.pack("IiQ", 16 + len(answer), 0, number) + answer)
    child = os.fork()
    if child == 0:
        os.close(disk)
        try:
            os.stat(f"{folder}/file")
        finally:
            os._exit(0)
    os.read(disk, 65536 * 2)  # it asks, and waits
    print(child, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _main(sys.argv[1])
