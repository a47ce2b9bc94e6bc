"""From create to delete, with runc's rules and words."""

from __future__ import annotations

import json
import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.oci.life import create, groups_of, has_status, is_refused, left_behind, mounts, running, start, state
from tests.tools.bundles import Bundle
from tests.tools.needs import needs

pytestmark = needs("root", "busybox")


@pytest.fixture
def name() -> str:
    """An id nobody else uses: ids without cgroupsPath share one parent group."""
    return f"life-{uuid.uuid4().hex[:8]}"


def test_a_container_waits_runs_and_goes_without_a_trace(bundle: Bundle, name: str) -> None:
    before = mounts()

    create(bundle, name, "--pid-file", str(bundle.folder / "pid"))
    waiting = state(bundle, name)
    start(bundle, name)
    live = state(bundle, name)
    killed = bundle.oci("kill", name, "KILL")
    has_status(bundle, name, "stopped")
    deleted = bundle.oci("delete", name)

    assert (waiting["status"], live["status"]) == ("created", "running")
    assert waiting["pid"] == live["pid"] == int((bundle.folder / "pid").read_text())
    assert (waiting["id"], waiting["bundle"], waiting["ociVersion"]) == (name, str(bundle.folder), "1.2.0")
    assert (killed.code, deleted.code) == (0, 0)
    assert is_refused(bundle.oci("state", name), "container does not exist")
    assert os.listdir(bundle.folder / "state") == []
    assert groups_of(name) == []
    assert mounts() == before


def test_what_the_bundle_says_after_create_does_not_matter(bundle: Bundle, name: str) -> None:
    create(bundle, name)
    (bundle.folder / "config.json").write_text("{}")

    start(bundle, name)

    assert state(bundle, name)["status"] == "running"
    assert bundle.oci("exec", name, "true").code == 0


@pytest.mark.parametrize(
    "verb, status, words",
    [
        ("start", "running", "cannot start an already running container"),
        ("start", "stopped", "cannot start a container that has stopped"),
        ("kill", "stopped", "container not running"),
        ("exec", "stopped", "cannot exec in a stopped container"),
        ("pause", "stopped", "container not running"),
        ("resume", "running", "container not paused"),
        ("delete", "running", "cannot delete container NAME that is not stopped: running"),
        ("exec", "paused", "cannot exec in a paused container (use --ignore-paused to override)"),
        ("update", "stopped", "container not running"),
    ],
)
def test_a_verb_in_the_wrong_state_is_refused_as_runc_does(
    bundle: Bundle, name: str, verb: str, status: str, words: str
) -> None:
    running(bundle, name)
    if status == "paused":
        bundle.oci("pause", name)
    if status == "stopped":
        bundle.oci("kill", name, "KILL")
        has_status(bundle, name, "stopped")
    more = {"exec": ["true"], "update": []}.get(verb, [])

    done = bundle.oci(verb, name, *more)

    assert is_refused(done, words.replace("NAME", name)), done


@pytest.mark.parametrize("verb", ["start", "kill", "delete", "state", "pause", "resume", "ps", "exec", "update"])
def test_a_container_that_is_not_there_is_said_to_be_so(bundle: Bundle, verb: str) -> None:
    more = ["true"] if verb == "exec" else []

    assert is_refused(bundle.oci(verb, "nobody", *more), "container does not exist")


def test_deleting_by_force_what_is_not_there_is_no_error(bundle: Bundle) -> None:
    assert bundle.oci("delete", "--force", "nobody").code == 0


def test_one_that_waits_for_its_start_is_deleted_by_force_only(bundle: Bundle, name: str) -> None:
    create(bundle, name)

    refused = bundle.oci("delete", name)

    assert is_refused(refused, f"cannot delete container {name} that is not stopped: created")
    assert bundle.oci("delete", "--force", name).code == 0
    assert groups_of(name) == []


def test_a_live_and_paused_one_goes_by_force(bundle: Bundle, name: str) -> None:
    pid = running(bundle, name)["pid"]
    bundle.oci("pause", name)
    assert state(bundle, name)["status"] == "paused"

    assert bundle.oci("delete", "-f", name).code == 0
    assert not Path(f"/proc/{pid}/root/bin").exists()
    assert groups_of(name) == []


def test_the_usual_signals_end_one_that_waits_for_its_start(bundle: Bundle, name: str) -> None:
    create(bundle, name)

    assert bundle.oci("kill", name, "TERM").code == 0
    has_status(bundle, name, "stopped")


@pytest.mark.parametrize("word", ["KILL", "SIGKILL", "kill", "9"])
def test_a_signal_has_many_names(bundle: Bundle, name: str, word: str) -> None:
    running(bundle, name)

    assert bundle.oci("kill", name, word).code == 0
    has_status(bundle, name, "stopped")


def test_an_unknown_signal_is_refused(bundle: Bundle, name: str) -> None:
    running(bundle, name)

    assert is_refused(bundle.oci("kill", name, "WHAT"), 'unknown signal "WHAT"')


@pytest.mark.parametrize("bad", ["", "a/b", "..", ".", "a b", "ä", "a\n"])
def test_what_is_no_id_is_refused(bundle: Bundle, bad: str) -> None:
    done = left_behind(bundle, "create", "--bundle", str(bundle.folder), bad)

    assert done.code == 1
    assert "invalid container ID format" in done.err or "container id cannot be empty" in done.err
    assert not list((bundle.folder / "state").glob("*"))


def test_an_id_is_taken_once(bundle: Bundle, name: str) -> None:
    create(bundle, name)

    assert is_refused(
        left_behind(bundle, "create", "-b", str(bundle.folder), name), "container with given ID already exists"
    )
    assert state(bundle, name)["status"] == "created"


def test_of_many_that_start_one_wins(bundle: Bundle, name: str) -> None:
    create(bundle, name)

    with ThreadPoolExecutor(8) as pool:
        codes = sorted(done.code for done in pool.map(lambda _: bundle.oci("start", name), range(8)))

    assert codes == [0, *[1] * 7]


def test_of_many_that_delete_one_wins(bundle: Bundle, name: str) -> None:
    running(bundle, name)
    bundle.oci("kill", name, "KILL")
    has_status(bundle, name, "stopped")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: bundle.oci("delete", name), range(8)))

    assert sorted(done.code for done in answers) == [0, *[1] * 7]
    assert all("container does not exist" in done.err for done in answers if done.code)


def test_of_many_that_create_the_same_one_wins(bundle: Bundle, name: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        call = ("create", "--bundle", str(bundle.folder), name)
        answers = list(pool.map(lambda _: left_behind(bundle, *call), range(4)))

    assert sorted(done.code for done in answers) == [0, 1, 1, 1]
    start(bundle, name)


def test_a_create_that_fails_leaves_nothing(bundle: Bundle, name: str) -> None:
    bundle.process["args"] = ["/bin/nosuch"]
    bundle.write()
    before = mounts()

    done = left_behind(bundle, "create", "--bundle", str(bundle.folder), "--pid-file", str(bundle.folder / "pid"), name)

    assert is_refused(done, "runc create failed: unable to start container process", "no such file or directory")
    assert not (bundle.folder / "pid").exists()
    assert os.listdir(bundle.folder / "state") == []
    assert groups_of(name) == []
    assert mounts() == before


def test_a_runtime_killed_in_the_midst_leaves_what_delete_removes(bundle: Bundle, name: str) -> None:
    bundle.config["hooks"] = {
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", 'kill -9 "$PPID"; sleep 5'], "env": ["PATH=/bin"]}]
    }
    bundle.write()

    done = left_behind(bundle, "create", "--bundle", str(bundle.folder), name)

    assert done.code == -signal.SIGKILL
    assert bundle.oci("delete", "--force", name).code == 0
    assert is_refused(bundle.oci("state", name), "container does not exist")
    assert groups_of(name) == []


def test_another_process_with_its_pid_is_not_the_container(bundle: Bundle, name: str) -> None:
    running(bundle, name)
    file = bundle.folder / "state" / name / "state.json"
    known = json.loads(file.read_text())
    bundle.oci("kill", name, "KILL")
    has_status(bundle, name, "stopped")
    file.write_text(json.dumps({**known, "pid": os.getpid()}))

    assert state(bundle, name)["status"] == "stopped"
    assert is_refused(bundle.oci("kill", name, "KILL"), "container not running")
    assert bundle.oci("delete", name).code == 0


def test_a_list_is_a_table_json_or_ids(bundle: Bundle, name: str) -> None:
    pid = running(bundle, name)["pid"]

    table = bundle.oci("list").out.splitlines()
    listed = json.loads(bundle.oci("list", "--format", "json").out)
    ids = bundle.oci("ls", "-q").out

    assert table[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert table[1].split()[:4] == [name, str(pid), "running", str(bundle.folder)]
    assert [(one["id"], one["pid"], one["status"]) for one in listed] == [(name, pid, "running")]
    assert ids == f"{name}\n"


def test_a_list_of_a_root_that_is_not_there_fails(bundle: Bundle) -> None:
    done = bundle.oci("--root", str(bundle.folder / "elsewhere"), "list")

    assert is_refused(done, "no such file or directory")


def test_its_processes_are_listed(bundle: Bundle, name: str) -> None:
    pid = running(bundle, name)["pid"]

    table = bundle.oci("ps", name)
    pids = bundle.oci("ps", "--format", "json", name)
    own = bundle.oci("ps", name, "-o", "pid,comm")

    assert table.out.splitlines()[0].split()[:2] == ["UID", "PID"]
    assert json.loads(pids.out) == [pid]
    assert own.out.splitlines()[1].split() == [str(pid), "sleep"]


def test_a_pidfd_goes_to_who_listens(bundle: Bundle, name: str, tmp_path: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(tmp_path / "sock"))
        server.listen(1)
        create(bundle, name, "--pidfd-socket", str(tmp_path / "sock"))
        connection, _ = server.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 100, 1)

    signal.pidfd_send_signal(fds[0], signal.SIGKILL)
    os.close(fds[0])
    has_status(bundle, name, "stopped")


def test_it_waits_with_nothing_of_its_callers_open(bundle: Bundle, name: str) -> None:
    secret = os.open(bundle.folder, os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        done = left_behind(bundle, "create", "--bundle", str(bundle.folder), name, fds=(secret,))
    finally:
        os.close(secret)
    assert done.code == 0, done

    folder = Path(f"/proc/{state(bundle, name)['pid']}/fd")
    targets = {os.readlink(path) for path in folder.iterdir() if int(path.name) > 2}
    assert {target for target in targets if not target.startswith(("pipe:", "socket:", "anon_inode:"))} <= {
        str(bundle.folder / "state" / name / "exec.fifo")
    }


def test_a_poststart_hook_that_fails_ends_and_removes_it(bundle: Bundle, name: str) -> None:
    bundle.config["hooks"] = {"poststart": [{"path": "/bin/false"}]}
    bundle.write()
    create(bundle, name)

    done = bundle.oci("start", name)

    assert is_refused(done, "error running poststart hook #0")
    assert is_refused(bundle.oci("state", name), "container does not exist")
    assert groups_of(name) == []


def test_poststop_hooks_run_all_and_cannot_keep_it(bundle: Bundle, name: str) -> None:
    mark = bundle.folder / "mark"
    hooks = [{"path": "/bin/false"}, {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {mark}"]}]
    bundle.config["hooks"] = {"poststop": hooks}
    bundle.write()
    running(bundle, name)

    done = bundle.oci("delete", "--force", name)

    assert done.code == 0
    assert "level=warning" in done.err
    told = json.loads(mark.read_text())
    assert (told["id"], told["status"]) == (name, "stopped")
