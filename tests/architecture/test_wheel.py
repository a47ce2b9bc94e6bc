"""The wheel: what it puts into site-packages, and that it runs beside a package called `app`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this checkout, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-I", "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel unpacked as an installer does it, beside another distribution's package `app`."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    (folder / "app").mkdir()
    (folder / "app" / "__init__.py").write_text("raise ImportError('this app is not ours')\n")
    return folder


def test_the_wheel_brings_one_module_and_one_package_and_nothing_generic(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()

    top = {name.partition("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"innkeeper.py", "innkeeper_lib"}
    packages = {name.split("/")[1] for name in names if name.startswith("innkeeper_lib/")}
    assert packages == {"app", "widgets", "backends"}


def test_the_wheel_has_every_file_of_the_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("innkeeper_lib/") for name in archive.namelist()}

    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "app", "widgets", "backends"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert [name for name in listed if name not in packed and (ROOT / name).exists()] == []


def test_both_commands_and_the_entry_point_group_are_declared(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        text = archive.read(entry_points).decode()

    assert "inn = innkeeper:main" in text
    assert "innkeeper = innkeeper:main" in text


def test_the_wheel_runs_beside_another_package_called_app(site: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(site)!r}); sys.argv = ['inn', '--version']; import innkeeper; "
    done = subprocess.run(
        [sys.executable, "-I", "-c", code + "sys.exit(innkeeper.main())"], capture_output=True, text=True, cwd=site
    )

    assert done.returncode == 0, done.stderr
    assert "0." in done.stdout
    assert done.stderr == ""
