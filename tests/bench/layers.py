"""How long a layer takes to unpack, beside tar and umoci, in one run.

    python -m tests.bench.layers [FOLDER…]         default: /usr/share/doc /usr/lib/python3; as root

Each folder becomes a layer compressed with gzip. The three take turns; the least of five rounds counts. umoci is only
there where it is installed, and also writes its bundle.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from backends.native.images.manifest import LAYER_GZIP
from backends.native.layers.store import Layers
from backends.trace import Recorder
from tests.tools.oci_images import Layout

_ROUNDS = 5


def main() -> None:
    """Measure and print a table."""
    folders = sys.argv[1:] or ["/usr/share/doc", "/usr/lib/python3"]
    print(f"{'folder':24}{'files':>8}{'MiB':>8}{'inn ms':>9}{'tar ms':>9}{'of tar':>8}{'umoci ms':>10}{'of umoci':>9}")
    for folder in folders:
        with tempfile.TemporaryDirectory(prefix="inn-bench-", dir="/var/tmp") as scratch:
            _measure(folder, Path(scratch))


def _measure(folder: str, scratch: Path) -> None:
    tar = subprocess.run(["tar", "-C", folder, "-c", "."], capture_output=True, check=True).stdout
    packed = gzip.compress(tar, 6)
    (scratch / "layer.tar.gz").write_bytes(packed)
    digest = "sha256:" + hashlib.sha256(tar).hexdigest()
    layout = _layout(scratch / "layout", packed, digest)
    target = scratch / "out"

    def inn() -> None:
        Layers(target).add(digest, "", io.BytesIO(packed), LAYER_GZIP, Recorder("bench"))

    def by_tar() -> None:
        target.mkdir()
        command = ["tar", "-xzf", str(scratch / "layer.tar.gz"), "--numeric-owner", "--xattrs", "-C", str(target)]
        subprocess.run(command, check=True)

    def umoci() -> None:
        subprocess.run(["umoci", "unpack", "--image", f"{layout}:x", str(target)], check=True, capture_output=True)

    ways: dict[str, Callable[[], None]] = {"inn": inn, "tar": by_tar}
    if shutil.which("umoci"):
        ways["umoci"] = umoci
    least = dict.fromkeys(ways, float("inf"))
    for _ in range(_ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            least[name] = min(least[name], (time.perf_counter() - began) * 1000)
            shutil.rmtree(target)
    files = sum(1 for _ in Path(folder).rglob("*"))
    mine, theirs, other = least["inn"], least["tar"], least.get("umoci")
    tail = f"{other:10.0f}{mine / other:9.2f}" if other else ""
    print(f"{folder:24}{files:8}{len(tar) / 2**20:8.1f}{mine:9.0f}{theirs:9.0f}{mine / theirs:8.2f}{tail}")


def _layout(folder: Path, packed: bytes, diff_id: str) -> Path:
    layout = Layout(folder)
    layer = layout.blob(packed, LAYER_GZIP)
    made = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}, "config": {}}
    config = layout.blob(json.dumps(made).encode(), "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
                "layers": [layer]}  # fmt: skip
    index = layout.blob(json.dumps(manifest).encode(), "application/vnd.oci.image.manifest.v1+json",
                        annotations={"org.opencontainers.image.ref.name": "x"})  # fmt: skip
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [index]}))
    return folder


if __name__ == "__main__":
    main()
