"""Small OCI images for tests, made of files: layouts that skopeo, umoci and podman read.

layout = make_layout(tmp_path / "oci", [{"bin/busybox": BUSYBOX}, {"etc/motd": b"hello"}], cmd=["/bin/busybox"])
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.tools.registry import skopeo

Files = Mapping[str, bytes]

BUSYBOX_PATH = Path("/bin/busybox")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "riscv64": "riscv64"}
ARCHITECTURE = MACHINES.get(platform.machine(), platform.machine())
"""This machine's, in the words of image-spec."""

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def busybox_files() -> dict[str, bytes]:
    """Return what a root file system with a shell needs, from Debian's busybox-static."""
    program = BUSYBOX_PATH.read_bytes()
    return {"bin/busybox": program, "bin/sh": b"->busybox", "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n"}


def layer_tar(files: Files) -> bytes:
    """Return a layer's tar, the same each time; contents that begin with "->" are symbolic links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder in sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) != "."}):
            entry = tarfile.TarInfo(f"{folder}/")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755 if "bin/" in name else 0o644
            if data.startswith(b"->"):
                entry.type, entry.linkname = tarfile.SYMTYPE, data[2:].decode()
                tar.addfile(entry)
            else:
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class Layout:
    """An OCI layout that is being made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._named: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        """Keep a blob and return its descriptor."""
        digest = hashlib.sha256(data).hexdigest()
        (self.folder / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}

    def manifest(
        self,
        layers: Sequence[Files],
        *,
        architecture: str = ARCHITECTURE,
        variant: str = "",
        compression: str = "gzip",
        **config: Any,
    ) -> dict[str, Any]:
        """Make an image and return its descriptor; config: Cmd=[…], Env=[…], in the words of image-spec."""
        diff_ids, described = [], []
        for files in layers:
            tar = layer_tar(files)
            diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
            described.append(self._layer(tar, compression))
        system = {"architecture": architecture, "os": "linux"} | ({"variant": variant} if variant else {})
        history = [{"created_by": f"layer {number}"} for number in range(len(layers))]
        image = {**system, "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history}
        described_config = self.blob(json.dumps(image).encode(), CONFIG)
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described_config, "layers": described}
        return self.blob(json.dumps(manifest).encode(), MANIFEST, platform=system)

    def _layer(self, tar: bytes, compression: str) -> dict[str, Any]:
        if compression == "gzip":
            return self.blob(gzip.compress(tar, 6, mtime=0), f"{LAYER}+gzip")
        if compression == "zstd":
            import subprocess

            packed = subprocess.run(["zstd", "-qc"], input=tar, capture_output=True, check=True).stdout
            return self.blob(packed, f"{LAYER}+zstd")
        return self.blob(tar, LAYER)

    def index(self, manifests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make an index of several images and return its descriptor."""
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests)}
        return self.blob(json.dumps(index).encode(), INDEX)

    def name(self, descriptor: Mapping[str, Any], name: str) -> None:
        """Give an image or an index a name."""
        named = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}
        self._named.append(named)
        index = {"schemaVersion": 2, "manifests": self._named}
        (self.folder / "index.json").write_text(json.dumps(index))

    def push(self, name: str, target: str, *more: str) -> None:
        """Send a named image with skopeo to "127.0.0.1:PORT/repository:tag", plain HTTP."""
        skopeo(
            "copy", "--all", "-q", "--dest-tls-verify=false", *more, f"oci:{self.folder}:{name}", f"docker://{target}"
        )


def make_layout(folder: Path, layers: Sequence[Files], name: str = "image", **config: Any) -> Layout:
    """Make a layout with one image of this machine's architecture, which is given the name."""
    layout = Layout(folder)
    layout.name(layout.manifest(layers, **config), name)
    return layout
