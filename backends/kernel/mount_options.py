"""The options of a mount in config.json, as the kernel takes them (runtime-spec config.md, "Linux mount options")."""

from __future__ import annotations

from typing import NamedTuple

from backends.kernel import linux
from backends.kernel import mount_calls as calls

_MS_MANDLOCK, _MS_I_VERSION = 64, 1 << 23

FLAGS: dict[str, tuple[bool, int]] = {
    "async": (True, linux.MS_SYNCHRONOUS),
    "atime": (True, linux.MS_NOATIME),
    "bind": (False, linux.MS_BIND),
    "defaults": (False, 0),
    "dev": (True, linux.MS_NODEV),
    "diratime": (True, linux.MS_NODIRATIME),
    "dirsync": (False, linux.MS_DIRSYNC),
    "exec": (True, linux.MS_NOEXEC),
    "iversion": (False, _MS_I_VERSION),
    "lazytime": (False, linux.MS_LAZYTIME),
    "loud": (True, linux.MS_SILENT),
    "mand": (False, _MS_MANDLOCK),
    "noatime": (False, linux.MS_NOATIME),
    "nodev": (False, linux.MS_NODEV),
    "nodiratime": (False, linux.MS_NODIRATIME),
    "noexec": (False, linux.MS_NOEXEC),
    "noiversion": (True, _MS_I_VERSION),
    "nolazytime": (True, linux.MS_LAZYTIME),
    "nomand": (True, _MS_MANDLOCK),
    "norelatime": (True, linux.MS_RELATIME),
    "nostrictatime": (True, linux.MS_STRICTATIME),
    "nosuid": (False, linux.MS_NOSUID),
    "nosymfollow": (False, linux.MS_NOSYMFOLLOW),
    "rbind": (False, linux.MS_BIND | linux.MS_REC),
    "relatime": (False, linux.MS_RELATIME),
    "remount": (False, linux.MS_REMOUNT),
    "ro": (False, linux.MS_RDONLY),
    "rw": (True, linux.MS_RDONLY),
    "silent": (False, linux.MS_SILENT),
    "strictatime": (False, linux.MS_STRICTATIME),
    "suid": (True, linux.MS_NOSUID),
    "sync": (False, linux.MS_SYNCHRONOUS),
    "symfollow": (True, linux.MS_NOSYMFOLLOW),
}
"""Name → (it clears, MS_* flags)."""

PROPAGATION: dict[str, int] = {
    "private": linux.MS_PRIVATE,
    "rprivate": linux.MS_PRIVATE | linux.MS_REC,
    "shared": linux.MS_SHARED,
    "rshared": linux.MS_SHARED | linux.MS_REC,
    "slave": linux.MS_SLAVE,
    "rslave": linux.MS_SLAVE | linux.MS_REC,
    "unbindable": linux.MS_UNBINDABLE,
    "runbindable": linux.MS_UNBINDABLE | linux.MS_REC,
}

RECURSIVE: dict[str, tuple[bool, int]] = {
    "rro": (False, calls.MOUNT_ATTR_RDONLY),
    "rrw": (True, calls.MOUNT_ATTR_RDONLY),
    "rnosuid": (False, calls.MOUNT_ATTR_NOSUID),
    "rsuid": (True, calls.MOUNT_ATTR_NOSUID),
    "rnodev": (False, calls.MOUNT_ATTR_NODEV),
    "rdev": (True, calls.MOUNT_ATTR_NODEV),
    "rnoexec": (False, calls.MOUNT_ATTR_NOEXEC),
    "rexec": (True, calls.MOUNT_ATTR_NOEXEC),
    "rnodiratime": (False, calls.MOUNT_ATTR_NODIRATIME),
    "rdiratime": (True, calls.MOUNT_ATTR_NODIRATIME),
    "rrelatime": (False, calls.MOUNT_ATTR_RELATIME),
    "rnorelatime": (True, calls.MOUNT_ATTR_RELATIME),
    "rnoatime": (False, calls.MOUNT_ATTR_NOATIME),
    "ratime": (True, calls.MOUNT_ATTR_NOATIME),
    "rstrictatime": (False, calls.MOUNT_ATTR_STRICTATIME),
    "rnostrictatime": (True, calls.MOUNT_ATTR_STRICTATIME),
    "rnosymfollow": (False, calls.MOUNT_ATTR_NOSYMFOLLOW),
    "rsymfollow": (True, calls.MOUNT_ATTR_NOSYMFOLLOW),
}
"""Name → (it clears, MOUNT_ATTR_*), for a mount and all below it."""

_ATIME_NAMES = {"rrelatime", "rnorelatime", "rnoatime", "ratime", "rstrictatime", "rnostrictatime"}
_OTHERS = ("idmap", "ridmap", "tmpcopyup")

KNOWN = tuple(sorted({*FLAGS, *PROPAGATION, *RECURSIVE, *_OTHERS}))
"""Every option that is not simply handed to the file system."""

_BIND_ATTRIBUTES = (
    (linux.MS_RDONLY, calls.MOUNT_ATTR_RDONLY),
    (linux.MS_NOSUID, calls.MOUNT_ATTR_NOSUID),
    (linux.MS_NODEV, calls.MOUNT_ATTR_NODEV),
    (linux.MS_NOEXEC, calls.MOUNT_ATTR_NOEXEC),
    (linux.MS_NOSYMFOLLOW, calls.MOUNT_ATTR_NOSYMFOLLOW),
)
_OWN_FLAGS = (
    (linux.MS_RDONLY, "ro"),
    (linux.MS_SYNCHRONOUS, "sync"),
    (linux.MS_DIRSYNC, "dirsync"),
    (linux.MS_LAZYTIME, "lazytime"),
    (_MS_MANDLOCK, "mand"),
)
"""Flags of a file system rather than of a mount, by the names that fsconfig(2) has for them."""

_ATIME_CHOICE = linux.MS_NOATIME | linux.MS_RELATIME | linux.MS_STRICTATIME
_ATIME_FLAGS = _ATIME_CHOICE | linux.MS_NODIRATIME


class MountOptions(NamedTuple):
    """What the list of options of one mount means."""

    flags: int
    """MS_* to set."""

    cleared: int
    """MS_* that were asked not to be set."""

    propagation: tuple[int, ...]
    """MS_PRIVATE …, with MS_REC or without, in the order given."""

    recursive_set: int
    recursive_clear: int
    """MOUNT_ATTR_* for the mount and all below it."""

    data: str
    """The rest, for the file system."""

    copy_up: bool
    """Fill a tmpfs with what it hides."""

    idmap: str
    """ "", "idmap" or "ridmap"."""

    @property
    def is_bind(self) -> bool:
        """Whether an existing tree is shown a second time."""
        return bool(self.flags & linux.MS_BIND)

    @property
    def is_recursive(self) -> bool:
        """Whether a bind takes the mounts below its source along."""
        return bool(self.flags & linux.MS_REC)

    @property
    def is_remount(self) -> bool:
        """Whether only the options of what is mounted there already are changed."""
        return bool(self.flags & linux.MS_REMOUNT)

    @property
    def bind_attributes(self) -> tuple[int, int]:
        """MOUNT_ATTR_* (to set, to clear) of a bind: exactly the flags asked for; (0, 0) if none was mentioned.

        As remounting with MS_BIND does, and runc with it: access times change only if the options speak of them.
        """
        if not (self.flags & ~(linux.MS_BIND | linux.MS_REC | linux.MS_REMOUNT)) and not self.cleared:
            return 0, 0
        wanted = sum(attribute for flag, attribute in _BIND_ATTRIBUTES if self.flags & flag)
        unwanted = sum(attribute for flag, attribute in _BIND_ATTRIBUTES if not self.flags & flag)
        if self.flags & _ATIME_FLAGS:
            atime_set, atime_clear = self._atime
            wanted, unwanted = wanted | atime_set, unwanted | atime_clear
        return wanted, unwanted

    @property
    def _atime(self) -> tuple[int, int]:
        wanted, unwanted = calls.MOUNT_ATTR_RELATIME, calls.MOUNT_ATTR__ATIME
        if self.flags & linux.MS_STRICTATIME:
            wanted = calls.MOUNT_ATTR_STRICTATIME
        elif self.flags & linux.MS_NOATIME:
            wanted = calls.MOUNT_ATTR_NOATIME
        if self.flags & linux.MS_NODIRATIME:
            return wanted | calls.MOUNT_ATTR_NODIRATIME, unwanted
        return wanted, unwanted | calls.MOUNT_ATTR_NODIRATIME

    @property
    def insistent_attributes(self) -> tuple[int, int]:
        """The same, but what was not mentioned stays as it is: for mounts whose flags may not be lifted.

        Only that symlinks are not followed is never locked.
        """
        wanted, unlocked = self.bind_attributes
        unwanted = unlocked & calls.MOUNT_ATTR_NOSYMFOLLOW
        unwanted |= sum(attribute for flag, attribute in _BIND_ATTRIBUTES if self.cleared & flag)
        if self.flags & _ATIME_CHOICE:
            unwanted |= calls.MOUNT_ATTR__ATIME
        return wanted, unwanted

    @property
    def pairs(self) -> tuple[tuple[str, str | None], ...]:
        """The data as (key, value) for fsconfig(2), with the flags of the file system itself."""
        found = [_pair(option) for option in split_data(self.data)]
        return (*found, *((name, None) for flag, name in _OWN_FLAGS if self.flags & flag))


def _pair(option: str) -> tuple[str, str | None]:
    key, equals, value = option.partition("=")
    return key, value.strip('"') if equals else None


def split_data(data: str) -> list[str]:
    """Split mount data at commas, not at those inside quotes (SELinux contexts have some)."""
    parts, quoted = [""], False
    for letter in data:
        quoted ^= letter == '"'
        if letter == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]


def parse(options: tuple[str, ...] | list[str]) -> MountOptions:
    """Return what the options mean; a later one wins over an earlier one."""
    flags = cleared = recursive_set = recursive_clear = 0
    propagation: list[int] = []
    data: list[str] = []
    idmap, copy_up = "", False
    for option in options:
        if option in FLAGS:
            clears, bits = FLAGS[option]
            flags, cleared = (flags & ~bits, cleared | bits) if clears else (flags | bits, cleared & ~bits)
        elif option in PROPAGATION:
            propagation.append(PROPAGATION[option])
        elif option in RECURSIVE:
            clears, bits = RECURSIVE[option]
            recursive_set = recursive_set & ~bits if clears else recursive_set | bits
            recursive_clear = recursive_clear | bits if clears else recursive_clear & ~bits
            if option in _ATIME_NAMES:
                recursive_clear |= calls.MOUNT_ATTR__ATIME
        elif option in ("idmap", "ridmap"):
            idmap = option
        elif option == "tmpcopyup":
            copy_up = True
        elif option:
            data.append(option)
    return MountOptions(
        flags, cleared, tuple(propagation), recursive_set, recursive_clear, ",".join(data), copy_up, idmap
    )
