"""What the runtime makes of a stage and an init that end while it is busy."""

from __future__ import annotations

import os
from collections.abc import Mapping

import pytest

from backends.errors import StartFailed
from backends.oci import messages
from backends.oci.conversation import Conversation
from backends.oci.gate import SocketGate
from backends.oci.join import Joining
from backends.oci.join_request import JoinRequest
from backends.oci.request import Created, CreateRequest
from backends.oci.work import Work
from backends.trace import Recorder


def a_pid_that_is_gone() -> int:
    """Return the pid of a child that has ended and was reaped."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def no_state(status: str, pid: int) -> Mapping[str, object]:
    """What no hook asks for."""
    return {}


def test_an_init_that_was_reaped_before_it_was_met_is_still_heard() -> None:
    ours, theirs = messages.pair()
    request = CreateRequest(id="a", bundle="/", root="/", config={}, group=None, gate=SocketGate(), state=no_state)
    created = Created(0, -1)
    with ours, theirs:
        talk = Conversation(ours, request, created, Work(Recorder("test")))
        messages.send(theirs, {"pid": a_pid_that_is_gone()})
        messages.send(theirs, {"failed": "no such user", "exit_code": 125})
        with pytest.raises(StartFailed, match="no such user"):
            talk.hear_of("pid")
    assert (created.pid, created.pidfd) == (0, -1)


def test_a_program_that_was_reaped_before_it_was_met_is_still_heard() -> None:
    ours, theirs = messages.pair()
    request = JoinRequest(id="a", pid=1, config={}, process={})
    with ours, theirs:
        joining = Joining(request, ours, 0)
        messages.send(theirs, {"pid": a_pid_that_is_gone()})
        messages.send(theirs, {"failed": "no such user", "exit_code": 125})
        assert not joining.hear()
        with pytest.raises(StartFailed, match="no such user"):
            joining.hear()
