"""Where state lives and what the user chose."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.paths import paths_for
from app.core.settings import settings_for
from backends.errors import UsageError


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROOT", "BACKENDS", "LIBVIRT_URI", "INTERVAL"):
        monkeypatch.delenv(f"INNKEEPER_{name}", raising=False)


def test_a_root_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INNKEEPER_ROOT", "/elsewhere")

    given, named = paths_for(tmp_path), paths_for()

    assert (given.state_dir, given.run_dir, given.is_default) == (tmp_path, tmp_path / "run", False)
    assert named.state_dir == Path("/elsewhere")


def test_root_has_the_system_folders_and_a_user_his_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert paths_for().state_dir == Path("/var/lib/innkeeper")
    assert paths_for().run_dir == Path("/run/innkeeper")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/home/u/data")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    assert paths_for().state_dir == Path("/home/u/data/innkeeper")
    assert paths_for().run_dir == Path("/run/user/1000/innkeeper")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert paths_for().run_dir == Path("/home/u/data/innkeeper/run")
    assert paths_for().is_default


def test_a_relative_root_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert paths_for(Path("state")).state_dir == tmp_path / "state"


def test_the_environment_chooses_backends_and_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INNKEEPER_BACKENDS", "simulated, native,simulated")
    monkeypatch.setenv("INNKEEPER_INTERVAL", "500ms")
    monkeypatch.setenv("INNKEEPER_LIBVIRT_URI", "test:///default")

    settings = settings_for()

    assert settings.backends == ("simulated", "native")
    assert settings.interval_s == 0.5
    assert settings.options_for("libvirt") == {"uri": "test:///default"}
    assert settings.options_for("native") == {}
    assert settings_for(backends=["native"], interval_s=2).backends == ("native",)


def test_an_unknown_backend_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no backend 'docker'") as caught:
        settings_for(backends=["docker"])

    assert "native" in caught.value.hint


def test_a_user_without_a_home_folder_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "INNKEEPER_ROOT", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    monkeypatch.setattr("pwd.getpwuid", nobody)

    with pytest.raises(UsageError, match="no home folder") as caught:
        paths_for()

    assert "--root DIR" in caught.value.hint


def test_a_folder_below_one_that_is_gone_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(UsageError, match="the current folder is gone"):
        paths_for(Path("state"))
