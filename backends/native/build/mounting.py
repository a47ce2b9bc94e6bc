"""Makes what the mounts of a RUN show: copies for binds, kept folders for caches. Secrets and memory the runtime makes.

A bind shows a copy of its source: the context may change meanwhile, and what is written with `rw` goes with the copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backends.container import Secret
from backends.errors import UsageError
from backends.native.build import caches, job
from backends.native.build.changes import Config, folder_of
from backends.native.build.dockerfile import DockerfileError
from backends.native.build.job import Job
from backends.native.build.mounts import Mount
from backends.native.build.workshop import Workshop
from backends.native.options.volumes import bind, place_in
from backends.trace import Recorder

_NAME = "shown"
_SECRETS = "/run/secrets"


@dataclass(slots=True)
class Made:
    """What a container of a RUN is given."""

    mounts: list[dict[str, Any]] = field(default_factory=list)
    """OCI mounts, outer ones first."""

    secrets: tuple[Secret, ...] = ()


@dataclass(slots=True)
class Placed:
    """A mount with what follows from its surroundings."""

    mount: Mount
    place: str
    """Absolute in the container."""

    work: Job | None = None
    """Brings its source here; None where there is none."""

    digest: str = ""
    """Of its source."""

    @property
    def id(self) -> str:
        """What the cache or secret is called."""
        return self.mount.id or (self.place if self.mount.kind == "cache" else self.place.rpartition("/")[2])

    def key(self) -> list[object]:
        """Return all of it that the result of a RUN depends on: not what a cache or a secret holds."""
        it = self.mount
        return [it.kind, self.place, self.digest, self.id * (it.kind != "bind"), it.read_only, it.size_bytes,
                it.mode, it.uid, it.gid]  # fmt: skip


class Mounting:
    """The mounts of one RUN."""

    def __init__(
        self, mounts: Sequence[Mount], config: Config, sourced: Callable[[Job, str], Job], shop: Workshop, line: int
    ) -> None:
        """sourced gives a job that a stage, image or (without a name) the context is copied from. May raise."""
        self._shop, self._line = shop, line
        self._placed = [Placed(mount, self._place(mount, config)) for mount in mounts]
        places = [each.place for each in self._placed]
        for place in places:
            if places.count(place) > 1:
                raise DockerfileError(line, f"--mount: two mounts are asked for at {place}")
        for each in self._placed:
            if each.mount.kind == "bind" or each.mount.origin:
                each.work = sourced(self._job(each.mount), each.mount.origin)

    def _place(self, mount: Mount, config: Config) -> str:
        target = mount.target or f"{_SECRETS}/{mount.id}"
        try:
            return place_in("--mount", folder_of(target, config))
        except UsageError as error:
            raise DockerfileError(self._line, error.message) from None

    def _job(self, mount: Mount) -> Job:
        target = str(self._shop.folder / "source")
        source = mount.source or "."
        return Job("digest", f"/{_NAME}", sources=(source,), source_target=target, is_literal=True)

    def look(self, recorder: Recorder) -> None:
        """Learn what the sources are. Raises NotFound, InnkeeperError, Cancelled."""
        for each in self._placed:
            if each.work is not None:
                each.digest = job.digest(each.work, recorder)

    def key(self) -> list[list[object]]:
        """Return what the result of the RUN depends on, as far as it is known: of what was copied, if it was."""
        return [each.key() for each in self._placed]

    @contextmanager
    def made(self, state_dir: Path, given: Sequence[Secret], recorder: Recorder) -> Iterator[Made]:
        """Yield what the container gets; copies and holds on caches end with the body. Raises what look() does."""
        found = Made()
        secrets: list[Secret] = []
        with ExitStack() as stack:
            for each in sorted(self._placed, key=lambda each: each.place.count("/")):
                it, access = each.mount, "ro" if each.mount.read_only else "rw"
                if it.kind == "secret":
                    secrets += self._secret(each, given, len(secrets))
                elif it.kind == "tmpfs":
                    size = [f"size={it.size_bytes}"] if it.size_bytes is not None else []
                    options = ["nosuid", "nodev", access, *size]
                    found.mounts.append(_tmpfs(each.place, options))
                elif it.kind == "cache":
                    data = stack.enter_context(self._cache(each, state_dir, recorder))
                    found.mounts.append(bind(each.place, str(data), ["bind", "rprivate", access]))
                else:
                    found.mounts.append(bind(each.place, str(self._copied(each, recorder)), ["bind", access]))
            found.secrets = tuple(secrets)
            yield found

    def _secret(self, each: Placed, given: Sequence[Secret], number: int) -> list[Secret]:
        it = each.mount
        for secret in given:
            if secret.name == each.id:
                mode = 0o400 if it.mode is None else it.mode
                return [replace(secret, name=str(number), mode=mode, uid=it.uid, gid=it.gid, target=each.place)]
        if it.required:
            hint = f"inn build --secret id={each.id},src=FILE"
            raise DockerfileError(self._line, f"--mount: the secret {each.id} was not given", hint=hint)
        return []

    def _copied(self, each: Placed, recorder: Recorder) -> Path:
        """Return a copy of a mount's source; the digest is then that of the copy."""
        assert each.work is not None
        place = self._shop.step()
        onto = replace(
            each.work, op="copy", stack=(str(self._shop.folder / "empty"),), upper=str(place / "upper"),
            work=str(place / "work"), target=str(self._shop.folder / "target"),
        )  # fmt: skip
        done = job.perform(onto, recorder)
        each.digest = done["digest"]
        for left_out in done["left_out"]:
            recorder.say(f"  left out: {left_out}")
        shown = place / "upper" / _NAME
        if not (each.mount.source.strip("/.") or each.mount.origin):
            shown.chmod(0o755)  # the context's own folder may be for its owner only
        return shown

    @contextmanager
    def _cache(self, each: Placed, state_dir: Path, recorder: Recorder) -> Iterator[Path]:
        it = each.mount
        mode = 0o755 if it.mode is None else it.mode

        def make() -> Path:
            new = self._copied(each, recorder) if each.work is not None else self._shop.step() / "upper"
            if not new.is_dir():
                raise DockerfileError(self._line, f"--mount: {it.source} is no folder: a cache begins with one")
            os.chown(new, it.uid, it.gid)
            new.chmod(mode)
            folder = self._shop.step()
            new.rename(folder / "data")
            for name in ("upper", "work"):
                (folder / name).rmdir()
            (folder / "id").write_text(each.id)
            return folder

        def wait(seconds: float) -> None:
            recorder.check()
            time.sleep(seconds)

        what = json.dumps([each.id, each.digest, mode, it.uid, it.gid])
        key = hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        with caches.held(state_dir, key, it.sharing, make, wait) as data:
            yield data


def _tmpfs(place: str, options: list[str]) -> dict[str, Any]:
    return {"destination": place, "type": "tmpfs", "source": "tmpfs", "options": options}
