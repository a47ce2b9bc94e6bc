"""Making images: from Dockerfiles, and from what a container has changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

from backends.errors import InnkeeperError, WrongState
from backends.image import BuildSpec, CommitOptions, FileChange, Image, TransferOptions
from backends.model import GuestRef, GuestState
from backends.native import protocol, secrets
from backends.native.images.store import ImageStore
from backends.native.images.stored import StoredImage
from backends.native.looking import Looking
from backends.native.making import Making
from backends.native.saving import Saving
from backends.native.snapshots import Snapshots
from backends.native.transferring import Transferring
from backends.trace import Recorder


class Building(Transferring, Saving, Making, Looking):
    """Builds images, and commits containers."""

    @property
    def image_store(self) -> ImageStore:
        """Where images are kept."""
        return self._images

    def build(self, spec: BuildSpec, recorder: Recorder) -> Image:
        """Build an image."""
        from backends.native.build import context, dockerfile, stages, workshop
        from backends.native.build.executor import Executor
        from backends.native.images.reference import parse_name

        names = [str(parse_name(name)) for name in spec.names]
        for secret in spec.secrets:
            secrets.read(secret)  # what cannot be read is said now, not at the step that wants it
        found = context.read(spec)
        recipe = stages.recipe(dockerfile.read(found.dockerfile), spec.build_args, self.platform_args(spec))
        target = recipe.target(spec.target)
        # So long no garbage is collected: what one step made, the next needs.
        with self._images.blobs.using(), workshop.workshop(self._store) as shop:
            built = Executor(self, spec, recipe, found, shop, recorder).build(target)
            self._images.put(built.digest, names, recorder)
        return self._made(names[0] if names else built.id)

    def _made(self, name: str) -> Image:
        wanted = self._images.resolve(name)
        found = [image for image in self.images() if image.id == wanted.id]
        return next((image for image in found if image.name == name), found[0])

    def platform_args(self, spec: BuildSpec) -> dict[str, str]:
        """Return the arguments that say for which platform is built."""
        from backends.native.images.platforms import Platform

        found: dict[str, str] = {}
        own = Platform.here()
        for prefix, platform in (("TARGET", Platform.parse(spec.platform) if spec.platform else own), ("BUILD", own)):
            found |= {f"{prefix}PLATFORM": str(platform), f"{prefix}OS": platform.os,
                      f"{prefix}ARCH": platform.architecture, f"{prefix}VARIANT": platform.variant}  # fmt: skip
        return found

    def fetched(self, name: str, options: TransferOptions, recorder: Recorder) -> StoredImage:
        """Fetch an image from its registry. Raises NotFound."""
        self.image_pull(name, options, recorder)
        return self._images.resolve(name)

    def _remove_of_dead_builds(self, recorder: Recorder) -> Iterator[str]:
        """Remove the containers of builds that live no more; they end with these by themselves, but for the moment
        between a container's start and the word that ties it to its build."""
        from backends.native.build.workshop import LABEL, lives

        for guest in self._roster.guests():
            build = guest.labels.get(LABEL)
            if build and not lives(self._store.state_dir, build):
                with suppress(InnkeeperError):
                    self.remove(guest.ref, recorder, force=True)
                    yield f"container {guest.name}: its build lives no more"

    @contextmanager
    def tied(self, ref: GuestRef) -> Iterator[None]:
        """Have a live container killed if this process ends before the body does, however it ends."""
        try:
            sock = self._supervisor(ref).connect()
        except WrongState:  # it has ended already
            yield
            return
        with sock:
            with suppress(protocol.Closed, OSError):
                # Without waiting for an answer: one whose program has ended meanwhile gives none.
                protocol.send(sock, {"op": "tie"})
            yield

    def commit(self, ref: GuestRef, name: str, options: CommitOptions, recorder: Recorder) -> Image:
        """Make an image of what a container has changed; it is held still meanwhile."""
        from backends.native.build import committing
        from backends.native.images.reference import parse_name

        names = [str(parse_name(name))] if name else []
        is_running = self._guest(ref).state == GuestState.RUNNING
        with self._store.locked(ref.id), self._images.blobs.using():
            self._recover_layers(ref)
            commit = committing.Commit(self._store, self._images, ref.id, options)
            with self._held_still(ref, recorder) if is_running and options.pause else nullcontext():
                layers = commit.pack(recorder)
            image = commit.keep(layers, names)
        self._journal.write(ref.id, self._store.record(ref.id).name, "commit", image=image.name)
        return self._made(names[0] if names else image.id)

    def changes(self, ref: GuestRef) -> Sequence[FileChange]:
        """Return what differs from the image, by path."""
        from backends.native.build.committing import changes_of_container

        with self._store.locked(ref.id):
            self._recover_layers(ref)
            return changes_of_container(self._store, self._images, ref.id)

    def _recover_layers(self, ref: GuestRef) -> None:
        """Finish a snapshot or restore that a crash cut short. The caller holds the container's lock."""
        Snapshots(self._store.folder(ref.id), self._store.record(ref.id).name).recover()
