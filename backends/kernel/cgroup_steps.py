"""What changes cgroups, as steps: make a group, hand controllers down, write a file, attach a process."""

from __future__ import annotations

import errno
import os
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass, field

from backends.errors import InnkeeperError, KernelRefused
from backends.kernel.cgroup_file import GuestVanished, parse_keyed, read_text, write_text


@dataclass(slots=True)
class MakeCgroup:
    """Make one folder, and so one group, in one hierarchy, with the missing folders above it."""

    directory: str
    mount: str
    """Where the hierarchy is mounted; nothing is made above it."""

    is_v1_cpuset: bool = False
    """A v1 cpuset group starts with no CPU and no memory node and takes no process until it has both
    (cgroup-v1/cpusets.rst); they are copied from the group above, top-down."""

    _made: bool = field(default=False, init=False, repr=False, compare=False)

    @property
    def kind(self) -> str:
        return "cgroup"

    def describe(self) -> str:
        also = ", with the CPUs and memory nodes of the group above" if self.is_v1_cpuset else ""
        return f"make the group {self.directory}{also}"

    def by_hand(self) -> str:
        quoted = shlex.quote(self.directory)
        if not self.is_v1_cpuset:
            return f"mkdir -p {quoted}"
        copies = "; ".join(f"cat {quoted}/../{name} > {quoted}/{name}" for name in _CPUSET_FILES)
        return f"mkdir -p {quoted}; {copies}"

    def run(self) -> None:
        """Make it. Raises KernelRefused; a group that exists is taken as it is."""
        for attempt in range(20):
            try:
                self._make()
                return
            except FileNotFoundError as error:
                # Another process removed an empty group above between our two mkdirs.
                if attempt == 19:
                    raise KernelRefused(f"make the group {self.directory}", error) from error
            except OSError as error:
                raise KernelRefused(f"make the group {self.directory}", error) from error

    def _make(self) -> None:
        # The groups above are there nearly always, so the folder itself is tried first.
        try:
            os.mkdir(self.directory, 0o755)
            self._made = True
        except FileExistsError:
            pass
        except FileNotFoundError:
            self._make_from_the_top()
        if self.is_v1_cpuset and not self._has_cpus():
            self._fill_from_the_top()

    def _make_from_the_top(self) -> None:
        for level in self._levels():
            try:
                os.mkdir(level, 0o755)
            except FileExistsError:
                continue
            self._made = level == self.directory
            if self.is_v1_cpuset:
                inherit_cpuset(os.path.dirname(level), level)
                if not self._made:
                    # The groups made below this one have CPUs at once, which saves the kernel a slow write each.
                    with suppress(KernelRefused):
                        write_text(f"{level}/cgroup.clone_children", "1")

    def _has_cpus(self) -> bool:
        # A group just made that has CPUs got both from the group above.
        names = _CPUSET_FILES[:1] if self._made else _CPUSET_FILES
        return all(read_text(f"{self.directory}/{name}") for name in names)

    def _fill_from_the_top(self) -> None:
        for level in self._levels():
            inherit_cpuset(os.path.dirname(level), level)

    def _levels(self) -> list[str]:
        """The folders from below the mount down to the group's own."""
        names = os.path.relpath(self.directory, self.mount).split("/")
        return [os.path.join(self.mount, *names[:count]) for count in range(1, len(names) + 1)]

    def undo(self) -> None:
        """Remove it, if this step made it; the groups above stay, others may use them."""
        if self._made:
            remove_directory(self.directory, timeout_s=2.0)


_CPUSET_FILES = ("cpuset.cpus", "cpuset.mems")


def inherit_cpuset(above: str, directory: str) -> None:
    """Copy CPUs and memory nodes of the group above into a v1 cpuset group that has none."""
    for name in _CPUSET_FILES:
        if read_text(f"{directory}/{name}") == "":
            inherited = read_text(f"{above}/{name}")
            if inherited:
                write_text(f"{directory}/{name}", inherited)


@dataclass(slots=True)
class HandDown:
    """Let the groups below a v2 group use controllers (cgroup-v2.rst, "Enabling and Disabling").

    Never undone: other groups may use them by then.
    """

    directory: str
    controllers: tuple[str, ...]

    @property
    def kind(self) -> str:
        return "write"

    def describe(self) -> str:
        return f"let groups below {self.directory} use {', '.join(self.controllers)}"

    def by_hand(self) -> str:
        words = " ".join(f"+{name}" for name in self.controllers)
        return f"echo {shlex.quote(words)} > {shlex.quote(self.directory + '/cgroup.subtree_control')}"

    def run(self) -> None:
        """Enable those that are not enabled yet. Raises KernelRefused if not one can be.

        One that the kernel refuses (cpu, while real-time processes sit outside the top group) does not keep a
        guest from starting; its limits then say that it is missing.
        """
        path = f"{self.directory}/cgroup.subtree_control"
        enabled = (read_text(path) or "").split()
        missing = [f"+{name}" for name in self.controllers if name not in enabled]
        if missing:
            try:
                write_text(path, " ".join(missing))
            except KernelRefused as error:
                if sum(_is_written(path, word) for word in missing) == 0:
                    raise error

    def undo(self) -> None:
        """Nothing: see the class."""


def _is_written(path: str, word: str) -> bool:
    try:
        write_text(path, word)
    except KernelRefused:
        return False
    return True


@dataclass(slots=True)
class WriteFile:
    """Write one value to one file; undo writes back what was there."""

    path: str
    text: str
    meaning: str = ""
    """What it does, in the user's words: "memory limit 64 MiB"."""

    key: str | None = None
    """In a file with a line per device, the device ("254:0") whose line is written."""

    lifted: str = ""
    """With a key: the text that removes the device's line."""

    _before: str | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def kind(self) -> str:
        return "write"

    def describe(self) -> str:
        meaning = f" ({self.meaning})" if self.meaning else ""
        return f'write "{self.text}" to {self.path}{meaning}'

    def by_hand(self) -> str:
        return f"echo {shlex.quote(self.text)} > {shlex.quote(self.path)}"

    def run(self) -> None:
        """Write it. Raises GuestVanished, PermissionDenied, KernelRefused."""
        before = read_text(self.path)
        write_text(self.path, self.text)
        self._before = self._old_line(before)

    def _old_line(self, before: str | None) -> str | None:
        if self.key is None or before is None:
            return before
        old = parse_keyed(before).get(self.key)
        return self.lifted if old is None else f"{self.key} {old}"

    def undo(self) -> None:
        """Write back the old text; a group that is gone needs nothing."""
        if self._before is not None:
            before, self._before = self._before, None
            with suppress(GuestVanished):
                write_text(self.path, before)


@dataclass(slots=True)
class AttachProcess:
    """Move one process, with all its threads, into a group of one hierarchy. Its end takes it out again."""

    directory: str
    pid: int
    """0 is the process that runs the step."""

    @property
    def kind(self) -> str:
        return "attach"

    def describe(self) -> str:
        who = "this process" if self.pid == 0 else f"process {self.pid}"
        return f"put {who} into {self.directory}"

    def by_hand(self) -> str:
        who = "$$" if self.pid == 0 else str(self.pid)
        return f"echo {who} > {shlex.quote(self.directory + '/cgroup.procs')}"

    def run(self) -> None:
        """Attach it. Raises ProcessLookupError if the process has gone, else as WriteFile."""
        try:
            write_text(f"{self.directory}/cgroup.procs", str(self.pid))
        except KernelRefused as error:
            if error.errno == errno.ESRCH:
                raise ProcessLookupError(errno.ESRCH, f"process {self.pid} has gone") from error
            raise

    def undo(self) -> None:
        """Nothing: the kernel takes a process out when it ends."""


def remove_directory(directory: str, *, timeout_s: float) -> None:
    """Remove a group and those below it; no error if it is gone.

    A group that was just emptied can stay busy for some milliseconds (its last process is not reaped yet,
    or the v1 controllers still let go of it), so EBUSY is tried again until the time is over: KernelRefused.
    """
    deadline, pause_s = time.monotonic() + timeout_s, 0.001
    while True:
        try:
            _remove_tree(directory)
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise _cannot_remove(directory, error) from error
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)


def sub_groups(directory: str) -> list[str]:
    """Return the groups below one, deepest first, itself last; empty if it is gone."""
    found = [folder for folder, _, _ in os.walk(directory)]
    return found[::-1]


def _remove_tree(directory: str) -> None:
    # os.walk is slow on cgroup folders (a stat for each file); most groups have none below, so try that first.
    try:
        os.rmdir(directory)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
    for folder in sub_groups(directory):
        with suppress(FileNotFoundError):
            os.rmdir(folder)


def _cannot_remove(directory: str, error: OSError) -> InnkeeperError:
    hint = "processes are still in it" if error.errno == errno.EBUSY else ""
    return KernelRefused(f"remove the group {directory}", error, hint=hint)
