"""What the command line takes and says: options, logs, help, files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.kernel import lsm
from tests.oci.life import is_refused, left_behind, running
from tests.tools.bundles import Bundle
from tests.tools.needs import needs

pytestmark = needs("root", "busybox")

_ALL = "checkpoint create delete events exec features kill list pause ps restore resume run spec start state update"
VERBS = _ALL.split()


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help(bundle: Bundle, verb: str) -> None:
    done = bundle.oci(verb, "--help")

    assert done.code == 0
    assert done.out.splitlines()[0] == "NAME:"
    assert f" {verb} - " in done.out


def test_the_overview_names_every_verb(bundle: Bundle) -> None:
    done = bundle.oci("--help")

    assert done.code == 0
    assert all(f"   {verb} " in done.out for verb in VERBS)


def test_the_version_is_what_callers_parse(bundle: Bundle) -> None:
    lines = bundle.oci("--version").out.splitlines()

    assert lines[0].split()[1] == "version"
    assert lines[1].startswith("commit: ")
    assert lines[2].startswith("spec: 1.")


def test_an_unknown_verb_is_refused(bundle: Bundle) -> None:
    assert is_refused(bundle.oci("frobnicate", "-h"), "No help topic for 'frobnicate'")


@pytest.mark.parametrize(
    "words, said",
    [
        (("state",), '"state" requires exactly 1 argument(s)'),
        (("kill",), '"kill" requires a minimum of 1 argument(s)'),
        (("list", "x"), '"list" requires exactly 0 argument(s)'),
        (("state", "--what", "x"), "flag provided but not defined: -what"),
        (("create", "--preserve-fds", "x", "y"), 'invalid value "x" for flag -preserve-fds'),
        (("create", "x", "--bundle"), "flag needs an argument: -bundle"),
        (("list", "--format", "xml"), "invalid format option"),
        (("--root", "/", "list"), "option --root argument should not be set"),
        (("--log-format", "xml", "list"), "invalid log-format: xml"),
        (("--cgroup-manager", "mine", "list"), "unknown cgroup manager specified mine"),
    ],
)
def test_what_makes_no_sense_is_refused(bundle: Bundle, words: tuple[str, ...], said: str) -> None:
    assert is_refused(bundle.oci(*words), said)


def test_an_error_goes_to_the_log_as_json_and_to_stderr_as_text(bundle: Bundle, tmp_path: Path) -> None:
    done = bundle.oci("--log", str(tmp_path / "log"), "--log-format", "json", "state", "nobody")

    entry = json.loads((tmp_path / "log").read_text())
    assert (entry["level"], entry["msg"]) == ("error", "container does not exist")
    assert entry["time"].startswith("20")
    assert done.err == "container does not exist\n"
    assert done.code == 1


def test_debug_tells_the_steps_in_the_log_only(bundle: Bundle, tmp_path: Path) -> None:
    bundle.process["args"] = ["echo", "hi"]
    bundle.write()

    done = bundle.oci("--debug", "--log", str(tmp_path / "log"), "run", "--bundle", str(bundle.folder), "debugged")

    assert (done.code, done.out, done.err) == (0, "hi\n", "")
    assert "level=debug" in (tmp_path / "log").read_text()
    assert "init: " in (tmp_path / "log").read_text()


def test_options_may_be_written_in_every_usual_way(bundle: Bundle, tmp_path: Path) -> None:
    folder, pid = str(bundle.folder), str(tmp_path / "pid")

    done = left_behind(bundle, "run", f"-bundle={folder}", "ways", "-d", f"--pid-file={pid}")

    assert (done.code, done.err) == (0, "")
    assert Path(pid).exists()


def test_a_config_is_written_once(bundle: Bundle, tmp_path: Path) -> None:
    first = bundle.oci("spec", "--bundle", str(tmp_path))
    written = json.loads((tmp_path / "config.json").read_text())
    second = bundle.oci("spec", "--bundle", str(tmp_path))

    assert first.code == 0
    assert written["process"]["args"] == ["sh"]
    assert is_refused(second, "File config.json exists. Remove it first")


def test_the_written_config_runs(bundle: Bundle) -> None:
    (bundle.folder / "config.json").unlink()
    bundle.oci("spec", "--bundle", str(bundle.folder))
    bundle.config = json.loads((bundle.folder / "config.json").read_text())
    bundle.process["terminal"] = False

    done = bundle.sh("id -u")

    assert (done.code, done.out, done.err) == (0, "0\n", "")


def test_features_tell_what_the_parsers_know(bundle: Bundle) -> None:
    found = json.loads(bundle.oci("features").out)

    assert found["ociVersionMin"] == "1.0.0"
    assert "poststop" in found["hooks"]
    assert {"pid", "time", "cgroup"} <= set(found["linux"]["namespaces"])
    assert "rro" in found["mountOptions"]
    assert "SCMP_ACT_NOTIFY" in found["linux"]["seccomp"]["actions"]
    assert found["annotations"]["org.opencontainers.runc.checkpoint.enabled"] == "true"
    assert "run.oci.keep_original_groups" in found["potentiallyUnsafeConfigAnnotations"]


def test_a_config_under_another_name_is_taken(bundle: Bundle) -> None:
    (bundle.folder / "config.json").rename(bundle.folder / "other.json")

    done = left_behind(bundle, "run", "-d", "--bundle", str(bundle.folder), "--config", "other.json", "other")

    assert (done.code, done.err) == (0, "")


def test_a_bundle_without_a_config_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    done = left_behind(bundle, "create", "--bundle", str(tmp_path), "empty")

    assert is_refused(done, "JSON specification file", "config.json not found")


def test_a_terminal_wants_a_console_socket_when_detached(bundle: Bundle) -> None:
    bundle.process["terminal"] = True
    bundle.write()

    done = left_behind(bundle, "run", "-d", "--bundle", str(bundle.folder), "tty")

    assert is_refused(done, "cannot allocate tty if runc will detach without setting console socket")


def test_a_console_socket_wants_a_terminal(bundle: Bundle) -> None:
    done = left_behind(bundle, "run", "-d", "--console-socket", "/nowhere", "--bundle", str(bundle.folder), "tty")

    assert is_refused(done, "cannot use console socket if runc will not detach or allocate tty")


def test_many_are_deleted_by_a_pattern(bundle: Bundle) -> None:
    for name in ("many-1", "many-2", "other"):
        running(bundle, name)

    assert bundle.oci("delete", "--force", "--regex", "many-.*").code == 0
    assert bundle.oci("list", "-q").out == "other\n"


def test_labels_of_a_module_that_is_not_there_are_left_out_with_a_warning(bundle: Bundle) -> None:
    if lsm.has_apparmor():
        pytest.skip("this kernel has AppArmor")
    bundle.process["apparmorProfile"] = "docker-default"

    done = bundle.sh("echo hi")

    assert (done.code, done.out) == (0, "hi\n"), done
    assert "level=warning" in done.err
    assert "this kernel has no AppArmor" in done.err
