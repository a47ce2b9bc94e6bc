"""Verbs, global options, help and exit codes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from app import __version__
from app.cli.verbs import VERBS
from app.core.commands import COMMANDS
from tests.cli.conftest import ROOT, Inn
from tests.cli.terminal import Terminal

SHOWN = sorted(verb.name for verb in VERBS.values() if not verb.is_hidden)


def test_the_version_is_that_of_the_package(inn: Inn) -> None:
    assert inn("--version").out == f"inn {__version__}\n"


@pytest.mark.parametrize("verb", SHOWN)
def test_every_verb_explains_itself(inn: Inn, verb: str) -> None:
    done = inn(verb, "--help")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: inn {verb}")
    assert done.out == inn("help", verb).out


def test_the_help_lists_every_verb(inn: Inn) -> None:
    listed = {line.split()[0] for line in inn("help").out.splitlines() if line.startswith("  ") and line.strip()}

    assert set(SHOWN) <= listed
    assert "__complete" not in listed
    assert inn("--help").out == inn("help").out


def test_every_command_of_the_core_is_a_verb() -> None:
    """But undo and redo: what there is to take back lives as long as the screen."""
    verbs = {command.verb.split()[0] for command in COMMANDS.values() if not command.name.startswith("limit.")}

    assert verbs <= set(VERBS)


def test_an_unknown_verb_is_a_usage_error_with_the_nearest_one(inn: Inn) -> None:
    done = inn("stpo")

    assert (done.code, done.out) == (2, "")
    assert done.err == "inn: there is no command 'stpo'. Did you mean 'stop'? See `inn help`\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("stop",),
        ("ps", "--nope"),
        ("top", "-n", "0"),
        ("top", "-d", "0.001"),
        ("kill", "-s", "NOPE", "db"),
        ("limit", "db"),
        ("limit", "db", "--memory", "lots"),
        ("ps", "--backend", "nope"),
        ("help", "nope"),
        ("ps", "--option", "nonsense"),
        ("rename", "db"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_one_line_and_exit_code_2(inn: Inn, arguments: tuple[str, ...]) -> None:
    done = inn(*arguments)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("inn: ")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [("run", "--nope", "host"), ("run", "--cpus", "lots", "host"), ("exec",)], ids=" ".join
)
def test_where_2_can_be_the_programs_own_answer_nonsense_is_125(inn: Inn, arguments: tuple[str, ...]) -> None:
    done = inn(*arguments)

    assert (done.code, done.out) == (125, "")
    assert done.err.count("\n") == 1


def test_a_global_option_without_its_value_is_said_once(inn: Inn) -> None:
    inn.options = []

    assert inn("--root").err == "inn: argument --root: expected one argument. See inn --help\n"


def test_a_demo_that_cannot_begin_says_why(inn: Inn) -> None:
    inn.options = ["--root", "/proc/nowhere", "--backend", "native"]

    for arguments in (("demo", "--no-screen"), ("demo", "--remove")):
        said = inn(*arguments).err
        assert "root" in said or "/proc/nowhere" in said
        assert "not open" not in said


def test_global_options_are_taken_after_the_verb_too(inn: Inn) -> None:
    inn.options = []

    done = inn("ps", "--json", "--root", str(inn.root), "--backend", "simulated", "--no-color")

    assert done.code == 0
    assert done.json


def test_without_a_terminal_the_screen_is_refused_in_one_line(inn: Inn) -> None:
    done = inn()

    assert (done.code, done.out) == (2, "")
    assert "inn top -n 3 --json" in done.err
    assert done.err.count("\n") == 1


def test_without_textual_the_screen_is_refused_in_one_line(inn: Inn) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.modules['textual'] = None\n"
        "from app.cli.main import main; sys.exit(main())"
    )
    command = [sys.executable, "-I", "-c", code, str(ROOT), *inn.options]
    with Terminal(command, env=inn.environment()) as terminal:
        assert terminal.wait() == 1
        terminal.wait_for(b"cannot open the screen: the Python package textual is not installed")


def test_a_reader_that_goes_away_ends_it_quietly(inn: Inn) -> None:
    process = inn.start("top", "--json", "-d", "0.1")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.wait(10) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_ctrl_c_ends_it_quietly_with_130(inn: Inn) -> None:
    process = inn.start("top", "--json", "-d", "0.1")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)

    _, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, b"")


def test_listing_guests_loads_none_of_the_heavy_libraries(inn: Inn) -> None:
    code = (
        "import sys; sys.argv[0] = 'inn'; sys.path.insert(0, sys.argv.pop(1))\n"
        "from app.cli.main import main\n"
        "code = main()\n"
        "heavy = {'textual', 'rich', 'pyroute2', 'libvirt', 'psutil', 'asyncio', 'concurrent.futures', 'subprocess'}\n"
        "print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(ROOT), *inn.options, "ps"], capture_output=True, text=True, check=False
    )

    assert done.stderr.splitlines()[-1] == "0 []"


def test_the_manual_has_every_verb_and_every_option() -> None:
    from app.cli.parser import parser_of

    manual = (ROOT / "docs" / "cli.md").read_text()
    options = {
        tuple(action.option_strings)
        for verb in VERBS.values()
        if not verb.is_hidden
        for action in parser_of(verb)._actions
        if action.option_strings and action.dest != "help"
    }

    told = set(re.findall(r"--?[a-z][a-z0-9-]*", manual))
    assert [verb for verb in SHOWN if f"inn {verb}" not in manual] == []
    assert sorted(names for names in options if not told.intersection(names)) == []
