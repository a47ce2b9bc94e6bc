"""Modes in words mean for --chmod what they mean for the chmod(1) of this machine."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from backends.native.build.modes import changed, is_mode

WORDS = (
    "u=rwX,go=rX", "a+x", "+x", "-w", "go=", "g=u", "o=g-w", "u+s,g+s", "+t", "o+t", "a=t", "=", "u=rw,+X",
    "uo+rx-w,g=o", "a=rwxst", "u-s",
)  # fmt: skip


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("before", [0o640, 0o7751, 0])
def test_words_do_what_chmod_does(tmp_path: Path, text: str, before: int) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    assert is_mode(text)
    for path in (file, folder):
        path.chmod(before)
        subprocess.run(["/bin/sh", "-c", 'umask 0; exec chmod -- "$0" "$1"', text, path], check=True)
        wanted = stat.S_IMODE(os.stat(path).st_mode)
        path.chmod(0o700)
        assert oct(changed(text, before, is_folder=path is folder)) == oct(wanted)


def test_digits_are_the_mode_itself() -> None:
    assert is_mode("0755")
    assert changed("4711", 0o600, is_folder=False) == 0o4711


@pytest.mark.parametrize("text", ["", "u", "x", "u+q", "8", "u=rw,", ",", "u=rgo", "77777777", "u=rw;x", "u+x\n"])
def test_what_is_no_mode_is_told(text: str) -> None:
    assert not is_mode(text)
