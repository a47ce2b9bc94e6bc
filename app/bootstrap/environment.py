"""The virtual environment of a checkout, made from a lock file and checked by a stamp."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.bootstrap.talk import SetUpFailed, say

MARKER = "innkeeper-venv"
"""Stands in the folder from the first moment: it is ours and may be made anew."""

GUARD = "innkeeper-lock"
"""Locked while a set-up is at work."""

BUSY = "innkeeper-busy"
"""Stands there while packages are installed; after a failure or a kill it tells that they may be there in part."""


def digest_of(lock: Path) -> str:
    """Return the digest in a lock file's first line."""
    with lock.open(encoding="utf-8") as lines:
        return lines.readline().rpartition(" ")[2].strip()


class Environment:
    """A virtual environment whose stamps say which lock files it holds."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        self.root = root

    @property
    def python(self) -> Path:
        """The interpreter in it."""
        return self.folder / "bin" / "python"

    def holds(self, name: str) -> bool:
        """Whether the lock file of that name is installed as it is now."""
        stamp = self._stamp(name)
        return os.access(self.python, os.X_OK) and stamp.exists() and stamp.read_text() == self._wanted(name)

    def ensure(self, name: str) -> None:
        """Install what a lock file names, unless that is done already. Raises SetUpFailed."""
        if self.holds(name):
            return
        self._claim()
        with self.alone():
            if self.holds(name):
                return
            if not self._is_sound():
                self._make()
            self._install(name)

    def stamp(self, name: str, *, as_name: str = "") -> None:
        """Note that the lock file of that name is installed (or, under another name, what goes with it)."""
        part = self.folder / "stamp.part"
        part.write_text(self._wanted(name))
        part.replace(self._stamp(as_name or name))

    def pip(self, *arguments: str) -> None:
        """Run pip in the environment. Raises SetUpFailed with its last words."""
        command = [str(self.python), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        command += ["--quiet", "--progress-bar", "off", "--retries", "1", *arguments]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise SetUpFailed(f"pip failed: {_last_words(done.stderr)}")

    def _install(self, name: str) -> None:
        say(f"installing the packages of {name} into {self.folder}")
        self._busy.touch()
        self.pip("--no-deps", "--require-hashes", "--requirement", str(self.root / name))
        self.stamp(name)
        self._busy.unlink()

    def _make(self) -> None:
        base = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
        say(f"making a virtual environment in {self.folder} with {base}")
        for entry in self.folder.iterdir():
            if entry.name not in (MARKER, GUARD):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        command = [str(base), "-I", "-m", "venv", str(self.folder)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise SetUpFailed(f"cannot make {self.folder}: {_last_words(done.stdout + done.stderr)}")
        self._made.write_text(sys.version)

    def _is_sound(self) -> bool:
        """Whether it was made to its end, and its interpreter still runs (a new Python may have replaced it)."""
        if not self._made.exists() or self._busy.exists():
            return False
        try:
            command = [str(self.python), "-I", "-c", "import pip"]
            return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
        except OSError:
            return False

    def _claim(self) -> None:
        """Make the folder ours; one that somebody else filled is left alone."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            is_empty = not any(self.folder.iterdir())  # asked first: a second set-up may put its marker there now
            if not is_empty and not (self.folder / MARKER).exists():
                hint = "remove it, or name another in INNKEEPER_VENV"
                raise SetUpFailed(f"{self.folder} was not made by inn, so it is left alone; {hint}")
            (self.folder / MARKER).touch()
        except OSError as error:
            raise SetUpFailed(f"cannot write to {self.folder}: {error.strerror}") from error

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second set-up waiting until this one is through."""
        with (self.folder / GUARD).open("a") as guard:
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another set-up is at work in {self.folder}; waiting for it")
                fcntl.flock(guard, fcntl.LOCK_EX)
            yield

    @property
    def _made(self) -> Path:
        return self.folder / "innkeeper-made"

    @property
    def _busy(self) -> Path:
        return self.folder / BUSY

    def _stamp(self, name: str) -> Path:
        return self.folder / f"{name}.stamp"

    def _wanted(self, name: str) -> str:
        return digest_of(self.root / name) + "\n"


def _last_words(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("WARNING")]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("ERROR: ")
