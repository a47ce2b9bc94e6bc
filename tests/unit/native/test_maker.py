"""What a supervisor hears of the process that makes its container."""

from __future__ import annotations

import os

import pytest

from backends.errors import StartFailed, WrongState
from backends.native.maker import Maker, Worker
from tests.tools.waiting import wait_until


def has_ended(maker: Maker) -> bool:
    """Say whether the maker is a zombie."""
    return os.waitid(os.P_PID, maker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def refuse(worker: Worker) -> None:
    """Give up with a reason, and without reading what the supervisor says."""
    worker.fail(WrongState("the port is in use"))


@pytest.mark.parametrize("is_late", [False, True], ids=["before it reads it", "before it is told"])
def test_a_maker_that_ends_without_hearing_its_supervisor_is_still_heard(is_late: bool) -> None:
    ready, begin = os.pipe()

    def work(worker: Worker) -> None:
        if not is_late:
            os.read(ready, 1)
        refuse(worker)

    maker = Maker(work)
    try:
        if is_late:
            wait_until(lambda: has_ended(maker))
        maker.ask({"go": True})
        os.write(begin, b"x")
        wait_until(lambda: has_ended(maker))
        with pytest.raises(WrongState, match="the port is in use"):
            maker.answer()
        with pytest.raises(StartFailed, match="the process that makes it died"):
            maker.answer()
    finally:
        maker.dismiss()
        maker.pipes.close_ours()
        os.close(ready)
        os.close(begin)


def test_a_maker_that_cannot_be_forked_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room() -> int:
        raise BlockingIOError

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fork", no_room)
        with pytest.raises(BlockingIOError):
            Maker(refuse)
    assert len(os.listdir("/proc/self/fd")) == before
