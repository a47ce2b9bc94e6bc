"""`inn run` by way of app.cli.quick: it means what app.cli.running means, and leaves to it what it does not know."""

from __future__ import annotations

import select
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.cli import quick
from app.cli.parser import parser_of, split_at_verb
from app.cli.running import spec_of
from app.cli.verbs import VERBS
from backends.native import asked, protocol
from tests.tools.needs import needs

ROOT = Path(__file__).parents[2]

KNOWN = [
    "run bb",
    "run --rm bb true",
    "run -d --name web bb sleep 10",
    "run --rm -e A=1 --env=B=2 -w /tmp -u 1000:1000 --hostname h bb sh -c exit",
    "run --network none bb -- ls -l",
    "run --network=bridge -p 8080:80 --publish 127.0.0.1:53:53/udp bb",
    "--root /tmp/x run --rm bb true --rm -d",
    "run --network web bb true",
]
LEFT = ["ps", "run", "run --rm", "run -it bb", "run --memory 1G bb", "run -v /a:/b bb", "run --network host bb",
        "run --network a --network b bb", "run --network container:a bb", "run --network name=a,ip=10.0.0.2 bb",
        "start run bb", "run -e", "--backend native run bb", "run --rm=1 bb", "run --help"]  # fmt: skip


@pytest.mark.parametrize("line", KNOWN)
def test_what_it_knows_means_the_same_as_in_the_long_way(line: str) -> None:
    found = quick.parse(line.split())
    assert found is not None
    before, rest = split_at_verb(line.split())
    args = parser_of(VERBS["run"]).parse_args([*before, *rest[1:]])
    assert (found.pop("detach", False), found.pop("root", None)) == (args.detach, args.root)
    assert asked.from_json(found) == spec_of(args)


@pytest.mark.parametrize("line", LEFT)
def test_what_it_does_not_know_is_left_to_the_long_way(line: str) -> None:
    assert quick.parse(line.split()) is None


def test_a_variable_without_a_value_is_ours_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "x y")
    monkeypatch.delenv("GONE", raising=False)
    found = quick.parse(["run", "-e", "HERE", "-e", "GONE", "bb"])
    assert found is not None
    assert found["env"] == ["HERE=x y"]


@needs("root")
def test_a_spawner_that_ends_with_the_request_unread_leaves_it_to_the_long_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("INNKEEPER_BACKENDS", raising=False)
    (tmp_path / "run").mkdir()
    listener = protocol.listen(tmp_path / "run" / "spawner")

    def end() -> None:
        select.select([listener], [], [])
        listener.close()

    ending = threading.Thread(target=end)
    ending.start()
    assert quick.attempt(["--root", str(tmp_path), "run", "--rm", "host", "true"]) is None
    ending.join()


def test_nothing_that_takes_long_is_loaded_for_it() -> None:
    heavy = "{'argparse', 'json', 're', 'socket', 'pathlib', 'dataclasses', 'enum', 'ctypes', 'subprocess'}"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import app.cli.quick; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
