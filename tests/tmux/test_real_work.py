"""A morning's work on the screen, over real containers, images and networks and a registry of this machine's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.assets import Images
from backends.trace import Recorder
from tests.tmux.real import Containers
from tests.tools.needs import needs
from tests.tools.registry import Registry, serving
from tests.tools.window import Window

pytestmark = [needs("root", "tmux", "busybox", "docker-registry"), pytest.mark.timeout(90)]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry on loopback that wants a password; whoever logs in writes below the test's own folder."""
    with serving(tmp_path / "registry", users={"anna": "s3cr3t"}) as running:
        yield running


def answer(window: Window, question: str, text: str) -> None:
    """Wait for a prompt and type over what it offers."""
    window.see(question)
    window.press("C-u")
    window.type(text)
    window.press("Enter")


def test_a_container_is_made_committed_cloned_put_on_a_network_and_its_image_pushed_and_pulled(
    containers: Containers, registry: Registry, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin" / "sh").write_bytes(Path("/bin/busybox").read_bytes())
    (tree / "bin" / "sh").chmod(0o755)
    assert isinstance(containers.backend, Images)
    containers.backend.image_import("small", str(tree), Recorder("test"))
    window, pushed = containers.window, f"{registry.address}/team/app:1"
    window.type(f"export REGISTRY_AUTH_FILE={tmp_path / 'auth.json'} DOCKER_CONFIG={tmp_path}\n")
    containers.open_screen("no guests yet")

    window.press("C")  # the form, filled at one go
    window.see("Create a container")
    window.type("small\tweb\tsh -c 'echo changed > /note; exec sleep 1000'\t0.5\t64M\t")
    line = f"inn --root {containers.root} run -d --name web --cpus 0.5 --memory 64M small"
    window.until(lambda: line in " ".join(window.text.split()))
    window.press("F10")
    window.until(lambda: "● running" in window.line_with(" web "))

    window.press("I")
    answer(window, "Name of the image of web:", "app:1")
    window.see("commit web app:1: done")
    window.press("M")
    answer(window, "Name of the clone of web:", "twin")
    window.see("clone web twin: done")
    assert containers.guest("twin").limits.cpus == 0.5

    window.press("3", "n")
    answer(window, "Name of the new network:", "shop")
    answer(window, "Subnet of shop", "")
    window.see("network create shop: done")
    window.press("1", "w")
    window.see("Connect web to")
    window.type("shop")
    window.press("Enter")
    window.until(lambda: "shop" in containers.guest("web").networks)

    window.press("2")
    window.see("app:1")
    window.press("/")
    answer(window, " / ", "app")
    window.see("hidden")
    window.press("g", "P")
    answer(window, "Push app:1", f"http://{pushed}")
    answer(window, f"User at {registry.address}:", "anna")
    window.see("Password of anna")
    window.type("s3cr3t")
    window.see("\N{BULLET}" * 6)
    assert "s3cr3t" not in window.text
    window.press("Enter")
    window.see(f"image push {pushed}: done")

    window.press("*", "D")
    window.see("Remove 2 images?")
    window.see("y remove")
    window.press("y")
    window.until(lambda: containers.images() == {"host", "small:latest"})
    window.press("p")
    answer(window, "Pull into", f"http://{pushed}")
    window.until(lambda: pushed in containers.images())

    window.press("4")
    window.see("OPERATION")
    window.see("failed")
    assert window.text.count("failed") == 1  # the push before the login
    window.press("q")
    window.see("left with 0")
    assert "s3cr3t" not in (containers.root / "events.jsonl").read_text()
