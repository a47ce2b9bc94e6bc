"""Tab completion: what is offered where, and that each shell takes its script."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from app.cli.verbs import VERBS
from tests.cli.conftest import ROOT, Inn
from tests.tools.needs import facility, needs


@facility("zsh")
def _zsh(_: str) -> str:
    return "" if shutil.which("zsh") else "the program zsh is missing"


@facility("fish")
def _fish(_: str) -> str:
    return "" if shutil.which("fish") else "the program fish is missing"


def offered(inn: Inn, *words: str) -> list[str]:
    """Return what can stand in place of the last word."""
    inn.options = []
    done = inn("__complete", "--", "--backend", "simulated", *words)
    assert (done.code, done.err) == (0, "")
    return [line.partition("\t")[0] for line in done.out.splitlines()]


def test_verbs_are_offered_first(inn: Inn) -> None:
    assert offered(inn, "") == [verb.name for verb in VERBS.values() if not verb.is_hidden]
    assert offered(inn, "res") == ["restart", "resume", "restore"]


def test_options_are_offered_after_a_dash(inn: Inn) -> None:
    assert {"--json", "--live", "--root"} <= set(offered(inn, "ps", "--"))
    assert "--memory-high" in offered(inn, "limit", "db", "--mem")


def test_guests_are_offered_and_only_live_ones_to_stop(inn: Inn) -> None:
    names = set(offered(inn, "inspect", ""))

    assert {"db", "queue"} <= names
    assert "queue" not in offered(inn, "stop", "")
    assert offered(inn, "stop", "d") == [name for name in offered(inn, "stop", "") if name.startswith("d")]


def test_several_guests_and_the_values_of_options_are_told_apart(inn: Inn) -> None:
    assert "db" in offered(inn, "stop", "-t", "5", "web-1", "")
    assert offered(inn, "stop", "-t", "") == []
    assert offered(inn, "ps", "--kind", "") == ["container", "vm"]
    assert "simulated" in offered(inn, "ps", "--backend", "")


def test_acts_below_a_verb_and_images_are_offered(inn: Inn) -> None:
    assert offered(inn, "snapshot", "") == ["create", "restore", "rm", "ls", "diff"]
    assert "db" in offered(inn, "snapshot", "create", "")
    assert "nginx:latest" in offered(inn, "run", "-d", "")
    assert "nginx:latest" in offered(inn, "image", "rm", "")


def test_hostile_names_are_never_offered(inn: Inn) -> None:
    names = offered(inn, "--option", "simulated.names=hostile", "--option", "simulated.guests=12", "inspect", "")

    assert names
    assert all(name.isascii() and name.isprintable() and " " not in name for name in names)


def test_nonsense_offers_nothing(inn: Inn) -> None:
    assert offered(inn, "nosuch", "") == []


def run_shell(command: Sequence[str], tmp_path: Path) -> str:
    """Run a shell that finds `inn` on its PATH; what it says on stderr is an error."""
    program = tmp_path / "bin" / "inn"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I {ROOT}/innkeeper.py "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "INNKEEPER_ROOT": str(tmp_path / "root"),
        "INNKEEPER_BACKENDS": "simulated",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=15, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash_completes(tmp_path: Path) -> None:
    script = (
        'eval "$(inn completion bash)"; complete -p inn; '
        "COMP_WORDS=(inn pause we); COMP_CWORD=2; _inn; printf '%s\\n' \"${COMPREPLY[@]}\"; "
        "COMP_WORDS=(inn snap); COMP_CWORD=1; _inn; printf '%s\\n' \"${COMPREPLY[@]}\""
    )

    lines = run_shell(["bash", "--norc", "-uec", script], tmp_path).splitlines()

    assert lines[0] == "complete -F _inn inn"
    assert {"web-1", "web-2", "snapshot"} <= set(lines)
    assert "db" not in lines


@needs("zsh")
def test_zsh_completes(tmp_path: Path) -> None:
    script = (
        "autoload -Uz compinit && compinit -D -u; "
        'eval "$(inn completion zsh)"; print $_comps[inn]; '
        "_describe() { print -l -- $described }; words=(inn pause we); CURRENT=3; _inn"
    )

    lines = run_shell(["zsh", "-fc", script], tmp_path).splitlines()

    assert lines[0] == "_inn"
    assert "web-1:container, running" in lines


@needs("fish")
def test_fish_completes(tmp_path: Path) -> None:
    script = "inn completion fish | source; complete -C 'inn pause we'"

    lines = run_shell(["fish", "--no-config", "-c", script], tmp_path).splitlines()

    assert "web-1\tcontainer, running" in lines


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(inn: Inn, shell: str) -> None:
    done = inn("completion", shell)

    assert (done.code, done.err) == (0, "")
    assert "inn __complete" in done.out
