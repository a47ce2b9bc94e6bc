"""A step done in the network namespace of another process."""

from __future__ import annotations

import json
import os
import shlex
from contextlib import suppress
from dataclasses import dataclass

from backends.errors import InnkeeperError
from backends.kernel import linux
from backends.oci import messages
from backends.trace import Step

_ANSWER_BYTES = 65536


@dataclass(frozen=True, slots=True)
class InNetwork:
    """Does a step in the network namespace of a process, by a fork that enters it."""

    step: Step
    pid: int

    @property
    def kind(self) -> str:
        """The step's own."""
        return self.step.kind

    def describe(self) -> str:
        return self.step.describe()

    def by_hand(self) -> str:
        by_hand = self.step.by_hand()
        return f"nsenter -n -t {self.pid} sh -c {shlex.quote(by_hand)}" if by_hand else ""

    def run(self) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                space = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                linux.setns(space, linux.CLONE_NEWNET)
                self.step.run()
            except Exception as error:  # the end of a forked process
                os.write(writing, json.dumps(messages.failure(error)).encode())
            finally:
                os._exit(0)
        os.close(writing)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        said = os.read(reading, _ANSWER_BYTES)
        os.close(reading)
        if said:
            raise InnkeeperError(f"cannot {self.describe()}: {json.loads(said)['failed']}")

    def undo(self) -> None:
        """It goes with the namespace."""
