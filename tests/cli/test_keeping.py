"""Snapshots, images, logs, traces, the doctor and the sweeper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.cli.main import main
from app.cli.snapshots import tree_rows
from backends.model import Snapshot
from tests.cli.conftest import Inn


def test_a_snapshot_without_a_name_is_named_after_the_time(inn: Inn) -> None:
    name = inn("snapshot", "create", "db").out.strip()

    assert len(name) == len("2026-01-31-150405")


def test_a_guest_without_snapshots_lists_none(inn: Inn) -> None:
    assert inn("snapshot", "ls", "--json", "db").json == []
    assert "has no snapshots" in inn("snapshot", "ls", "db").err


@pytest.mark.parametrize("act", ["restore", "rm"])
def test_a_snapshot_that_is_not_there_is_said(inn: Inn, act: str) -> None:
    done = inn("snapshot", act, "db", "nosuch")

    assert (done.code, done.out) == (1, "")
    assert "nosuch" in done.err


def test_snapshots_are_a_tree_in_the_order_of_descent() -> None:
    found = [
        Snapshot("clean", 0.0),
        Snapshot("other", 0.0),
        Snapshot("tools", 0.0, parent="clean"),
        Snapshot("db", 0.0, parent="tools", is_current=True),
        Snapshot("orphan", 0.0, parent="gone"),
    ]

    assert [row[0] for row in tree_rows(found)] == ["clean", "└─ tools", "   └─ db *", "other", "orphan"]


def test_images_have_a_table_and_json(inn: Inn) -> None:
    images = inn("image", "ls", "--json").json

    assert {"name", "id", "created", "size_bytes", "layers", "note"} <= set(images[0])
    assert [line.split()[0] for line in inn("image", "ls").out.splitlines()[1:]] == [image["name"] for image in images]


def test_an_image_is_imported_from_a_folder_and_from_stdin(inn: Inn, tmp_path: Path) -> None:
    import io
    import tarfile

    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("etc"), None)
    folder = tmp_path / "rootfs"
    (folder / "bin").mkdir(parents=True)

    assert inn("image", "import", str(folder), "mine").out == "mine:latest\n"
    assert inn("image", "import", "-", "piped", stdin=stream.getvalue()).out == "piped:latest\n"
    assert inn("image", "import", str(tmp_path / "nosuch"), "mine").code == 1


def test_removing_images_tries_each(inn: Inn) -> None:
    done = inn("image", "rm", "nosuch", "base")

    assert done.code == 1
    assert done.out == "base\n"


def test_logs_have_times_tails_and_json(inn: Inn) -> None:
    whole = inn("logs", "db").out
    lines = inn("logs", "--json", "db").json_lines

    assert whole.splitlines() == [line["text"].rstrip("\n") for line in lines]
    stamped = inn("logs", "-t", "-n", "1", "db").out.splitlines()
    assert len(stamped) == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z .*", stamped[0])
    assert inn("logs", "--tail", "x", "db").code == 2


def test_the_doctor_answers_in_json_with_every_key(inn: Inn) -> None:
    results = inn("doctor", "--json").json

    assert all(set(result) == {"area", "name", "ok", "found", "why", "mend"} for result in results)
    assert {"kernel", "cgroup", "simulated"} <= {result["area"] for result in results}


def test_cleaning_says_what_it_removed(inn: Inn) -> None:
    assert inn("clean", "--json").json == []
    assert inn("clean").err == "inn: nothing to clean\n"


def test_cleaning_goes_on_without_a_backend_that_is_off(inn: Inn) -> None:
    done = inn("clean", "--backend", "libvirt", "--libvirt-uri", "nosuch:///driver")

    assert done.code == 0
    assert "not shown" in done.err


def test_a_demo_that_no_backend_can_give_is_said(inn: Inn) -> None:
    done = inn("demo")

    assert done.code == 1
    assert "simulated" in done.err


def test_commands_of_one_process_see_each_others_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In process, quick: a trace is written for what was done."""
    assert main(["--root", str(tmp_path), "--backend", "simulated", "trace", "--json", "db"]) == 0
    assert capsys.readouterr().err == ""


def test_a_clone_says_its_name_and_can_be_given_one(inn: Inn) -> None:
    assert re.fullmatch(r"db-\d+\n", inn("clone", "db").out)
    assert inn("clone", "db", "mine").out == "mine\n"
    done = inn("clone", "--snapshot", "nosuch", "db")
    assert (done.code, done.out) == (1, "")
    assert "nosuch" in done.err


def test_templates_are_kept_and_those_that_are_not_there_said(inn: Inn) -> None:
    assert inn("template", "ls", "--json").json == []
    assert "inn template create" in inn("template", "ls").err
    assert inn("template", "create", "db", "base").out == "base\n"
    for act in ("use", "rm"):
        done = inn("template", act, "nosuch")
        assert (done.code, done.out) == (1, "")
        assert "nosuch" in done.err


def test_a_comparison_with_a_snapshot_that_is_not_there_is_said(inn: Inn) -> None:
    done = inn("snapshot", "diff", "db", "nosuch")
    assert (done.code, done.out) == (1, "")
    assert "nosuch" in done.err
