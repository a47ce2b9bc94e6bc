"""Maps of user namespaces, and the subordinate ids that a user may put in them (user_namespaces(7), subuid(5))."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from backends.errors import KernelRefused, Unsupported
from backends.kernel import linux, rooted
from backends.kernel.capability import mask_of
from backends.kernel.mounts import KernelStep

Mappings = Sequence[Mapping[str, Any]]
"""`linux.uidMappings` of an OCI config.json: containerID, hostID, size."""

_TOOL_S = 10.0


@dataclass(frozen=True, slots=True)
class Range:
    """Ids in a row on the host."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class MapUsers(KernelStep):
    """Give a process's new user namespace its maps.

    Root writes them. A plain user may map no more than himself, so newuidmap(1) and newgidmap(1) write the
    others for him, as far as /etc/subuid and /etc/subgid allow.
    """

    pid: int
    uids: Mappings
    gids: Mappings
    kind = "userns"

    def describe(self) -> str:
        return f"map users {_shown(self.uids)} and groups {_shown(self.gids)}"

    def by_hand(self) -> str:
        sides = (("newuidmap", self.uids), ("newgidmap", self.gids))
        return "; ".join(f"{tool} {self.pid} {' '.join(_arguments(maps))}" for tool, maps in sides)

    def run(self) -> None:
        may_map = linux.capget().effective
        is_self = _is_one(self.uids, os.geteuid()) and _is_one(self.gids, os.getegid())
        if may_map & mask_of(("CAP_SETGID",)) or is_self:
            if not may_map & mask_of(("CAP_SETGID",)):
                # Else a user could leave a group that takes rights away (CVE-2014-8989).
                _write(self.pid, "setgroups", "deny")
            _write(self.pid, "gid_map", _text(self.gids))
            _write(self.pid, "uid_map", _text(self.uids))
            return
        _by_tool("newgidmap", self.pid, self.gids)
        _by_tool("newuidmap", self.pid, self.uids)


def _shown(maps: Mappings) -> str:
    return ",".join(f"{entry['containerID']}:{entry['hostID']}:{entry['size']}" for entry in maps)


def _arguments(maps: Mappings) -> list[str]:
    return [str(entry[name]) for entry in maps for name in ("containerID", "hostID", "size")]


def _text(maps: Mappings) -> str:
    return "".join(f"{entry['containerID']} {entry['hostID']} {entry['size']}\n" for entry in maps)


def _is_one(maps: Mappings, own_id: int) -> bool:
    return len(maps) == 1 and maps[0]["size"] == 1 and maps[0]["hostID"] == own_id


def _write(pid: int, name: str, text: str) -> None:
    try:
        fd = rooted.open_in_proc(f"{pid}/{name}", os.O_WRONLY)
    except FileNotFoundError:
        if name == "setgroups":
            return  # a kernel before 3.19
        raise
    try:
        os.write(fd, text.encode())
    except OSError as error:
        hint = ""
        if error.errno == errno.EINVAL and len(text) >= os.sysconf("SC_PAGE_SIZE"):
            hint = "the kernel takes one page of ranges at most"
        elif error.errno == errno.EPERM:
            hint = "every id on the host must be one that this user may use"
        raise KernelRefused(f"write the {name} of a user namespace", error, hint=hint) from error
    finally:
        os.close(fd)


def _by_tool(tool: str, pid: int, maps: Mappings) -> None:
    found = shutil.which(tool)
    if found is None:
        raise Unsupported(f"a plain user needs {tool} to map more than himself", hint="apt install uidmap")
    command = [found, str(pid), *_arguments(maps)]
    import subprocess  # costs 3 ms, for what root does not need

    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TOOL_S)
    if done.returncode != 0:
        said = done.stderr.strip() or f"exit code {done.returncode}"
        raise Unsupported(said.splitlines()[0], hint="see /etc/subuid and /etc/subgid")


def subordinates(path: str, user: str, uid: int) -> list[Range]:
    """Return the ranges that /etc/subuid or /etc/subgid gives a user, by name or by number."""
    return [found for owner, found in all_subordinates(path) if owner in (user, str(uid))]


def all_subordinates(path: str) -> list[tuple[str, Range]]:
    """Return (owner, range) of every line of /etc/subuid or /etc/subgid; lines that say nothing are passed over."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read(1 << 20).splitlines()
    except OSError:
        return []
    ranges: list[tuple[str, Range]] = []
    for line in lines:
        owner, _, rest = line.strip().partition(":")
        first, _, count = rest.partition(":")
        if owner and _is_id(first) and _is_id(count) and 0 < int(count) <= 2**32 - 1 - int(first):
            ranges.append((owner, Range(int(first), int(count))))
    return ranges


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def name_of(uid: int) -> str:
    """Return a user's name, "" where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
