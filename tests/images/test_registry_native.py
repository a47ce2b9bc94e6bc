"""Images from and to registries as users have them: `inn pull`, `push`, `run`, with real containers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backends.errors import InnkeeperError
from backends.image import PruneOptions
from backends.native.backend import NativeBackend, make
from backends.registry import BackendConfig
from backends.trace import Recorder
from tests.tools.needs import needs
from tests.tools.oci_images import ARCHITECTURE, Layout, busybox_files, make_layout
from tests.tools.odd_registry import Asked, serving_oddly
from tests.tools.registry import Registry, make_certificate, serving, skopeo
from tests.tools.waiting import wait_until

pytestmark = [needs("root", "docker-registry", "skopeo", "busybox"), pytest.mark.timeout(60)]

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Inn:
    """`inn` with a state folder of its own and the native backend alone."""

    root: Path

    def command(self, *words: str) -> list[str]:
        return [
            sys.executable,
            "-I",
            str(ROOT / "innkeeper.py"),
            "--root",
            str(self.root),
            "--backend",
            "native",
            *words,
        ]

    def __call__(self, *words: str, stdin: bytes = b"", fails: bool = False) -> str:
        """Run it and return stdout, or stderr if it is to fail."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INNKEEPER_")}
        done = subprocess.run(self.command(*words), input=stdin, capture_output=True, timeout=50, env=environment)
        assert bool(done.returncode) is fails, done.stderr.decode()
        return (done.stderr if fails else done.stdout).decode()

    @contextmanager
    def backend(self) -> Iterator[NativeBackend]:
        """Open its backend here."""
        backend = make(BackendConfig(self.root, self.root / "run"))
        backend.open()
        try:
            yield backend
        finally:
            backend.close()

    def tag(self, name: str, further: str) -> None:
        """Give an image a further name."""
        with self.backend() as backend:
            backend.image_tag(name, further, Recorder("test"))


@pytest.fixture
def inn(tmp_path: Path) -> Iterator[Inn]:
    """One whose containers are removed afterwards."""
    found = Inn(tmp_path / "inn")
    yield found
    with found.backend() as backend:
        for guest in backend.guests():
            with suppress(InnkeeperError):
                backend.remove(guest.ref, Recorder("test"), force=True)
        backend.clean(Recorder("test"))
        backend.shutdown()
    shutil.rmtree(found.root)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One with a small image that runs, as app:1."""
    folder = tmp_path_factory.mktemp("registry")
    with serving(folder) as found:
        layout = make_layout(
            folder / "oci", [busybox_files(), {"etc/motd": b"hello\n"}], Cmd=["/bin/busybox", "cat", "/etc/motd"]
        )
        layout.push("image", f"{found.address}/app:1")
        yield found


def test_a_container_of_an_image_that_is_not_here_pulls_it_and_runs(inn: Inn, registry: Registry) -> None:
    name = f"{registry.address}/app:1"

    assert inn("run", "--rm", "--plain-http", name) == "hello\n"
    registry.forget()
    assert inn("run", "--rm", name) == "hello\n"
    assert registry.requests() == []
    assert inn("run", "--rm", "-q", "--pull", "always", "--plain-http", name) == "hello\n"
    assert [asked.path for asked in registry.requests()] == ["/v2/app/manifests/1"]


def test_the_quick_way_of_run_leaves_an_image_that_is_not_here_to_the_slow_one(
    inn: Inn, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(os.environ["CONTAINERS_REGISTRIES_CONF"]).write_text(
        f'[[registry]]\nlocation = "{registry.address}"\ninsecure = true\n'
    )
    inn("run", "--rm", "host", "true")  # the spawner is up now

    assert inn("run", "--rm", f"{registry.address}/app:1") == "hello\n"
    registry.forget()
    assert inn("run", "--rm", f"{registry.address}/app:1") == "hello\n"
    assert registry.requests() == []


def test_ctrl_c_ends_a_pull_and_leaves_no_image(inn: Inn, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "oci", [{"big": os.urandom(2_000_000)}])
    ends = threading.Event()

    def twist(asked: Asked) -> bool:
        if "/blobs/" in asked.path and len(asked.blob()) > 100_000:
            ends.wait(20)
        return False

    with serving_oddly(layout, twist) as registry:
        process = subprocess.Popen(
            inn.command("run", "--plain-http", f"{registry.address}/app:1"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            wait_until(lambda: registry.count("/blobs/") == 2)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=15)
        finally:
            ends.set()
    assert process.returncode == 130
    assert b": cancelled\n" in said
    assert b"Traceback" not in said
    assert inn("ps", "-q") == ""
    with inn.backend() as backend:
        assert [image.name for image in backend.images()] == ["host"]


def test_never_means_never(inn: Inn, registry: Registry) -> None:
    registry.forget()

    said = inn("run", "--pull", "never", "--plain-http", f"{registry.address}/app:1", fails=True)

    assert f"there is no image {registry.address}/app:1" in said
    assert registry.requests() == []


def test_what_cannot_be_pulled_is_told_with_what_was_wanted(inn: Inn, registry: Registry) -> None:
    said = inn("run", "--plain-http", f"{registry.address}/no-such:1", fails=True)

    assert said.count("\n") == 1
    assert "cannot pull" in said
    assert f"there is no image {registry.address}/no-such:1 here" in said
    assert inn("ps", "-q") == ""


def test_pulled_tagged_pushed_removed_and_pulled_again(inn: Inn, registry: Registry) -> None:
    name, other = f"{registry.address}/app:1", f"{registry.address}/team/copy:2"

    assert inn("pull", "-q", "--plain-http", name) == f"{name}\n"
    inn.tag(name, other)
    registry.forget()
    pushed = inn("push", "-q", "--plain-http", other)
    taken_over = [asked for asked in registry.requests() if "mount=" in asked.path]
    assert len(taken_over) == 2  # its layers are known to be in app
    assert skopeo("inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{other}").strip() in pushed

    inn("image", "rm", name, other)
    with inn.backend() as backend:
        backend.image_prune(PruneOptions(all=True), Recorder("test"))
    by_digest = pushed.strip().replace(":2@", "@")
    assert inn("run", "--rm", "-q", "--plain-http", by_digest) == "hello\n"
    registry.forget()
    assert inn("run", "--rm", "-q", by_digest) == "hello\n"
    assert registry.requests() == []


def test_a_layer_that_is_a_plain_tar_is_compressed_on_its_way(inn: Inn, registry: Registry, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "oci", [busybox_files()], compression="")
    skopeo("copy", "-q", f"oci:{layout.folder}:image", f"docker-archive:{tmp_path / 'a.tar'}:plain:1")
    with inn.backend() as backend:
        backend.image_load(str(tmp_path / "a.tar"), Recorder("test"))
    for compression in ("gzip", "zstd"):
        name = f"{registry.address}/plain:{compression}"
        inn.tag("plain:1", name)
        inn("push", "-q", "--plain-http", "--compression", compression, name)
        assert f"tar+{compression}" in skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{name}")
        assert (
            inn("run", "--rm", "-q", "--pull", "always", "--plain-http", name, "/bin/busybox", "echo", "up") == "up\n"
        )


def test_a_pull_that_was_killed_goes_on_where_it_was(inn: Inn, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "oci", [{**busybox_files(), "big": os.urandom(4_000_000)}], Cmd=["/bin/sh"])
    stalls = [True]
    begins: list[int] = []

    def twist(asked: Asked) -> bool:
        if "/blobs/" not in asked.path or len(asked.blob()) < 100_000:
            return False
        begins.append(asked.begin())
        if not stalls[0]:
            return False
        asked.send_response(200)
        asked.send_header("Content-Length", str(len(asked.blob())))
        asked.end_headers()
        asked.wfile.write(asked.blob()[:2_000_000])
        asked.wfile.flush()
        return bool(asked.rfile.read(1)) or True

    with serving_oddly(layout, twist) as registry:
        process = subprocess.Popen(
            inn.command("pull", "-q", "--plain-http", f"{registry.address}/app:1"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        partial = inn.root / "images/partial"
        wait_until(lambda: partial.exists() and any(path.stat().st_size >= 2_000_000 for path in partial.iterdir()))
        process.send_signal(signal.SIGKILL)
        process.wait()
        stalls[0] = False
        inn("pull", "-q", "--plain-http", f"{registry.address}/app:1")

    assert begins == [0, 2_000_000]
    assert list(partial.iterdir()) == []


@needs("openssl")
def test_logged_in_by_tls_with_a_password_from_stdin(inn: Inn, registry: Registry, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "certificates")
    tls = ("--ca-file", str(certificate.authority))
    inn("pull", "-q", "--plain-http", f"{registry.address}/app:1")
    with serving(tmp_path / "locked", users={"ann": "secret"}, certificate=certificate) as locked:
        target = f"{locked.address}/app:1"
        inn.tag(f"{registry.address}/app:1", target)
        assert "inn login" in inn("push", *tls, target, fails=True)
        assert "refuses" in inn(
            "login", *tls, "-u", "ann", "--password-stdin", locked.address, stdin=b"no\n", fails=True
        )
        inn("login", *tls, "-u", "ann", "--password-stdin", locked.address, stdin=b"secret\n")
        inn("push", "-q", *tls, target)
        inn("image", "rm", target)
        assert inn("run", "--rm", "-q", "--pull", "always", *tls, target) == "hello\n"
        inn("logout", locked.address)
        assert "inn login" in inn("pull", *tls, target, fails=True)


def test_an_image_is_pushed_under_its_name_and_not_by_its_id(inn: Inn, registry: Registry) -> None:
    inn("pull", "-q", "--plain-http", f"{registry.address}/app:1")
    with inn.backend() as backend:
        image_id = next(image.id for image in backend.images() if image.name != "host")
    short = image_id.removeprefix("sha256:")[:12]

    assert "there is no image" in inn("push", "--plain-http", short, fails=True)


@pytest.mark.parametrize("registry", ["registry", "https://a.example", "a.example/b", "", "a b"])
def test_who_logs_in_to_what_is_no_registry_is_told(inn: Inn, registry: str) -> None:
    said = inn("login", "-u", "ann", "--password-stdin", registry, stdin=b"secret\n", fails=True)

    assert "is no registry" in said
    assert "secret" not in said


def test_a_password_is_not_asked_for_where_nobody_sits(inn: Inn) -> None:
    assert "--password-stdin" in inn("login", "-u", "ann", "a.example", fails=True)


def test_steps_of_a_pull_are_told(inn: Inn, registry: Registry) -> None:
    done = subprocess.run(
        inn.command("pull", "--trace", "--plain-http", f"{registry.address}/app:1"), capture_output=True, text=True
    )

    assert f"pull {registry.address}/app:1 from {registry.address}" in done.stderr


def test_nothing_of_it_is_loaded_by_other_commands(inn: Inn) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from app.cli.main import main; main(sys.argv[2:]);"
        "print([name for name in sys.modules if 'urllib3' in name or 'native.registry' in name], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), "--root", str(inn.root), "--backend", "native", "image", "ls"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "[]", done.stderr


def _sent(registry: Registry, name: str) -> dict[str, Any]:
    """Return the manifest or index that the registry has, as skopeo sees it."""
    text = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/{name}")
    found: dict[str, Any] = json.loads(text)
    return found


def test_all_platforms_that_are_here_are_pushed_as_an_index(inn: Inn, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "oci")
    kinds = {"amd64": "", "arm64": "v8", "riscv64": ""}
    every = [
        layout.manifest([{"etc/kind": kind.encode()}], architecture=kind, variant=variant)
        for kind, variant in kinds.items()
    ]
    layout.name(layout.index(every), "many")
    with serving(tmp_path / "registry") as registry:
        name = f"{registry.address}/team/many:1"
        layout.push("many", name)
        for kind in ("amd64", "arm64"):
            inn("pull", "-q", "--plain-http", "--platform", f"linux/{kind}", name)
        inn("tag", name, f"{registry.address}/copy/many:2")

        said = inn("push", "-q", "--plain-http", "--all-platforms", f"{registry.address}/copy/many:2")
        two = _sent(registry, "copy/many:2")
        platforms = [(each["platform"]["architecture"], each["platform"].get("variant")) for each in two["manifests"]]
        assert platforms == [("amd64", None), ("arm64", "v8")]
        assert [each["digest"] for each in two["manifests"]] == [each["digest"] for each in every[:2]]
        digest = said.strip().rpartition("@")[2]
        skopeo("copy", "--all", "-q", "--src-tls-verify=false", f"docker://{registry.address}/copy/many@{digest}",
               f"dir:{tmp_path / 'copied'}")  # fmt: skip

        inn("pull", "-q", "--plain-http", "--platform", "linux/riscv64", name)
        inn("tag", name, f"{registry.address}/copy/many:3")
        inn("push", "-q", "--plain-http", "--all-platforms", f"{registry.address}/copy/many:3")
        assert _sent(registry, "copy/many:3") == _sent(registry, "team/many:1")  # the very same, as all of it is here


def test_an_image_that_came_alone_is_pushed_as_an_index_of_one(inn: Inn, tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "oci", [busybox_files()], "one:1")
    inn("load", "-q", "-i", str(layout.folder))
    with serving(tmp_path / "registry") as registry:
        inn("tag", "one:1", f"{registry.address}/one:1")
        inn("push", "-q", "--plain-http", "--all-platforms", f"{registry.address}/one:1")
        found = _sent(registry, "one:1")
    assert [each["platform"]["architecture"] for each in found["manifests"]] == [ARCHITECTURE]
