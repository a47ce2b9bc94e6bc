"""The lock files: whole, honest about their digest, and in step with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.tools.lock import ROOT, digest_of, split, wanted

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = wanted(PROJECT)


def pinned(lock: Path) -> dict[str, str]:
    """Return the name → version of a lock."""
    lines = (line for line in lock.read_text().splitlines() if "==" in line)
    return dict(line.split()[0].split("==") for line in lines)


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_the_first_line_of_a_lock_is_the_digest_of_the_rest(name: str) -> None:
    stated, body = split((ROOT / name).read_text())

    assert stated == digest_of(body)


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_a_lock_pins_all_that_the_project_asks_for(name: str) -> None:
    asked = {re.split(r"[<>=!~\[ ]", requirement)[0].lower() for requirement in LOCKS[name]}

    assert asked <= pinned(ROOT / name).keys()


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_every_pin_has_a_hash_and_no_lock_names_a_server(name: str) -> None:
    text = (ROOT / name).read_text()

    assert all(
        f"{package}=={version} \\\n    --hash=sha256:" in text for package, version in pinned(ROOT / name).items()
    )
    assert "://" not in text


def test_the_tests_run_with_the_versions_that_users_get() -> None:
    assert pinned(ROOT / "requirements.lock").items() <= pinned(ROOT / "requirements-test.lock").items()
