"""What `inn doctor` says of containers of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.native import check
from backends.native.drivers import command


def test_each_thing_that_does_not_work_says_why(tmp_path: Path) -> None:
    found = check.check(tmp_path / "state")
    assert {"seccomp filters", "AppArmor", "idmapped mounts", "subordinate ids", "driver runc", "driver crun"} <= {
        result.name for result in found
    }
    assert [result.name for result in found if result.ok is not True and not result.why] == []


def test_a_runtime_that_is_missing_is_a_note_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_PATH", str(tmp_path))
    [runc] = [result for result in check.check(tmp_path) if result.name == "driver runc"]
    assert (runc.ok, runc.found, runc.mend) == (None, "not installed", "apt install runc")
