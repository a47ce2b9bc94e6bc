"""Pulling, pushing and building simulated images: it takes a while, can be given up, and can fail.

Names decide how it goes: with "no-such" in it there is none, "private" wants a login (any but the password
"wrong" will do), "flaky" breaks on the way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from backends.errors import BackendUnavailable, InnkeeperError, LoginNeeded, NotFound, UsageError
from backends.image import BuildSpec, Image, TransferOptions
from backends.simulated.act import Act
from backends.simulated.core import SimulatedCore
from backends.simulated.gallery import Picture, digest_of, whole_name
from backends.simulated.hauling import Haul, Part
from backends.simulated.shelf import changed, layer, picture
from backends.trace import Progress, Recorder

STEP_BYTES = 40_000_000
"""What a step of a build would be to move: as long it takes."""

BROKEN_AT = 0.6


class TransferVerbs(SimulatedCore):
    """Transferring, LoggingIn, Building."""

    def image_pull(self, name: str, options: TransferOptions, recorder: Recorder) -> Image:
        """Fetch an image from nowhere."""
        with self._call("image_pull"):
            whole = whole_name(name)
            self._answer(whole, options)
            found = picture(whole.removesuffix(":latest"), self._world.now().epoch_s)
            gallery = self._world.gallery
            parts = [Part(step.digest, step.blob_bytes, gallery.has_layer(step.digest)) for step in found.layers]
        self._haul(parts, whole, "downloading", "already here", recorder)
        with self._call("image_pull"):
            recorder.run(Act("image", f"pull {whole}", lambda: self._world.gallery.put(found, [whole])))
            image = self._world.gallery.image(found, whole)
        self._tell()
        return image

    def image_push(self, name: str, options: TransferOptions, recorder: Recorder) -> str:
        """Send an image nowhere; a registry remembers what it has got."""
        with self._call("image_push"):
            found = self._world.gallery.find(name)
            whole = whole_name(name)
            self._answer(whole, options)
            there = self._world.sent.setdefault(whole.partition("/")[0], set())
            parts = [Part(step.digest, step.blob_bytes, step.digest in there) for step in found.layers]
        self._haul(parts, whole, "uploading", "already there", recorder)
        with self._call("image_push"):
            there |= {step.digest for step in found.layers}
            recorder.run(Act("image", f"push {whole}", lambda: None))
            return found.digest

    def registry_login(self, registry: str, options: TransferOptions) -> str:
        """Remember that one is logged in; no password is kept."""
        with self._call("registry_login"):
            if options.credentials is None or options.credentials[1] == "wrong":
                raise LoginNeeded(f"{registry} refuses the credentials", registry=registry)
            self._world.logins.add(registry)
            return "nowhere"

    def registry_logout(self, registry: str, options: TransferOptions) -> Sequence[str]:
        """Forget that."""
        with self._call("registry_logout"):
            self._world.logins.discard(registry)
            return ()

    def _answer(self, name: str, options: TransferOptions) -> None:
        """Raise what a registry would answer."""
        if "no-such" in name:
            raise NotFound(f"cannot pull {name}: the registry has no such image")
        registry = _registry_of(name)
        if "private" in name and options.credentials is None and registry not in self._world.logins:
            raise LoginNeeded(f"cannot pull {name}: {registry} wants a user and a password", registry=registry)

    def build(self, spec: BuildSpec, recorder: Recorder) -> Image:
        """Build an image from a real Dockerfile, without doing what it says."""
        with self._call("build"):
            steps = _instructions(spec)
            names = [whole_name(name) for name in spec.names]
        word, _, base = steps[0].partition(" ")
        if word.upper() != "FROM":
            raise UsageError(f"a Dockerfile begins with FROM, not with {word}")
        built = self._based_on(base.split()[0], spec, recorder)
        for number, text in enumerate(steps[1:], 2):
            built = self._step(built, text, f"step {number}/{len(steps)}", spec, recorder)
        with self._call("build"):
            gallery = self._world.gallery
            recorder.run(Act("image", f"build {' '.join(names)}".rstrip(), lambda: gallery.put(built, names)))
            image = gallery.image(built, names[0] if names else "")
        self._tell()
        return image

    def _based_on(self, base: str, spec: BuildSpec, recorder: Recorder) -> Picture:
        with self._call("build"):
            is_here = self._world.gallery.has(base)
        if not is_here or spec.pull:
            recorder.say(f"pulling {base}")
            self.image_pull(base, spec.transfer, recorder)
        with self._call("build"):
            found = self._world.gallery.find(base)
        config = changed(found.config, [f"LABEL {key}={value}" for key, value in spec.labels.items()])
        return Picture(found.history, self._world.now().epoch_s, config)

    def _step(self, before: Picture, text: str, part: str, spec: BuildSpec, recorder: Recorder) -> Picture:
        recorder.say(f"{part}: {text}")
        key = digest_of(before.id, text, sorted(spec.build_args.items()))
        cache = self._world.gallery.cache
        word, _, rest = text.partition(" ")
        makes_layer = word.upper() in ("RUN", "COPY", "ADD")
        if key in cache and not spec.no_cache:
            recorder.say("  cached")
            recorder.progress(Progress(part, "cached", 1, 1, "steps"))
        else:
            recorder.progress(Progress(part, text, 0, 1, "steps"))
            if makes_layer:
                Haul([Part(part, STEP_BYTES)], self._bytes_per_s, self._world.clock).run(recorder, "", tells=False)
                for line in range(3):
                    recorder.say(f"  {rest.partition(' ')[0]}: line {line + 1} of 3")
            if word.upper() == "RUN" and rest.split()[:1] == ["false"]:
                raise InnkeeperError(f"{part}: RUN {rest} failed with exit code 1", hint="its output is in the log")
            recorder.progress(Progress(part, "done", 1, 1, "steps"))
        cache.add(key)
        step = layer(text, _likely_size(text), self._world.now().epoch_s, before.id) if makes_layer else None
        config = before.config if makes_layer else changed(before.config, [text])
        history = before.history if step is None else (*before.history, step)
        return Picture(history, before.created_s, config)

    def _haul(self, parts: list[Part], name: str, doing: str, here: str, recorder: Recorder) -> None:
        fails_at = BROKEN_AT if "flaky" in name else None
        haul = Haul(parts, self._bytes_per_s, self._world.clock)
        if not haul.run(recorder, doing, here=here, fails_at=fails_at):
            raise BackendUnavailable(
                f"cannot move {name}: the simulated registry closed the connection", hint="try again; parts are kept"
            )


def _registry_of(name: str) -> str:
    head = name.partition("/")[0]
    return head if "/" in name and ("." in head or ":" in head) else "docker.io"


def _instructions(spec: BuildSpec) -> list[str]:
    folder = Path(spec.context)
    candidates = [Path(spec.dockerfile)] if spec.dockerfile else [folder / "Dockerfile", folder / "Containerfile"]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise NotFound(f"there is no Dockerfile in {spec.context}")
    lines = found.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    steps = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not steps:
        raise UsageError(f"{found} has no instructions")
    return steps


def _likely_size(text: str) -> int:
    return 1000 * int.from_bytes(hashlib.sha256(text.encode()).digest()[:2], "big")
