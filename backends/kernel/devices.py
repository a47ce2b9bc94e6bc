"""Which device nodes a group of processes may use, as a step: v1 files, or a BPF program in v2.

v1: Documentation/admin-guide/cgroup-v1/devices.rst. v2 has no files for it: a program of type
BPF_PROG_TYPE_CGROUP_DEVICE on the group answers each mknod and open (cgroup-v2.rst, "Device controller").
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from backends.errors import KernelRefused, Unsupported
from backends.kernel import device_program
from backends.kernel.cgroup_file import read_text
from backends.kernel.device_filter import DEFAULT_RULES, DeviceFilter, DeviceRule, filter_of, parse_list
from backends.kernel.device_program import assemble
from backends.kernel.mounts import KernelStep

__all__ = ["DEFAULT_RULES", "AllowDevices", "DeviceRule", "FilterDevices", "assemble"]


@dataclass(frozen=True, slots=True)
class FilterDevices(KernelStep):
    """Let a group use the devices that an ordered list of rules comes to, and no others."""

    rules: tuple[DeviceRule, ...]
    v1_directory: str | None
    """The group's folder in v1's devices hierarchy; None: use BPF."""

    v2_directory: str | None
    is_new: bool = True
    """The group was just made and is empty; else it goes from what it has to what is wanted without a moment of
    less or more than both (v1), or the program is exchanged (v2)."""

    kind = "devices"

    def describe(self) -> str:
        how = "devices.allow" if self.v1_directory else "a BPF program"
        filter_ = filter_of(self.rules)
        verb = "deny" if filter_.allows_all else "allow"
        return f"{verb} {len(filter_.exceptions)} kinds of devices and no others, by {how}"

    def by_hand(self) -> str:
        if not self.v1_directory:
            return ""
        return "; ".join(
            f"echo {_quoted(text)} > {self.v1_directory}/devices.{name}" for name, text in _fresh(filter_of(self.rules))
        )

    def run(self) -> None:
        """Do it. Raises Unsupported where the host has neither way, KernelRefused."""
        wanted = filter_of(self.rules)
        if self.v1_directory:
            writes = _fresh(wanted) if self.is_new else _change(_now(self.v1_directory), wanted)
            _write_all(self.v1_directory, writes)
        elif self.v2_directory:
            device_program.put(wanted, self.v2_directory, replace=not self.is_new)
        else:
            raise Unsupported("this host has no way to keep a container from the host's devices")


class AllowDevices(FilterDevices):
    """Allow a group these devices and no others."""

    __slots__ = ()


def _fresh(wanted: DeviceFilter) -> list[tuple[str, str]]:
    """Return ("allow" or "deny", text) of all writes for a group of which nothing is known."""
    first, then = ("allow", "deny") if wanted.allows_all else ("deny", "allow")
    return [(first, "a"), *((then, str(rule)) for rule in wanted.rules())]


def _change(now: DeviceFilter, wanted: DeviceFilter) -> list[tuple[str, str]]:
    """Return only the writes that differ. What a group that allows all denies cannot be read, so it starts anew."""
    if now.allows_all or wanted.allows_all:
        return _fresh(wanted)
    writes = []
    for rule in wanted.rules():
        missing = _without(rule, now)
        if missing:
            writes.append(("allow", str(missing)))
    for rule in now.rules():
        surplus = _without(rule, wanted)
        if surplus:
            writes.append(("deny", str(surplus)))
    return writes


def _without(rule: DeviceRule, other: DeviceFilter) -> DeviceRule | None:
    there = other.exceptions.get((rule.device_type, rule.major, rule.minor), "")
    access = "".join(letter for letter in rule.access if letter not in there)
    return DeviceRule(rule.device_type, rule.major, rule.minor, access) if access else None


def _now(directory: str) -> DeviceFilter:
    return parse_list(read_text(f"{directory}/devices.list") or "")


def _write_all(directory: str, writes: list[tuple[str, str]]) -> None:
    """Each rule is one write; the file stays open as long as the next goes there too."""
    fd, name, path, text = -1, "", "", ""
    try:
        for wanted, text in writes:
            if wanted != name:
                if fd >= 0:
                    os.close(fd)
                name, path = wanted, f"{directory}/devices.{wanted}"
                fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, text.encode())
    except OSError as error:
        raise KernelRefused(f'write "{text}" to {path}', error) from error
    finally:
        if fd >= 0:
            os.close(fd)


def _quoted(text: str) -> str:
    return f"'{text}'" if " " in text else text
