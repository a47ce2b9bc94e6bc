"""Carries out a Dockerfile: stage after stage, step after step, each from the cache if it was done before.

Every step makes an image of the one before it. Those in between are kept under a key that is made of what the step
depends on (the image before, the instruction, what it copies), so that a later build finds them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends.errors import Cancelled, InnkeeperError, NotFound, Unsupported, UsageError
from backends.image import BuildSpec
from backends.native.build import changes, job, modes, mounts
from backends.native.build.changes import environment
from backends.native.build.commands import body, check_run, check_sources, history, script, triggers_of
from backends.native.build.context import Context
from backends.native.build.dockerfile import DockerfileError
from backends.native.build.instruction import Instruction
from backends.native.build.job import Job
from backends.native.build.mounting import Mounting
from backends.native.build.pack import PackedLayer, pack
from backends.native.build.running import Run, run
from backends.native.build.stages import PREDEFINED, SCRATCH, Recipe, Stage, expanded
from backends.native.build.state import State, key_of
from backends.native.build.telling import Deferred, header, outcome, short
from backends.native.build.words import WordError
from backends.native.build.workshop import Workshop
from backends.native.images import host
from backends.native.images.config import time_text
from backends.native.images.platforms import Platform
from backends.native.images.stored import StoredImage
from backends.trace import Progress, Recorder

if TYPE_CHECKING:
    from backends.native.building import Building

_COMMENT = "innkeeper"


class Executor:
    """One build."""

    def __init__(
        self, backend: Building, spec: BuildSpec, recipe: Recipe, context: Context, shop: Workshop, recorder: Recorder
    ) -> None:
        self._backend, self._spec, self._recipe, self._context = backend, spec, recipe, context
        self._shop, self._recorder, self._store = shop, recorder, backend.image_store
        self._built: dict[int, StoredImage | None] = {}
        self._bases: dict[tuple[str, str], StoredImage] = {}
        self._done = self._total = 0
        self._used_args: set[str] = set(recipe.global_args)
        self._runs = 0

    def build(self, target: int) -> StoredImage:
        """Return the image of a stage, with those built that it needs."""
        needed = self._recipe.needed(target)
        self._total = sum(1 + _count(self._recipe.stages[number]) for number in needed)
        for number in needed:
            self._stage(number)
        self._recorder.progress(Progress("build", "built", self._total, self._total, "steps"))
        found = self._built[target]
        unused = sorted(set(self._spec.build_args) - self._used_args - set(PREDEFINED))
        if unused:
            self._recorder.say(f"no ARG takes the build argument {', '.join(unused)}")
        if self._spec.labels:
            state = State(self._recipe.stages[target], found)
            labels = {**(state.config.get("Labels") or {}), **self._spec.labels}
            text = "LABEL " + " ".join(f"{name}={value}" for name, value in self._spec.labels.items())
            self._keep(state, key_of(state, "label", text), None, {"Labels": labels}, text)
            found = state.image
        if found is None:
            raise UsageError("the Dockerfile makes no image: its last stage is empty")
        return found

    # ------------------------------------------------------------------ stages

    def _stage(self, number: int) -> StoredImage | None:
        if number in self._built:
            return self._built[number]
        stage = self._recipe.stages[number]
        title = stage.title(len(self._recipe.stages))
        count = 1 + _count(stage)
        state = State(stage)
        self._recorder.say(header(title, 1, count, f"FROM {stage.base}" + (f" AS {stage.name}" if stage.name else "")))
        self._begin(state)
        triggers = [] if stage.base_stage is not None else triggers_of(state.config, stage)
        if triggers:
            state.pending["OnBuild"] = None
        at = 1
        count += len(triggers)
        for step in [*triggers, *stage.steps]:
            self._recorder.check()
            if step.keyword == "ARG":
                self._arg(state, step)
                continue
            at += 1
            self._do(state, step, title, at, count)
        self._built[number] = state.image
        return state.image

    def _begin(self, state: State) -> None:
        stage = state.stage
        self._done += 1
        if stage.base_stage is not None:
            state.image = self._stage(stage.base_stage)
        elif stage.base.lower() != SCRATCH:
            try:
                state.image = self._base(stage.base, stage.platform or self._spec.platform, is_from=True)
            except InnkeeperError as error:
                error.args = (f"Dockerfile, line {stage.line}: FROM {stage.base}: {error.message}",)
                raise
        self._progress()

    def _base(self, name: str, platform: str, *, is_from: bool) -> StoredImage:
        """Return an image that is here, or fetch it."""
        if name == host.NAME:
            text = "the image host is this machine's own programs, and no content of an image"
            raise Unsupported(text, hint="choose another image")
        if (name, platform) in self._bases:
            return self._bases[name, platform]
        found = None
        if not self._spec.pull:
            try:
                found = self._store.resolve(name)
                wanted = Platform.parse(platform) if platform else None
                if wanted is not None and str(found.config.platform) != str(wanted):
                    found = None
            except NotFound:
                found = None
        if found is None:
            found = self._backend.fetched(name, replace(self._spec.transfer, platform=platform), self._recorder)
        self._store.stack(found)
        self._bases[name, platform] = found
        return found

    def _arg(self, state: State, step: Instruction) -> None:
        for name, text in step.pairs:
            value = expanded(text, state.values, self._recipe.escape, step.line) if text is not None else None
            if text is None:
                value = self._recipe.global_args.get(name, self._backend.platform_args(self._spec).get(name))
            value = self._spec.build_args.get(name, value)
            self._used_args.add(name)
            if value is not None:
                state.args[name] = value

    # ------------------------------------------------------------------ steps

    def step(self, state: State, step: Instruction) -> bool:
        """Do one; True if it was in the cache. Raises DockerfileError and what the step raises."""
        try:
            if step.keyword == "RUN":
                return self._run(state, step)
            if step.keyword in ("COPY", "ADD"):
                return self._copy(state, step)
            if step.keyword == "MAINTAINER":
                text = expanded(step.words[0], state.values, self._recipe.escape, step.line)
                return self._change(state, step, {}, author=text)
            found = changes.change(step, state.config, state.values, self._recipe.escape)
            if step.keyword == "CMD":
                state.own_command = True
            if step.keyword == "ENTRYPOINT" and not state.own_command:
                found["Cmd"] = None
            if step.keyword == "WORKDIR":
                return self._folder(state, step, found)
            return self._change(state, step, found)
        except WordError as error:
            raise DockerfileError(step.line, str(error)) from None

    def _change(self, state: State, step: Instruction, found: Mapping[str, Any], author: str = "") -> bool:
        text = history(step, found)
        key = key_of(state, "change", text, dict(found), author)
        return self._cached(state, key) or self._keep(state, key, None, found, text, author)

    def _folder(self, state: State, step: Instruction, found: Mapping[str, Any]) -> bool:
        text = history(step, found)
        key = key_of(state, "folder", text, dict(found), state.config.get("User"))
        if self._cached(state, key):
            return True
        place = self._shop.step()
        work = self._job(state, "folder", str(found["WorkingDir"]), place)
        job.perform(replace(work, owner=str(state.config.get("User") or "")), self._recorder)
        return self._keep(state, key, self._packed(place), found, text, upper=place / "upper")

    def _copy(self, state: State, step: Instruction) -> bool:
        work = self._copy_job(state, step)
        digest = job.digest(work, self._recorder)
        what = (step.keyword, work.destination, work.owner, work.mode, work.extracts)
        key = key_of(state, "copy", digest, *what)
        if self._cached(state, key):
            return True
        place = self._shop.step()
        onto = self._job(state, "copy", work.destination, place)
        done = job.perform(
            replace(work, op="copy", stack=onto.stack, upper=onto.upper, work=onto.work, target=onto.target),
            self._recorder,
        )
        for each in done["left_out"]:
            self._recorder.say(f"  left out: {each}")
        # What was copied counts, should somebody have changed it after it was looked at.
        key = key_of(state, "copy", done["digest"], *what)
        return self._keep(state, key, self._packed(place), {}, history(step, {}), upper=place / "upper")

    def _job(self, state: State, op: str, destination: str, place: Path) -> Job:
        stack = self._store.stack(state.image) if state.image else []
        return Job(
            op=op, destination=destination, stack=tuple(stack) or (str(self._shop.folder / "empty"),),
            upper=str(place / "upper"), work=str(place / "work"), target=str(self._shop.folder / "target"),
        )  # fmt: skip

    def _copy_job(self, state: State, step: Instruction) -> Job:
        escape, values = self._recipe.escape, state.values
        words = [expanded(word, values, escape, step.line) for word in step.words]
        *sources, last = words
        destination = changes.folder_of(last, state.config) if last else ""
        if not last:
            raise DockerfileError(step.line, f"{step.keyword} has no destination: its variables are not set")
        if last.endswith(("/", "/.")) or last == ".":
            destination = destination.rstrip("/") + "/"
        texts = {f"<<{doc.name}" for doc in step.heredocs} | {f"<<-{doc.name}" for doc in step.heredocs}
        files = [(doc.name, body(doc.body, doc.is_plain, values, escape, step.line)) for doc in step.heredocs]
        kept = [source for source in sources if source.replace("'", "").replace('"', "") not in texts]
        check_sources(step, kept)
        mode = expanded(step.flag("chmod"), values, escape, step.line)
        if mode and not modes.is_mode(mode):
            raise DockerfileError(step.line, f"--chmod={mode[:60]} is no mode, as 755 or u=rwX,go=rX")
        common = Job(
            op="digest", destination=destination, sources=tuple(kept), files=tuple(files),
            owner=expanded(step.flag("chown"), values, escape, step.line), mode=mode,
            extracts=step.keyword == "ADD", source_target=str(self._shop.folder / "source"),
        )  # fmt: skip
        return self._sourced(state, common, step.flag("from"), step.line)

    def _sourced(self, state: State, work: Job, origin: str, line: int) -> Job:
        """Return a job with what it copies from: a stage or image, or without a name the context."""
        if not origin:
            return replace(work, context=self._context.folder, ignore=self._context.ignore)
        image = self._origin(state, origin, line)
        layers = self._store.stack(image) if image else [str(self._shop.folder / "empty")]
        return replace(work, source_layers=tuple(layers), source_name=f"stage or image {origin}")

    def _origin(self, state: State, name: str, line: int) -> StoredImage | None:
        number = self._recipe.stage(name, state.stage.number)
        if number is not None:
            return self._stage(number)
        try:
            return self._base(name, self._spec.platform, is_from=False)
        except InnkeeperError as error:
            raise DockerfileError(line, f"--from={name}: {error.message}", hint=error.hint) from error

    def _run(self, state: State, step: Instruction) -> bool:
        check_run(step)
        if state.image is None or not state.image.layers:
            raise DockerfileError(step.line, "RUN cannot be here: there is no file in the image yet")
        args = script(step, state.config)
        network = {"": self._spec.network, "default": self._spec.network}.get(
            step.flag("network"), step.flag("network")
        )
        env = environment(state.config)
        given = {name: value for name, value in state.args.items() if name not in env}
        mounting = self._mounting(state, step)
        mounting.look(self._recorder)
        key = key_of(state, "run", args, given, *mounting.key())
        if self._cached(state, key):
            return True
        proxies = {name: self._spec.build_args[name] for name in PREDEFINED if name in self._spec.build_args}
        self._runs += 1
        asked = Run(
            args=args, env={**proxies, **given, **env}, cwd=str(state.config.get("WorkingDir") or "/"),
            user=str(state.config.get("User") or ""), network=network, build_id=self._shop.id, number=self._runs,
        )  # fmt: skip
        place = self._shop.step()
        image = self._store.for_container(state.image, state.image.name)
        # Folders that are to be volumes keep in the build what is written to them.
        image = replace(image, env=[], volumes=[], exposed_ports=[], health=None, entrypoint=[], command=[])
        with mounting.made(self._store.state_dir, self._spec.secrets, self._recorder) as made:
            image = replace(image, mounts=made.mounts)
            code = run(self._backend, image, replace(asked, secrets=made.secrets), place / "upper", self._recorder)
        # What was shown counts, should somebody have changed it after it was looked at.
        key = key_of(state, "run", args, given, *mounting.key())
        if code != 0:
            raise InnkeeperError(f"ended with exit code {code}: {short(step.rest, 200)}")
        layer = self._packed(place) if any((place / "upper").iterdir()) else None
        prefix = f"|{len(given)} {' '.join(f'{name}={value}' for name, value in given.items())} " if given else ""
        text = f"RUN {prefix}{' '.join(args)}"
        return self._keep(state, key, layer, {}, text, upper=place / "upper" if layer else None)

    def _mounting(self, state: State, step: Instruction) -> Mounting:
        def expand(text: str) -> str:
            return expanded(text, state.values, self._recipe.escape, step.line)

        def sourced(work: Job, origin: str) -> Job:
            return self._sourced(state, work, origin, step.line)

        return Mounting(mounts.of(step, expand), state.config, sourced, self._shop, step.line)

    # ------------------------------------------------------------------ results

    def _cached(self, state: State, key: str) -> bool:
        if self._spec.no_cache:
            return False
        try:
            found = self._store.cached(key)
            if found is None:
                return False
            self._store.stack(found)
        except InnkeeperError:  # damaged, or half gone: it is made anew
            return False
        state.image, state.pending = found, {}
        return True

    def _packed(self, place: Path) -> PackedLayer:
        with self._store.blobs.ingest() as ingest:
            return pack(str(place / "upper"), ingest, lambda done: self._recorder.check())

    def _keep(
        self,
        state: State,
        key: str,
        layer: PackedLayer | None,
        found: Mapping[str, Any],
        text: str,
        author: str = "",
        *,
        upper: Path | None = None,
    ) -> bool:
        """Make the image of a step that was done, and keep it for later builds. Always False: it was not cached."""
        config = {**state.pending, **found}
        if len(json.dumps({**state.config, **config})) > changes.LONGEST:
            raise WordError(f"the image's configuration would be longer than {changes.LONGEST // 1024**2} MiB")
        if layer is not None and upper is not None:
            parent = state.image.chain_id if state.image else ""
            self._store.layers.adopt(upper, layer.diff_id, parent)
        entry = {"created": time_text(time.time()), "created_by": text, "comment": _COMMENT}
        if author:
            entry["author"] = author
        with self._store.blobs.using():
            self._store.forget_cached(key)
            state.image = self._store.add_layer_image(state.image, layer, config, entry, (), cache_key=key)
        state.pending = {}
        return False

    # ------------------------------------------------------------------ what is said

    def _do(self, state: State, step: Instruction, title: str, at: int, count: int) -> None:
        """Do a step, and say so."""
        outer, before, began_s = self._recorder, state.image, time.monotonic()
        text = f"{step.keyword} {step.rest}"
        said = Deferred(outer, lambda end: outer.say(header(title, at, count, text, end)))
        self._recorder = said
        self._progress()
        try:
            is_cached = self.step(state, step)
        except InnkeeperError as error:
            said.tell()
            if not isinstance(error, DockerfileError | Cancelled):
                error.args = (f"Dockerfile, line {step.line}: {step.keyword}: {error.message}",)
            raise
        finally:
            self._recorder = outer
            self._done += 1
        said.tell("CACHED" if is_cached else "")
        if not is_cached and (line := outcome(step, time.monotonic() - began_s, before, state.image)):
            outer.say(line)

    def _progress(self) -> None:
        self._recorder.progress(Progress("build", "building", self._done, self._total, "steps"))


def _count(stage: Stage) -> int:
    return sum(step.keyword != "ARG" for step in stage.steps)
