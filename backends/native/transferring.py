"""Images from and to registries, as verbs of the backend; what talks to registries is loaded where it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from backends.errors import Unsupported, UsageError
from backends.image import Image, TransferOptions
from backends.native.imaging import Imaging
from backends.trace import Recorder

if TYPE_CHECKING:
    from backends.native.images.reference import Reference
    from backends.native.images.store import ImageStore


class Transferring(Imaging):
    """Transferring, LoggingIn."""

    def image_pull(self, name: str, options: TransferOptions, recorder: Recorder) -> Image:
        """Fetch an image, unpack it and give it its name."""
        from backends.native.images.reference import RESERVED, Reference

        if name == RESERVED:
            raise UsageError(f"the image {RESERVED} is made here and not pulled", hint=f"docker.io/library/{RESERVED}")
        reference = Reference.parse(name)
        _need_urllib3()
        image_id = recorder.run(PullImage(self._images, reference, options, recorder))
        found = [image for image in self.images() if image.id == image_id]
        return next((image for image in found if image.name == str(reference)), found[0])

    def image_push(self, name: str, options: TransferOptions, recorder: Recorder) -> str:
        """Send an image to the registry that its name begins with."""
        from backends.native.images.reference import Reference

        _need_urllib3()
        digest: str = recorder.run(PushImage(self._images, Reference.parse(name), options, recorder))
        return digest

    def registry_login(self, registry: str, options: TransferOptions) -> str:
        """Check credentials and keep them."""
        _need_urllib3()
        from backends.native.registry.session import login

        return str(login(_checked(registry), options, Recorder("host")))

    def registry_logout(self, registry: str, options: TransferOptions) -> Sequence[str]:
        """Forget credentials."""
        from backends.native.registry import credentials

        return [str(path) for path in credentials.forget(_checked(registry), options.auth_file)]


def _need_urllib3() -> None:
    """Say what is missing where Innkeeper runs from a checkout, with whatever Python there is."""
    try:
        import urllib3
    except ImportError:
        missing = "is not installed"
    else:
        missing = "" if hasattr(urllib3.HTTPResponse, "read1") else "is too old"
    if missing:
        what = f"cannot talk to registries: the Python package urllib3 {missing}"
        raise Unsupported(what, hint="pip install 'urllib3>=2.5'")


def _checked(registry: str) -> str:
    from backends.native.images.reference import Reference

    try:
        found = "" if "/" in registry else Reference.parse(f"{registry}/x").registry
    except UsageError:
        found = ""
    if found and (found == registry or registry == "index.docker.io"):
        return found
    raise UsageError(f"{registry!r} is no registry", hint="as in: registry.example, localhost:5000")


@dataclass(frozen=True, slots=True)
class PullImage:
    """The step that brings an image here; its result is the image's id."""

    images: ImageStore
    reference: Reference
    options: TransferOptions
    recorder: Recorder

    kind = "pull"

    def describe(self) -> str:
        """Say what is fetched from whom."""
        return f"pull {self.reference} from {self.reference.registry}"

    def by_hand(self) -> str:
        """Return skopeo's way."""
        return f"skopeo copy docker://{_whole(self.reference)} oci:{self.images.folder}:{self.reference}"

    def run(self) -> str:
        """Fetch what is missing, unpack it, give it its name."""
        from backends.native.registry.pull import pull

        with self.images.blobs.using():
            digest = pull(self.reference, self.options, self.images.blobs, self.recorder)
            tagged = replace(self.reference, digest="") if self.reference.tag else self.reference
            return self.images.put(digest, [str(tagged)], self.recorder, platform=self.options.platform).id

    def undo(self) -> None:
        """What is half here stays resumable; removing the image is a verb of its own."""


@dataclass(frozen=True, slots=True)
class PushImage:
    """The step that sends an image; its result is the digest of its manifest."""

    images: ImageStore
    reference: Reference
    options: TransferOptions
    recorder: Recorder

    kind = "push"

    def describe(self) -> str:
        """Say what is sent to whom."""
        return f"push {self.reference} to {self.reference.registry}"

    def by_hand(self) -> str:
        """Return skopeo's way."""
        return f"skopeo copy oci:{self.images.folder}:{self.reference} docker://{_whole(self.reference)}"

    def run(self) -> str:
        """Send what is missing there."""
        from backends.native.images.several import index_of, together
        from backends.native.registry.push import push, push_index

        with self.images.blobs.using():
            image = self.images.resolve(str(self.reference))
            all_of_it = together(self.images, image) if self.options.all_platforms else [image]
            elsewhere = self._elsewhere({layer.digest for each in all_of_it for layer, _, _ in each.layers})
            rest = (self.options, self.images.blobs, self.recorder)
            if not self.options.all_platforms:
                return push(self.reference, image.digest, *rest, elsewhere=elsewhere)
            self.recorder.say(f"platforms: {', '.join(sorted(str(each.config.platform) for each in all_of_it))}")
            return push_index(self.reference, index_of(self.images, all_of_it), *rest, elsewhere=elsewhere)

    def _elsewhere(self, wanted: set[str]) -> dict[str, list[str]]:
        """Return for each layer the other repositories of the registry whose images here have it."""
        from backends.native.images.reference import Reference

        found: dict[str, list[str]] = {}
        for image in self.images.stored():
            for name in map(Reference.parse, image.names):
                if name.registry == self.reference.registry and name.repository != self.reference.repository:
                    for layer, _, _ in image.layers:
                        if layer.digest in wanted and name.repository not in found.setdefault(layer.digest, []):
                            found[layer.digest].append(name.repository)
        return found

    def undo(self) -> None:
        """What is in a registry stays there."""


def _whole(reference: Reference) -> str:
    tag = f":{reference.tag}" if reference.tag else ""
    digest = f"@{reference.digest}" if reference.digest else ""
    return f"{reference.registry}/{reference.repository}{tag}{digest}"
