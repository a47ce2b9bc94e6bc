"""stdin, stdout and stderr that are closed, full, or nobody's."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Done, Inn

PRINTING = [("ps",), ("ps", "--json"), ("top", "-n", "1", "--csv"), ("logs", "db"), ("help",), ("inspect", "db")]


def shell(inn: Inn, redirected: str, *arguments: str) -> Done:
    """Run it with redirections that only a shell can make."""
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirected}', "sh", *inn.command(*arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        env=inn.environment(),
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_full_disk_behind_stdout_is_said_in_one_line(inn: Inn, arguments: tuple[str, ...]) -> None:
    done = shell(inn, ">/dev/full", *arguments)

    said = [line for line in done.err.splitlines() if "simulated guests" not in line]
    assert (done.code, said) == (1, ["inn: cannot write to stdout: No space left on device"])


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_closed_stdout_is_said_in_one_line(inn: Inn, arguments: tuple[str, ...]) -> None:
    done = shell(inn, ">&-", *arguments)

    said = [line for line in done.err.splitlines() if "simulated guests" not in line]
    assert (done.code, said) == (1, ["inn: cannot write to stdout: Bad file descriptor"])


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", "<&-"])
def test_what_is_not_needed_may_be_closed_or_full(inn: Inn, redirected: str) -> None:
    done = shell(inn, redirected, "ps", "-q")

    assert done.code == 0
    assert len(done.out.splitlines()) == len(inn("ps", "--json").json)


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full", ">&- 2>&-"])
def test_an_error_that_nobody_can_read_still_has_its_exit_code(inn: Inn, redirected: str) -> None:
    assert shell(inn, redirected, "psx").code == 2


def test_nothing_of_ours_is_opened_in_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """Else a container's output would go into a socket or a state file."""
    import sys

    from tests.cli.conftest import ROOT

    told = tmp_path / "told"
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from app.cli.streams import open_standard_streams\n"
        "import os; open_standard_streams()\n"
        f"open({str(told)!r}, 'w').write(' '.join(os.readlink(f'/proc/self/fd/{{n}}') for n in (0, 1, 2)))"
    )
    subprocess.run(["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-I", "-c", code], check=True, timeout=30)

    assert told.read_text() == "/dev/null /dev/null /dev/null"
