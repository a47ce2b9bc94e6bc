"""What long operations show: lines, bars on a terminal, nothing with -q; and Ctrl-C gives them up."""

from __future__ import annotations

import signal

import pytest

from app.cli.progress import amount_text, bar_line, part_name
from backends.trace import Progress
from tests.cli.conftest import Inn
from tests.cli.terminal import Terminal

QUICK = ("--option", "simulated.bytes_per_s=1e9")


def test_a_pull_prints_the_name_and_tells_on_stderr_what_happens_to_each_part(inn: Inn) -> None:
    done = inn(*QUICK, "pull", "alpine")

    assert (done.code, done.out) == (0, "alpine:latest\n")
    lines = done.err.splitlines()
    assert any("already here" in line or "downloading" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_a_quiet_pull_says_nothing_but_the_name(inn: Inn) -> None:
    done = inn(*QUICK, "image", "pull", "-q", "alpine")

    assert (done.code, done.out, done.err) == (0, "alpine:latest\n", "")


def test_of_several_images_each_is_tried(inn: Inn) -> None:
    done = inn(*QUICK, "pull", "-q", "no-such:1", "alpine")

    assert (done.code, done.out) == (1, "alpine:latest\n")
    assert done.err.count("\n") == 1
    assert "no-such:1" in done.err


def test_a_terminal_gets_bars_that_fit_into_it(inn: Inn) -> None:
    with Terminal(inn.command("pull", "alpine"), size=(24, 80), env=inn.environment()) as terminal:
        shown = terminal.wait_for(b"alpine:latest\r\n")
    lines = [line for piece in shown.decode().split("\n") for line in piece.replace("\x1b[K", "").split("\r")]

    assert any("[=" in line for line in lines)
    assert max(len(line) for line in lines) <= 80


def test_ctrl_c_cancels_and_says_so(inn: Inn) -> None:
    process = inn.start("--option", "simulated.bytes_per_s=1e3", "pull", "alpine")
    assert process.stderr is not None
    said = b""
    while b"downloading" not in said:
        said += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=15)

    assert process.returncode == 130
    assert b"cancelling" in rest
    assert rest.endswith(b": cancelled\n")


@pytest.mark.parametrize("done", [0, 1, 5_000_000, 9_999_999])
@pytest.mark.parametrize("width", [20, 40, 79, 200])
def test_a_bar_is_never_wider_than_the_line(done: int, width: int) -> None:
    line = bar_line("sha256:" + "a" * 64, Progress("", "downloading", done, 10_000_000), width)

    assert len(line) <= width


def test_other_peoples_words_are_harmless() -> None:
    assert "\x1b" not in bar_line("step \x1b[2J", Progress("", "RUN \x1b]0;x\x07", 0, 1, "steps"), 79)
    assert part_name("sha256:0123456789abcdef") == "0123456789ab"


def test_amounts_are_told_as_far_as_they_are_known() -> None:
    assert amount_text(Progress("", "", 512, 2048)) == "512 B of 2 KiB"
    assert amount_text(Progress("", "", 2048, None)) == "2 KiB"
    assert amount_text(Progress("", "", 0, None)) == ""
    assert amount_text(Progress("", "", 2, 7, "files")) == "2 of 7 files"
