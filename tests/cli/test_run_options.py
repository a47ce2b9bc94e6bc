"""What `inn run` and `inn exec` take, from the words on the command line to what a backend is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.cli.parser import parser_of
from app.cli.running import spec_of
from app.cli.verbs import VERBS
from backends.container import ContainerSpec, HealthCheck, LogLimits, RestartPolicy, Secret
from tests.cli.conftest import Inn


def asked(*options: str) -> ContainerSpec:
    return spec_of(parser_of(VERBS["run"]).parse_args([*options, "busybox", "sh", "--flag"]))


def test_what_is_not_said_stays_as_it_is_by_default() -> None:
    assert asked() == ContainerSpec("busybox", ("sh", "--flag"))


def test_each_option_reaches_the_spec() -> None:
    found = asked(
        "--privileged", "--cap-add", "NET_ADMIN", "--cap-add=SYS_TIME", "--cap-drop", "ALL", "--security-opt",
        "seccomp=unconfined", "--device", "/dev/fuse", "--device-cgroup-rule", "c 1:3 r", "--ulimit", "nofile=9:99",
        "--sysctl", "net.core.somaxconn=9", "--group-add", "audio", "--oom-score-adj", "-5", "--userns", "auto",
        "--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host", "--tmpfs", "/run:exec",
        "--shm-size", "1M", "--init", "--add-host", "a:1.2.3.4", "--dns", "9.9.9.9", "--stop-timeout", "1m30s",
        "--driver", "crun", "--annotation", "a=b=c", "--read-only", "--network", "none", "-p", "80:80",
        "--mount", "type=tmpfs,target=/x", "--entrypoint", "/bin/echo", "--stop-signal", "SIGINT",
    )  # fmt: skip
    assert found == ContainerSpec(
        "busybox", ("sh", "--flag"), privileged=True, cap_add=("NET_ADMIN", "SYS_TIME"), cap_drop=("ALL",),
        security_opts=("seccomp=unconfined",), devices=("/dev/fuse",), device_rules=("c 1:3 r",),
        ulimits=("nofile=9:99",), sysctls=("net.core.somaxconn=9",), groups=("audio",), oom_score_adj=-5, userns="auto",
        pid_mode="host", ipc_mode="host", uts_mode="host", cgroupns_mode="host", tmpfs=("/run:exec",),
        shm_bytes=1 << 20, init=True, hosts=("a:1.2.3.4",), dns=("9.9.9.9",), stop_timeout_s=90.0, driver="crun",
        annotations={"a": "b=c"}, read_only=True, network="none", publish=("80:80",), mounts=("type=tmpfs,target=/x",),
        entrypoint=("/bin/echo",), stop_signal="SIGINT",
    )  # fmt: skip


def test_restarts_health_and_log_are_said_as_docker_says_them() -> None:
    found = asked(
        "--restart", "on-failure:3", "--health-cmd", "test -e /ok", "--health-interval", "500ms", "--health-timeout",
        "2s", "--health-start-period", "1m", "--health-retries", "5", "--log-opt", "max-size=1m", "--log-opt",
        "max-file=2",
    )  # fmt: skip
    assert found.restart == RestartPolicy("on-failure", 3)
    assert found.health == HealthCheck(("/bin/sh", "-c", "test -e /ok"), 0.5, 2.0, 60.0, 5)
    assert found.log == LogLimits(1 << 20, 2)
    assert asked("--no-healthcheck").health == HealthCheck(())


def test_a_secret_names_its_source_and_never_holds_it(tmp_path: Path) -> None:
    found = asked("--secret", "id=key,src=./key", "--secret", "id=token,env=TOKEN,mode=0440,uid=7,gid=8").secrets
    assert found == (
        Secret("key", f"file:{Path.cwd()}/key"),
        Secret("token", "env:TOKEN", 0o440, 7, 8),
    )


def test_variables_come_from_files_first_and_from_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    file = tmp_path / "env"
    file.write_text('# comment\n\n  A=1\nOURS\nMISSING_HERE\nQUOTED="x y"\n')
    assert asked("--env-file", str(file), "-e", "A=2").env == ("A=1", "OURS=1", 'QUOTED="x y"', "A=2")


def test_an_entry_point_may_be_nothing_one_word_or_several() -> None:
    assert asked("--entrypoint", "").entrypoint == ()
    assert asked("--entrypoint", "a b").entrypoint == ("a b",)
    assert asked("--entrypoint", '["a", "b"]').entrypoint == ("a", "b")


def test_a_volume_may_be_given_from_where_we_are() -> None:
    assert asked("-v", "./x:/y:ro").volumes == (f"{os.getcwd()}/x:/y:ro",)


@pytest.mark.parametrize(
    "options",
    [
        ["--restart", "sometimes"],
        ["--restart", "always:3"],
        ["--restart", "on-failure:0"],
        ["--restart", "always", "--rm"],
        ["--health-interval", "5s"],
        ["--health-cmd", "x", "--health-interval", "soon"],
        ["--health-cmd", "x", "--health-retries", "0"],
        ["--no-healthcheck", "--health-cmd", "x"],
        ["--log-opt", "max-size"],
        ["--log-opt", "max-size=big"],
        ["--log-opt", "colour=red"],
        ["--secret", "key"],
        ["--secret", "id=a"],
        ["--secret", "id=a,src=x,env=y"],
        ["--secret", "id=a,src=x,mode=9"],
        ["--shm-size", "tiny"],
        ["--stop-timeout", "soon"],
        ["--stop-signal", "SIGNOT"],
        ["--entrypoint", "[1]"],
        ["--annotation", "=x"],
        ["--env-file", "/nonexistent"],
        ["--oom-score-adj", "low"],
        ["--pid", "container:x"],
        ["--userns", "maybe"],
        ["--driver", "docker"],
        ["--cidfile", "/nonexistent/file"],
        ["--nonsense"],
        ["--json"],
    ],
    ids=" ".join,
)
def test_nonsense_is_one_line_and_makes_nothing(inn: Inn, options: list[str]) -> None:
    before = inn("ps", "-q").out
    done = inn("run", "-d", *options, "base", "true")
    assert (done.code, done.out) == (125, "")
    assert done.err.count("\n") == 1
    assert done.err.startswith("inn: ")
    assert inn("ps", "-q").out == before


def test_without_an_image_only_the_image_is_missing(inn: Inn) -> None:
    done = inn("run", "-d")
    assert (done.code, done.err) == (125, "inn: run: the following arguments are required: IMAGE. See inn run --help\n")


def test_the_id_goes_to_a_new_file_and_only_when_something_was_made(inn: Inn, tmp_path: Path) -> None:
    path = tmp_path / "id"
    assert inn("create", "--pull", "never", "--cidfile", str(path), "nosuch-image", "true").code == 1
    assert not path.exists()
    done = inn("create", "--cidfile", str(path), "base", "true")
    assert path.read_text() == done.out.strip()
    again = inn("create", "--cidfile", str(path), "base", "true")
    assert again.code == 2
    assert "exists" in again.err


def test_the_help_is_grouped_and_fits_a_narrow_terminal(inn: Inn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for verb in ("run", "create", "exec"):
        text = inn(verb, "--help").out
        assert max(len(line) for line in text.splitlines()) < 80
    headings = ("the program:", "what it finds inside:", "network and names:", "what it may do:", "how it lives:")
    assert [line for line in inn("run", "--help").out.splitlines() if line in headings] == list(headings)


@pytest.mark.parametrize(
    "words, offered",
    [
        (["run", "--cap-a"], "--cap-add"),
        (["run", "--cap-add", "NET_A"], "NET_ADMIN"),
        (["run", "--security-opt", "sec"], "seccomp=unconfined"),
        (["run", "--network", ""], "host"),
        (["run", "--restart", "on"], "on-failure"),
        (["create", "--pid", "h"], "host"),
        (["exec", "--pri"], "--privileged"),
    ],
)
def test_options_and_their_values_are_completed(inn: Inn, words: list[str], offered: str) -> None:
    lines = inn("__complete", "--", *words).out.splitlines()
    assert offered in [line.partition("\t")[0] for line in lines]


def test_exec_in_the_background_takes_no_terminal(inn: Inn) -> None:
    done = inn("exec", "-d", "-t", "x", "true")
    assert done.code == 125
    assert "--detach" in done.err
