"""`inn ps` and `inn top`."""

from __future__ import annotations

import csv
import io
import re

import pytest

from app.cli.listing import fitted
from app.cli.output import cell_width, table_lines
from backends.metrics import FIELDS
from backends.model import short_ports
from tests.cli.conftest import Inn
from tests.cli.terminal import Terminal

PS_KEYS = {"id", "name", "backend", "kind", "state", "image", "created", "limits"}
TOP_KEYS = {
    "time", "name", "backend", "kind", "state", "cpu_pct", "cpu_throttled_pct", "memory_bytes", "memory_limit_bytes",
    "io_read_bytes_per_s", "io_write_bytes_per_s", "net_rx_bytes_per_s", "net_tx_bytes_per_s", "pids",
}  # fmt: skip


def test_ps_json_is_an_array_of_objects_with_the_documented_keys(inn: Inn) -> None:
    guests = inn("ps", "--json").json

    assert all(set(guest) >= PS_KEYS for guest in guests)
    assert {guest["kind"] for guest in guests} == {"container", "vm"}
    assert {guest["backend"] for guest in guests} == {"simulated"}
    assert all("memory_bytes" in guest["limits"] for guest in guests)
    assert all(guest["created"].endswith("Z") for guest in guests)


def test_ps_prints_a_line_a_guest_and_says_that_they_are_simulated(inn: Inn) -> None:
    done = inn("ps")
    lines = done.out.splitlines()

    assert lines[0].split() == ["NAME", "KIND", "STATE", "UP", "IMAGE", "LIMITS", "ADDRESS", "PORTS", "ID", "NOTE"]
    assert len(lines) == 1 + len(inn("ps", "--json").json)
    assert "none of them is real" in done.err


def test_ps_says_whether_there_are_none_or_none_fits_or_nobody_could_be_asked(inn: Inn) -> None:
    assert "no guests" in inn("ps", "--option", "simulated.guests=0").err
    assert "`inn ps` lists all" in inn("ps", "--label", "nobody=has-it").err
    lost = inn("ps", "--option", "simulated.fail=the daemon is gone")
    assert (lost.code, lost.out) == (1, "")
    assert "no guest" not in lost.err
    assert lost.err.count("\n") == 1


def test_a_long_name_does_not_push_the_columns_off_a_terminal(inn: Inn) -> None:
    arguments = ("--option", "simulated.names=hostile", "ps")
    with Terminal(inn.command(*arguments), env=inn.environment(), size=(60, 200)) as terminal:
        shown = terminal.wait_for(b"none of them is real").decode()

    assert "n" * 59 + "…" in shown
    assert "n" * 60 not in shown
    assert "n" * 100 in inn(*arguments).out


def table(*, note: str = "", ports: str = "") -> list[list[str]]:
    titles = ["NAME", "KIND", "STATE", "UP", "IMAGE", "LIMITS", "ADDRESS", "PORTS", "ID", "NOTE"]
    return [titles, ["web", "container", "running", "2 min", "host", "–", "10.209.157.2", ports, "bae5d00f3f34", note]]


def test_a_narrow_terminal_gets_whole_lines_of_what_matters_most() -> None:
    ports, note = "8080->80/tcp", "killed by SIGKILL; 1 killed for want of memory"
    for room in range(45, 170):
        shown = fitted(table(ports=ports, note=note), room)
        assert max(map(cell_width, table_lines(shown[0], shown[1:]))) <= room
        assert {"NAME", "STATE", "UP"} <= set(shown[0])
    assert fitted(table(note=note), 80)[0] == ["NAME", "STATE", "UP", "IMAGE", "ADDRESS", "ID", "NOTE"]
    full = ["NAME", "KIND", "STATE", "UP", "IMAGE", "ADDRESS", "PORTS", "ID"]
    assert fitted(table(ports=ports), 80)[0] == full
    assert fitted(table(ports=ports, note=note), 200) == table(ports=ports, note=note)


def test_published_ports_are_told_as_ranges() -> None:
    ports = ["8080->80/tcp", *(f"127.0.0.1:{n}->{n - 1000}/tcp" for n in range(9000, 9006)), "53->53/udp", "odd"]
    assert short_ports(ports) == "odd, 8080->80/tcp, 127.0.0.1:9000-9005->8000-8005/tcp, 53->53/udp"
    assert short_ports(["1->1/tcp", "2->2/udp", "3->4/udp"]) == "1->1/tcp, 2->2/udp, 3->4/udp"
    assert short_ports([]) == ""


def test_top_at_a_terminal_draws_over_itself_and_stays_within_it(inn: Inn) -> None:
    with Terminal(inn.command("top", "-d", "0.2"), env=inn.environment(), size=(12, 60)) as terminal:
        frame = terminal.wait_for(b"\x1b[J\x1b[H").split(b"\x1b[H")[1].split(b"\x1b[J")[0]

    plain = re.sub(r"\x1b\[[0-9;]*[mK]", "", frame.decode()).splitlines()
    assert len(plain) == 11
    assert max(cell_width(line) for line in plain) <= 60
    assert plain[-1].startswith("… and ")


def test_ps_filters(inn: Inn) -> None:
    guests = inn("ps", "--json").json
    running = [guest["id"] for guest in guests if guest["state"] == "running"]
    machines = [guest["id"] for guest in guests if guest["kind"] == "vm"]
    live = [guest["id"] for guest in guests if guest["state"] in ("running", "paused", "stopping")]

    assert 0 < len(running) < len(guests)
    assert inn("ps", "-q", "--state", "running").out.split() == running
    assert inn("ps", "-q", "--kind", "vm").out.split() == machines
    assert inn("ps", "-q", "--live").out.split() == live
    assert inn("ps", "-q", "--label", "nobody=has").out == ""


def test_hostile_names_never_bring_an_escape_to_the_terminal(inn: Inn) -> None:
    hostile = ("--option", "simulated.names=hostile", "--option", "simulated.guests=12")
    names = [guest["name"] for guest in inn(*hostile, "ps", "--json").json]
    assert any("\x1b" in name for name in names)

    for verb in ("ps", "ps --json", "top -n 1", "top -n 1 --json", "top -n 1 --csv"):
        done = inn(*hostile, *verb.split())
        assert done.code == 0
        assert not [character for character in done.out + done.err if character < " " and character != "\n"]
        assert not [character for character in done.out if "\x7f" <= character <= "\x9f"]


def test_a_hostile_name_in_an_error_is_cleaned_too(inn: Inn) -> None:
    done = inn("stop", "\x1b]0;owned\x07x")

    assert done.code == 1
    assert "\x1b" not in done.err
    assert "\x07" not in done.err


def test_top_json_is_one_object_a_line_for_each_guest_and_sample(inn: Inn) -> None:
    guests = inn("ps", "--json").json

    lines = inn("top", "-n", "3", "-d", "0.3", "--json").json_lines

    assert len(lines) == 3 * len(guests)
    assert all(set(line) >= TOP_KEYS | set(FIELDS) for line in lines)
    assert len({line["time"] for line in lines}) == 3
    first = {line["name"]: line for line in lines[: len(guests)]}
    assert all(first[guest["name"]]["cpu_pct"] is not None for guest in guests if guest["state"] == "running")
    assert all(first[guest["name"]]["pids"] is None for guest in guests if guest["state"] == "created")


def test_top_csv_has_a_line_of_titles_and_the_same_figures(inn: Inn) -> None:
    done = inn("top", "-n", "1", "--csv", "db")
    rows = list(csv.DictReader(io.StringIO(done.out)))

    assert [row["name"] for row in rows] == ["db"]
    assert set(rows[0]) >= TOP_KEYS
    assert float(rows[0]["cpu_pct"]) >= 0
    assert rows[0]["cpu_delay_pct"] == ""


def test_top_prints_a_table_of_the_guests_asked_for(inn: Inn) -> None:
    lines = inn("top", "-n", "1", "db", "cache").out.splitlines()

    assert [line.split()[0] for line in lines[2:4]] == ["db", "cache"]
    assert "CPU%" in lines[1].split()


def test_top_says_an_unknown_guest_at_once(inn: Inn) -> None:
    done = inn("top", "-n", "1", "nosuch")

    assert (done.code, done.out) == (1, "")
    assert "there is no guest 'nosuch'" in done.err


@pytest.mark.parametrize("verb", [("ps",), ("top", "-n", "1", "--json")], ids=" ".join)
def test_a_backend_that_cannot_be_reached_is_said_and_fails_when_it_is_the_only_one(
    inn: Inn, verb: tuple[str, ...]
) -> None:
    done = inn("--option", "simulated.fail=open", *verb)

    assert done.code == 1
    assert "simulated guests not shown" in done.err


def test_a_backend_that_hangs_is_waited_for_in_vain_only_for_a_while(inn: Inn) -> None:
    done = inn("--option", "simulated.hang=guests", "ps")

    assert done.code == 1
    assert "simulated guests not shown" in done.err
