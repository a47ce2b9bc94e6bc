"""What long operations show: lines, bars on a terminal, nothing with -q; and Ctrl-C gives them up."""

from __future__ import annotations

import signal

import pyte
import pytest

from app.cli.diagnostics import Talk
from app.cli.progress import Bars, amount_text, bar_line, part_name
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


class _Written(Talk):
    """Keeps what is written to the terminal."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(60, 12)
        self._stream = pyte.ByteStream(self.screen)
        self.count = 0

    def raw(self, data: bytes) -> None:
        """Draw it."""
        self.count += len(data)
        self._stream.feed(data.replace(b"\n", b"\r\n"))

    @property
    def lines(self) -> list[str]:
        """The screen, without what is empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]


def test_bars_are_drawn_over_themselves_and_lines_go_above(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "12")
    talk = _Written()
    bars = Bars(talk)
    parts = {f"part {number}": Progress(f"part {number}", "downloading", 0, 100) for number in range(3)}
    bars.update(parts)
    bars.say("something was said")
    for done in range(0, 101, 10):
        parts["part 1"] = Progress("part 1", "downloading", done, 100)
        bars.update(parts)
    parts["step 1/2"] = Progress("step 1/2", "RUN true", 1, 1, "steps")
    bars.update(parts)
    bars.end()

    assert talk.lines[:2] == ["something was said", "step 1/2       RUN true"]
    assert [line.split()[:2] for line in talk.lines[2:]] == [["part", str(number)] for number in range(3)]


def test_what_did_not_change_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    talk = _Written()
    bars = Bars(talk)
    parts = {f"part {number}": Progress(f"part {number}", "downloading", 50, 100) for number in range(9)}
    bars.update(parts)
    before = talk.count
    bars.update(parts)
    bars.update(parts)

    assert talk.count == before


def test_more_parts_than_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "12")
    talk = _Written()
    bars = Bars(talk)
    parts = {f"part {number}": Progress(f"part {number}", "downloading", number * 5, 100) for number in range(25)}
    bars.update(parts)

    assert len(talk.lines) == 10
    assert talk.lines[-1] == "… 5 done, 11 more go on"
