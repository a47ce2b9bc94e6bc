"""What may import what, beyond the contracts that import-linter holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_TYPES = "model metrics events trace errors base container sessions registry quick_json image network assets benchmark"
TYPES = {f"backends.{name}" for name in (*_TYPES.split(), "volume")}

HEAVY = ("textual", "rich", "pyroute2", "psutil", "libvirt", "asyncio", "widgets", "app.tui")
"""What a plain command must not load: each costs between 50 and 400 ms."""


def imported_by(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield f"{node.module}"


@pytest.mark.parametrize("module", sorted(TYPES))
def test_the_shared_types_import_only_the_standard_library_and_each_other(module: str) -> None:
    path = ROOT / (module.replace(".", "/") + ".py")

    strangers = {
        name
        for name in imported_by(path)
        if name.partition(".")[0] not in sys.stdlib_module_names and name not in TYPES
    }

    assert strangers == set()


@pytest.mark.parametrize("path", sorted((ROOT / "app" / "bootstrap").glob("*.py")), ids=lambda path: path.name)
def test_set_up_imports_only_the_standard_library(path: Path) -> None:
    strangers = {
        name
        for name in imported_by(path)
        if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith("app.bootstrap")
    }

    assert strangers == set()


def loaded_by(*arguments: str, root: Path) -> set[str]:
    """Run a command and return the modules that it has loaded at its end."""
    code = (
        "import sys, atexit\n"
        "atexit.register(lambda: sys.stderr.write('\\nLOADED ' + ' '.join(sys.modules)))\n"
        f"sys.argv = ['inn', '--root', {str(root)!r}, *{arguments!r}]\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import innkeeper\n"
        "sys.exit(innkeeper.main())\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=15)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("LOADED ")[2].split())


@pytest.mark.parametrize(
    "arguments", [("--version",), ("--help",), ("--backend", "native", "ps")], ids=lambda words: " ".join(words)
)
def test_a_plain_command_loads_no_screen_and_no_client_library(arguments: tuple[str, ...], tmp_path: Path) -> None:
    loaded = loaded_by(*arguments, root=tmp_path)

    assert "app.cli.main" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_no_file_grows_beyond_one_noun() -> None:
    """450 lines hold one noun with room to spare; a longer file wants to be two."""
    sources = [path for folder in ("app", "widgets", "backends") for path in (ROOT / folder).rglob("*.py")]

    long = {str(path.relative_to(ROOT)) for path in sources if len(path.read_text().splitlines()) > 450}

    assert long == set()
