"""A container that is thought of in a form, and the command line that means the same."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.running import run_verb_arguments, spec_of
from app.core.draft import Draft, ImageDefaults
from app.core.run_line import run_line
from backends.container import ContainerSpec
from backends.errors import UsageError

WHOLE = {
    "image": "nginx:latest", "name": "web", "command": "sh -c 'echo \"two words\"; sleep 1'", "cpus": "0.5",
    "memory": "256M", "pids": "100", "ports": "8080:80 127.0.0.1:53:53/udp", "volumes": "/srv/web:/data:ro",
    "env": "A=b 'C=d e'", "network": "host", "restart": "on-failure:3",
}  # fmt: skip


def parsed(line: str) -> ContainerSpec:
    """What the command line understands."""
    parser = argparse.ArgumentParser()
    run_verb_arguments(parser)
    words = shlex.split(line)
    assert words[:2] == ["inn", "run"]
    return spec_of(parser.parse_args(words[2:]))


def test_the_command_line_means_the_same_container() -> None:
    draft = Draft(WHOLE, frozenset({"init", "stdin"}))

    assert parsed(run_line(draft.spec())) == draft.spec()


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and not text.startswith("-")), st.text(max_size=20))
def test_no_text_escapes_its_word(word: str, value: str) -> None:
    draft = Draft({"image": "x", "command": shlex.join(["run", word]), "env": shlex.quote(f"A={value}")})

    spec = parsed(run_line(draft.spec()))

    assert spec.args == ("run", word)
    assert spec.env == (f"A={value}",)


@pytest.mark.parametrize(
    "field, text, told",
    [
        ("image", "", "needed"), ("cpus", "x", "no number"), ("memory", "much", "no size"), ("ports", "8;8", "no port"),
        ("ports", "8080:web", "no port"), ("volumes", "only", "no volume"), ("env", "=x", "no name"),
        ("restart", "sometimes", "no restart policy"), ("command", "'open", "partner"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_in_one_line_at_its_field(field: str, text: str, told: str) -> None:
    draft = Draft({"image": "x"}).written(field, text)

    problems = draft.problems()

    assert list(problems) == [field]
    assert told in problems[field]
    assert "\n" not in problems[field]
    with pytest.raises(UsageError):
        draft.spec()


def test_removing_itself_and_starting_again_do_not_go_together() -> None:
    assert "restart" in Draft({"image": "x", "restart": "always"}, frozenset({"remove"})).problems()


def test_the_image_fills_in_what_was_left_alone_and_is_not_repeated() -> None:
    config = {"Env": ["PATH=/bin", "LANG=C"], "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Volumes": {"/data": {}}}
    draft = Draft({"image": "x"}).written("ports", "1:2").filled(ImageDefaults.of(config))

    assert (draft.text("ports"), draft.text("volumes"), draft.text("env")) == ("1:2", "/data", "LANG=C")
    assert replace(draft.spec(), publish=()) == ContainerSpec("x")
    assert Draft({"image": "x"}).filled(ImageDefaults.of(config)).text("ports") == "8080:80 8053:53/udp"


@pytest.mark.parametrize("config", [{}, {"Env": None}, {"Env": 3, "Volumes": "x", "ExposedPorts": ["what"]}])
def test_a_configuration_of_any_shape_is_taken(config: dict[str, object]) -> None:
    Draft({"image": "x"}).filled(ImageDefaults.of(config)).spec()
