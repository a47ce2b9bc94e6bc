"""Set-up of a checkout: what it takes for done, what it makes anew, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.bootstrap import debian, environment
from app.bootstrap.environment import Environment
from app.bootstrap.talk import SetUpFailed
from app.bootstrap.vms import part_of

pytestmark = pytest.mark.timeout(90)  # making an environment takes some seconds

ROOT = Path(__file__).resolve().parents[2]
LOCK = "requirements.lock"
NOTHING = "# digest: 1111222233334444\n# nothing\n"
"""A lock of no packages, so that nothing is fetched."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout."""
    return a_checkout(tmp_path)


def a_checkout(folder: Path) -> Path:
    """Make a checkout in a folder."""
    root = folder / "a checkout"
    root.mkdir()
    (root / LOCK).write_text(NOTHING)
    return root


@pytest.fixture
def venv(checkout: Path) -> Environment:
    """Its environment, not made yet."""
    return Environment(checkout / ".venv", checkout)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """One for all tests of a set-up that is not the first."""
    root = a_checkout(tmp_path_factory.mktemp("lasting"))
    return Environment(root / ".venv", root)


@pytest.fixture
def made(lasting: Environment, capsys: pytest.CaptureFixture[str]) -> Environment:
    """An environment that is made, and whole."""
    (lasting.folder.parent / LOCK).write_text(NOTHING)
    lasting.ensure(LOCK)
    said(capsys)
    return lasting


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what set-up said since the last call."""
    return capsys.readouterr().err.splitlines()


def test_the_first_set_up_makes_an_environment_and_says_so(
    venv: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    venv.ensure(LOCK)

    assert venv.holds(LOCK)
    assert [line.split()[1] for line in said(capsys)] == ["making", "installing"]


def test_a_second_set_up_does_nothing(made: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    made.ensure(LOCK)

    assert said(capsys) == []


def test_a_changed_lock_is_installed_into_the_environment_that_is_there(
    made: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    (made.folder.parent / LOCK).write_text("# digest: 5555666677778888\n# nothing\n")

    made.ensure(LOCK)

    assert [line.split()[1] for line in said(capsys)] == ["installing"]


def _killed_while_made(venv: Environment) -> None:
    (venv.folder / "innkeeper-made").unlink()


def _killed_while_installing(venv: Environment) -> None:
    (venv.folder / environment.BUSY).touch()


def _python_replaced(venv: Environment) -> None:
    venv.python.unlink()
    venv.python.symlink_to("/usr/bin/python3.0")


@pytest.mark.parametrize("happened", [_killed_while_made, _killed_while_installing, _python_replaced])
def test_an_environment_that_is_not_whole_is_made_anew(
    made: Environment, happened: Callable[[Environment], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (made.folder / f"{LOCK}.stamp").unlink()
    happened(made)

    made.ensure(LOCK)

    assert made.holds(LOCK)
    assert said(capsys)[0].startswith("inn: making a virtual environment")


def test_a_folder_that_somebody_else_filled_is_left_alone(venv: Environment) -> None:
    venv.folder.mkdir()
    (venv.folder / "theirs").write_text("dear")

    with pytest.raises(SetUpFailed, match="was not made by inn"):
        venv.ensure(LOCK)

    assert [entry.name for entry in venv.folder.iterdir()] == ["theirs"]


def test_two_set_ups_at_once_make_one_environment(venv: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    threads = [threading.Thread(target=venv.ensure, args=(LOCK,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert venv.holds(LOCK)
    assert sum("making" in line for line in said(capsys)) == 1


def test_what_pip_cannot_install_fails_in_its_own_words(made: Environment) -> None:
    (made.folder.parent / LOCK).write_text("# digest: 9999000099990000\n./no/such/thing.whl --hash=sha256:00\n")

    with pytest.raises(SetUpFailed, match="pip failed"):
        made.ensure(LOCK)

    assert not made.holds(LOCK)


def test_the_build_tool_is_taken_out_of_the_lock_with_its_hashes() -> None:
    part = part_of((ROOT / "requirements-libvirt.lock").read_text(), "setuptools")

    assert part.startswith("setuptools==")
    assert "--hash=sha256:" in part
    assert "libvirt" not in part


@pytest.mark.skipif(not debian.is_debian(), reason="not Debian or Ubuntu")
def test_a_package_that_no_release_has_counts_as_missing() -> None:
    assert debian.missing(("dpkg", "no-such-package-of-ours")) == ["no-such-package-of-ours"]


@pytest.mark.skipif(not debian.is_debian(), reason="not Debian or Ubuntu")
def test_without_root_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(SetUpFailed, match="as root: apt-get install no-such-package-of-ours"):
        debian.install(("no-such-package-of-ours",), "nothing")


def test_inn_starts_through_a_symbolic_link_from_another_folder(tmp_path: Path) -> None:
    link = tmp_path / "inn"
    link.symlink_to(ROOT / "inn")

    done = subprocess.run([str(link), "--version"], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("inn ")
