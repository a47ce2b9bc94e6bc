"""One resource of config.json written to one cgroup file, with errors that name both."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field

from backends.errors import InnkeeperError, KernelRefused, Unsupported
from backends.kernel.cgroup_file import parse_amount, read_text, write_text
from backends.kernel.cgroup_steps import WriteFile
from backends.oci.errors import OciError


@dataclass(slots=True)
class SetResource(WriteFile):
    """Write a resource. Its errors begin with the property; what the kernel has no file for is Unsupported."""

    name: str = ""
    """Below linux.resources: "memory.limit"."""

    may_lack: bool = False
    """The value says what holds without the file too, so a kernel that lacks it is right already."""

    is_new: bool = True
    """The group was just made: nothing of it need be put back."""

    def run(self) -> None:
        """Write it. Raises Unsupported, OciError, GuestVanished, PermissionDenied."""
        try:
            if self.is_new:
                write_text(self.path, self.text)
            else:
                WriteFile.run(self)
        except KernelRefused as error:
            if error.errno == errno.ENOENT:
                if self.may_lack:
                    return
                raise Unsupported(f"linux.resources.{self.name}: {missing(self.path)}") from error
            raise self._explained(error) from error

    def _explained(self, error: KernelRefused) -> InnkeeperError:
        folder, file = os.path.split(self.path)
        if error.errno == errno.EBUSY and file == "memory.limit_in_bytes":
            usage, peak = (parse_amount(read_text(f"{folder}/memory.{name}usage_in_bytes")) for name in ("", "max_"))
            said = f"unable to set memory limit to {self.text} (current usage: {usage}, peak usage: {peak})"
            return OciError(said, hint=error.hint)
        return OciError(f"linux.resources.{self.name}: {error.message}", hint=error.hint)


def missing(path: str) -> str:
    """Say that a cgroup file is not there."""
    controller = os.path.basename(path).partition(".")[0]
    return f"no {path}: this kernel does not have it, or the {controller} controller is not enabled for the group"


@dataclass(slots=True)
class SetShares(SetResource):
    """Write cpu.shares, and see whether the kernel took the number as it is."""

    def run(self) -> None:
        """Write it. Raises OciError with runc's words for a number out of the kernel's range."""
        SetResource.run(self)
        wanted, taken = int(self.text), parse_amount(read_text(self.path))
        if taken is not None and taken != wanted:
            which = "maximum" if wanted > taken else "minimum"
            raise OciError(f"the {which} allowed cpu-shares is {taken}")


@dataclass(slots=True)
class SetWeight(SetResource):
    """Write a weight for I/O where the kernel's scheduler has it: bfq's file, or the older or general one."""

    other_path: str = ""
    other_text: str = ""

    def run(self) -> None:
        """Write it. Raises as SetResource, naming the general file where there is neither."""
        if not os.path.exists(self.path):
            self.path, self.text = self.other_path, self.other_text
        SetResource.run(self)


@dataclass(slots=True)
class SetTogether:
    """Several writes that make sense only together: if one fails, those before it are taken back."""

    steps: tuple[SetResource, ...]
    _done: list[SetResource] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def kind(self) -> str:
        return "write"

    def describe(self) -> str:
        return "; ".join(step.describe() for step in self.steps)

    def by_hand(self) -> str:
        return "; ".join(step.by_hand() for step in self.steps)

    def run(self) -> None:
        """Write all or none. Raises as SetResource."""
        for step in self.steps:
            try:
                step.run()
            except BaseException:
                with suppress(InnkeeperError):
                    self.undo()
                raise
            self._done.append(step)

    def undo(self) -> None:
        """Put back what was there, the last first."""
        while self._done:
            self._done.pop().undo()
