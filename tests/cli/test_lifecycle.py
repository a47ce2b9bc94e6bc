"""Verbs on guests: several at once, errors one line each, names that are not unique."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.main import main
from backends import registry
from backends.registry import BackendConfig
from backends.simulated.backend import SimulatedBackend
from tests.cli.conftest import Inn


def test_a_verb_prints_the_guests_that_it_did(inn: Inn) -> None:
    done = inn("pause", "db", "web-1")

    assert (done.code, done.out, done.err) == (0, "db\nweb-1\n", "")


def test_of_several_guests_each_is_tried_and_each_error_is_one_line(inn: Inn) -> None:
    done = inn("stop", "db", "nosuch", "queue", "web-1")

    assert done.code == 1
    assert done.out == "db\nqueue\nweb-1\n"  # queue does not run: it is as it was to be
    assert [line.split(":")[0] for line in done.err.splitlines()] == ["inn"]
    assert "nosuch" in done.err


def test_a_guest_is_found_by_the_beginning_of_its_id(inn: Inn) -> None:
    wanted = next(guest for guest in inn("ps", "--json").json if guest["name"] == "db")

    assert inn("inspect", wanted["id"][:8]).json["name"] == "db"
    assert inn("inspect", "simulated/db").json["name"] == "db"
    assert inn("inspect", wanted["id"][:3]).code == 1


def test_a_verb_traces_its_steps_to_stderr(inn: Inn) -> None:
    done = inn("stop", "--trace", "db")

    assert done.out == "db\n"
    assert "stop db" in done.err
    assert " ms " in done.err


def test_rename_prints_the_new_name_and_rm_wants_force_for_a_live_one(inn: Inn) -> None:
    assert inn("rename", "db", "database").out == "database\n"
    assert inn("rm", "db").code == 1
    assert inn("rm", "-f", "db").out == "db\n"


def test_wait_gives_up_after_its_time(inn: Inn) -> None:
    done = inn("wait", "-t", "100ms", "db")

    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("inn: db")


def test_inspect_has_the_exit_code_and_the_oom_kills(inn: Inn) -> None:
    state = inn("inspect", "db").json["state"]

    assert state["exit_code"] is None
    assert state["oom_kills"] == 0


def test_inspect_of_several_is_an_array(inn: Inn) -> None:
    done = inn("inspect", "db", "nosuch", "web-1")

    assert done.code == 1
    assert [guest["name"] for guest in done.json] == ["db", "web-1"]


def test_processes_have_a_table_and_json(inn: Inn) -> None:
    found = inn("processes", "--json", "db").json

    assert {"pid", "guest_pid", "user", "command", "state", "cpu_time_s", "rss_bytes", "threads"} <= set(found[0])
    assert len(inn("processes", "db").out.splitlines()) > 1


@pytest.mark.parametrize(
    "verb, tried", [("exec", "run a program in"), ("attach", "attach to"), ("console", "open the console of")]
)
def test_what_a_backend_cannot_do_is_said_with_the_reason(inn: Inn, verb: str, tried: str) -> None:
    arguments = [verb, "db", "true"] if verb == "exec" else [verb, "db"]

    done = inn(*arguments)

    assert done.code == (125 if verb == "exec" else 1)
    assert done.err == f"inn: cannot {tried} db: a simulated guest runs no programs\n"


def make_other(config: BackendConfig) -> SimulatedBackend:
    """A second source of guests with the same names."""
    return SimulatedBackend(guests=6, name="other")


@pytest.fixture
def two_backends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Options for two backends whose guests have the same names."""
    monkeypatch.setitem(registry._BUILT_IN, "other", f"{__name__}:make_other")
    return ["--root", str(tmp_path), "--backend", "simulated", "--backend", "other"]


def test_a_name_that_is_not_unique_is_refused_with_the_ways_to_say_it(
    two_backends: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*two_backends, "stop", "web-1"]) == 1

    assert capsys.readouterr().err == "inn: 'web-1' fits 2 guests (say which: other/web-1, simulated/web-1)\n"


def test_the_table_names_what_is_not_unique_with_its_backend(
    two_backends: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*two_backends, "ps"]) == 0

    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"other/web-1", "simulated/web-1"} <= set(names)
    assert len(names) == len(set(names))


def test_backend_and_name_asks_only_that_backend(two_backends: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = [*two_backends, "--option", "simulated.fail=open"]

    assert main([*options, "stop", "other/web-1"]) == 0
    assert capsys.readouterr().err == ""
