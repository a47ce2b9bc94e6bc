"""What a start fails with comes to the client whole, through every process in between."""

from __future__ import annotations

import errno
import json
import os

import pytest

from backends import errors
from backends.errors import InnkeeperError, KernelRefused, LoginNeeded, PermissionDenied, StartFailed
from backends.native import protocol
from backends.oci.program import ProgramFailed

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, InnkeeperError)]


def told(error: Exception) -> InnkeeperError:
    """Return the error as it is on the other side, two processes further on."""
    once = protocol.error_in(json.loads(json.dumps(protocol.error_message(error))))
    return protocol.error_in(json.loads(json.dumps(protocol.error_message(once))))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in (KernelRefused, LoginNeeded)])
def test_an_error_of_any_kind_comes_out_as_it_went_in(kind: type[InnkeeperError]) -> None:
    found = told(kind("web did not start", hint="give it more"))
    assert type(found) is kind
    assert (found.message, found.hint) == ("web did not start", "give it more")


def test_what_the_kernel_refused_is_told_as_a_failed_start() -> None:
    refused = KernelRefused("write 1 to x", OSError(errno.ENODEV, os.strerror(errno.ENODEV)), hint="look at x")
    found = told(refused)
    assert isinstance(found, StartFailed)
    assert (found.message, found.hint) == ("cannot write 1 to x: No such device", "look at x")


def test_a_kind_that_is_made_of_more_than_a_text_is_told_as_the_one_above_it() -> None:
    found = told(LoginNeeded("no access to x", registry="r.example"))
    assert type(found) is PermissionDenied
    assert (found.message, found.hint) == ("no access to x", "inn login r.example")


@pytest.mark.parametrize(
    "error, text",
    [
        (ProcessLookupError("the process that forks died"), "the process that forks died"),
        (TimeoutError(), "TimeoutError"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/b"), "No space left on device: /a/b"),
        (KeyError("pid"), "it failed: KeyError('pid')"),
    ],
)
def test_an_error_that_is_not_ours_is_never_without_a_text(error: Exception, text: str) -> None:
    assert told(error).message == text


def test_the_exit_code_of_a_program_that_cannot_be_run_is_kept() -> None:
    found = told(ProgramFailed("x: not found", errno.ENOENT))
    assert isinstance(found, StartFailed)
    assert (found.message, found.exit_code) == ("x: not found", 127)
