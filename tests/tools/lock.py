"""Write the lock files anew: `.venv/bin/python tests/tools/lock.py [--upgrade]`.

Without --upgrade only what pyproject.toml now asks differently changes. The first line of a lock is
a digest of the rest, so that `inn` can tell with one line read whether its environment is current.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MARK = "# digest: "
NOTE = "# Made by tests/tools/lock.py from pyproject.toml; do not edit.\n"


def wanted(project: dict[str, Any]) -> dict[str, list[str]]:
    """Return what each lock file holds, as requirements."""
    runtime: list[str] = project["project"]["dependencies"]
    libvirt: list[str] = project["project"]["optional-dependencies"]["libvirt"]
    return {
        "requirements.lock": runtime,
        "requirements-test.lock": runtime + project["dependency-groups"]["test"],
        # It has no wheels; its build needs setuptools, which newer virtual environments lack.
        "requirements-libvirt.lock": [*libvirt, "setuptools>=68"],
    }


def digest_of(body: str) -> str:
    """Return the digest that stands in a lock's first line."""
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def split(text: str) -> tuple[str, str]:
    """Return the digest that a lock states, and the body it should be of."""
    first, _, body = text.partition("\n")
    return first.removeprefix(MARK), body


def compile_lock(python: Path, requirements: list[str], lock: Path, pins: Path, upgrade: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "requirements.in")
        source.write_text("\n".join([*requirements, f"-c {pins}"] if pins.exists() else requirements) + "\n")
        made = Path(folder, "made.lock")
        if lock.exists() and not upgrade:
            made.write_text(lock.read_text())
        command = [str(python), "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--allow-unsafe"]
        command += ["--strip-extras", "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--no-emit-trusted-host", "--no-emit-options", "--output-file", str(made), str(source)]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        body = NOTE + "\n".join(made.read_text().strip().splitlines()) + "\n"
    lock.write_text(f"{MARK}{digest_of(body)}\n{body}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows")
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder, "bin", "python")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "pip-tools"], check=True)
        # The run time's versions bind the tests', so that both can live in one environment.
        pins = Path(folder, "pins.txt")
        for name, requirements in wanted(project).items():
            compile_lock(python, requirements, ROOT / name, pins, options.upgrade)
            if name == "requirements.lock":
                lines = (ROOT / name).read_text().splitlines()
                pins.write_text("\n".join(line.split()[0] for line in lines if "==" in line and line[0] != "#") + "\n")
            sys.stderr.write(f"{name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
