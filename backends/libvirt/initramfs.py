"""A tiny initramfs for the demo VM: busybox, a few kernel modules and one script, as a gzipped cpio.

Written here in the "newc" format, so that neither `cpio` nor root is needed: device nodes are not in
it, because the kernel mounts devtmpfs itself when the script asks for it.
"""

from __future__ import annotations

import gzip
import lzma
import re
import stat
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from backends.errors import InnkeeperError, Unsupported

WANTED_MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "virtio_balloon", "virtio_console", "button", "evdev")
"""What the demo VM's devices need; those that a kernel has built in are not found as files, and need not be."""

APPLETS = (
    "sh", "mount", "mkdir", "insmod", "echo", "cat", "sleep", "dd", "acpid", "poweroff", "sync", "ip", "ping",
    "uname", "hostname", "setsid", "cttyhack", "getty", "date", "seq", "rm", "kill", "mknod", "ls", "ps", "free",
    "top", "df", "uptime", "dmesg", "test", "expr", "head", "tail", "grep", "sed", "awk", "vi", "true", "false",
    "stty", "reset", "clear", "nproc", "reboot", "md5sum", "wc", "tr", "cut", "printf", "env", "umount", "stat",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, folder or symbolic link of the archive."""

    name: str
    """Path without the leading slash."""

    mode: int
    """File type and permission bits, as in st_mode."""

    data: bytes = b""
    """Content of a file, target of a symbolic link."""


def folder(name: str) -> Entry:
    """Return a folder that everyone may read."""
    return Entry(name, stat.S_IFDIR | 0o755)


def file(name: str, data: bytes, *, executable: bool = False) -> Entry:
    """Return a regular file."""
    return Entry(name, stat.S_IFREG | (0o755 if executable else 0o644), data)


def link(name: str, target: str) -> Entry:
    """Return a symbolic link."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def cpio(entries: Iterable[Entry]) -> bytes:
    """Return the entries as a cpio archive in the "newc" format, which the kernel unpacks."""
    out = bytearray()
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
        out += b"070701" + "".join(f"{value:08X}" for value in fields).encode() + name
        out += b"\0" * (-len(out) % 4)
        out += entry.data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def build(busybox: Path, modules_dir: Path, init: str, more: Iterable[Entry] = ()) -> bytes:
    """Return the gzipped initramfs: busybox with its applets, the modules in load order, /init, and more."""
    modules = modules_in_load_order(modules_dir, WANTED_MODULES)
    entries = [folder(name) for name in ("bin", "dev", "proc", "sys", "tmp", "etc", "etc/acpi", "etc/acpi/PWRF", "mod")]
    entries.append(file("bin/busybox", busybox.read_bytes(), executable=True))
    entries.extend(link(f"bin/{applet}", "busybox") for applet in APPLETS)
    entries.extend(file(f"mod/{name}.ko", data) for name, data in modules)
    entries.append(file("mod/order", "".join(f"{name}\n" for name, _ in modules).encode()))
    # busybox's acpid runs this file on the power button's event.
    entries.append(file("etc/acpi/PWRF/00000080", b"#!/bin/sh\nexec /bin/turn-off\n", executable=True))
    entries.append(file("bin/turn-off", TURN_OFF.encode(), executable=True))
    entries.append(file("init", init.encode(), executable=True))
    entries.extend(more)
    return gzip.compress(cpio(entries), compresslevel=6, mtime=0)


def programs(paths: Iterable[Path]) -> list[Entry]:
    """Return programs of this host with all the libraries that they need, where they look for them.

    Raises InnkeeperError for one that ldd(1) cannot tell of.
    """
    found: dict[str, Entry] = {}
    for program in paths:
        done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
        libraries = re.findall(r"(?:=> )?(/\S+) \(0x", done.stdout)
        if done.returncode or "not found" in done.stdout:
            raise InnkeeperError(f"cannot tell what {program} needs: {done.stderr.strip() or 'a library is missing'}")
        for path in (str(program), *libraries):
            for parent in reversed(Path(path).parents[:-1]):
                found.setdefault(str(parent), folder(str(parent).lstrip("/")))
            found[path] = file(path.lstrip("/"), Path(path).read_bytes(), executable=True)
    return list(found.values())


TURN_OFF = """#!/bin/sh
echo "innkeeper demo: the power button was pressed, shutting down" > /dev/console
sync
poweroff -f
"""


def modules_in_load_order(modules_dir: Path, wanted: Iterable[str]) -> list[tuple[str, bytes]]:
    """Return (name, content) of the wanted modules and all they depend on, dependencies first."""
    files = {module_name(path): path for path in modules_dir.rglob("*.ko*")}
    found: dict[str, bytes] = {}

    def visit(name: str) -> None:
        if name in found or name not in files:
            return
        data = uncompressed(files[name])
        for needed in module_dependencies(data):
            visit(needed)
        found[name] = data

    for name in wanted:
        visit(name)
    return list(found.items())


def module_name(path: Path) -> str:
    """Return the kernel's name of a module file ("virtio-rng.ko.xz" is virtio_rng)."""
    return path.name.split(".ko", 1)[0].replace("-", "_")


def module_dependencies(data: bytes) -> list[str]:
    """Return the names of the modules that a module needs, from its .modinfo section."""
    found = re.search(rb"\0depends=([\w,\-]*)\0", data)
    return [name for name in found[1].decode().replace("-", "_").split(",") if name] if found else []


def uncompressed(path: Path) -> bytes:
    """Return a module's ELF bytes; distributions ship them plain, or as .xz, .gz or .zst."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        try:
            return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unsupported(f"cannot unpack {path}: {error}", hint="apt install zstd") from error
    return data


def check_static(busybox: Path) -> None:
    """Raise unless the file is an ELF program that needs no shared libraries (PT_INTERP is type 3)."""
    data = busybox.read_bytes()[:4096]
    if data[:4] != b"\x7fELF":
        raise InnkeeperError(f"{busybox} is not a program")
    offset, size, count = (
        int.from_bytes(data[32:40], "little"), int.from_bytes(data[54:56], "little"),
        int.from_bytes(data[56:58], "little"),
    )  # fmt: skip
    types = [int.from_bytes(data[offset + size * i :][:4], "little") for i in range(count)]
    if 3 in types:
        raise Unsupported(f"{busybox} is linked dynamically", hint="apt install busybox-static")
