"""All simulated images and the layers that they share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from backends.errors import AmbiguousName, Busy, NoSuchImage, NotFound, UsageError
from backends.image import Image, ImageLayer, Pruned, PruneOptions, short_id

PLATFORM = "linux/amd64"
HIDDEN = 5
"""Fewer digits of an id than that are no id."""

Users = Callable[[], Mapping[str, Sequence[str]]]
"""Tells which guests are made from which image: the word they were made with → their names."""


def digest_of(*words: object) -> str:
    """Return a digest that depends on nothing but the words."""
    return "sha256:" + hashlib.sha256("\0".join(map(str, words)).encode()).hexdigest()


def whole_name(name: str) -> str:
    """Return a name as it is kept: with a tag. Raises UsageError."""
    name = name.strip()
    if not name:
        raise UsageError("an image needs a name")
    return name if ":" in name.rpartition("/")[2] or "@" in name else name + ":latest"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image in memory: what it is, whatever it is called."""

    history: tuple[ImageLayer, ...]
    created_s: float
    config: Mapping[str, Any] = field(default_factory=dict)
    """The `config` of an OCI image configuration: "Env", "Cmd", "ExposedPorts" …"""

    @property
    def id(self) -> str:
        """The digest of its configuration."""
        return digest_of(*[(step.created_by, step.digest, step.size_bytes) for step in self.history], self.config)

    @property
    def digest(self) -> str:
        """The digest of its manifest."""
        return digest_of("manifest", self.id)

    @property
    def layers(self) -> tuple[ImageLayer, ...]:
        """The steps that made a layer."""
        return tuple(step for step in self.history if step.digest)


class Gallery:
    """Images by id, and their names. The world's lock guards it."""

    def __init__(self, users: Users) -> None:
        self._users = users
        self._pictures: dict[str, Picture] = {}
        self._names: dict[str, str] = {}
        self.cache: set[str] = set()
        """Steps of builds that need not be done again."""

    # ---- finding

    def find(self, name: str) -> Picture:
        """Return an image by name, id or digest. Raises NotFound, AmbiguousName."""
        found = self._names.get(name) or self._names.get(whole_name(name))
        if found is not None:
            return self._pictures[found]
        wanted = name.removeprefix("sha256:")
        fits = [
            each for each in self._pictures.values()
            if each.digest == name or (len(wanted) >= HIDDEN and each.id.removeprefix("sha256:").startswith(wanted))
        ]  # fmt: skip
        if len(fits) > 1:
            raise AmbiguousName(f"{name!r} fits {len(fits)} images")
        if not fits:
            raise NoSuchImage(f"there is no image {name!r}", hint="known: " + ", ".join(list(self._names)[:12]))
        return fits[0]

    def has(self, name: str) -> bool:
        """True if an image has this name."""
        return whole_name(name) in self._names

    def names_of(self, picture: Picture) -> list[str]:
        """Return its names."""
        return [name for name, id in self._names.items() if id == picture.id]

    def has_layer(self, digest: str) -> bool:
        """True if an image that is here has this layer."""
        return any(step.digest == digest for each in self._pictures.values() for step in each.layers)

    # ---- what is told of them

    def images(self) -> list[Image]:
        """Return all, one a name; an image without a name stands under its id."""
        shared = self._counts()
        users = self._users_by_id()
        told: list[Image] = []
        for picture in self._pictures.values():
            for name in self.names_of(picture) or [short_id(picture.id)]:
                told.append(self._image(picture, name, shared, users))
        return sorted(told, key=lambda image: (image.is_dangling, image.name))

    def image(self, picture: Picture, name: str = "") -> Image:
        """Return one of them as others see it."""
        named = name or next(iter(self.names_of(picture)), short_id(picture.id))
        return self._image(picture, named, self._counts(), self._users_by_id())

    def _image(
        self, picture: Picture, name: str, shared: Mapping[str, int], users: Mapping[str, tuple[str, ...]]
    ) -> Image:
        return Image(
            name=name,
            id=picture.id,
            created_s=picture.created_s,
            size_bytes=sum(step.size_bytes for step in picture.layers),
            layers=len(picture.layers),
            digest=picture.digest,
            platform=PLATFORM,
            own_bytes=sum(step.size_bytes for step in picture.layers if shared[step.digest] == 1),
            users=users.get(picture.id, ()),
            labels=dict(picture.config.get("Labels") or {}),
        )

    def history(self, picture: Picture) -> list[ImageLayer]:
        """Return how it was made, oldest step first."""
        shared = self._counts()
        return [replace(step, images=shared.get(step.digest, 1)) for step in picture.history]

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for picture in self._pictures.values():
            for digest in {step.digest for step in picture.layers}:
                counts[digest] = counts.get(digest, 0) + 1
        return counts

    def _users_by_id(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for word, names in self._users().items():
            try:
                picture = self.find(word)
            except (NotFound, AmbiguousName, UsageError):  # a guest may outlive what it was made from
                continue
            found[picture.id] = tuple(sorted({*found.get(picture.id, ()), *names}))
        return found

    # ---- changing

    def put(self, picture: Picture, names: Sequence[str] = ()) -> Picture:
        """Take an image over under these names; names that others have are taken from them."""
        self._pictures.setdefault(picture.id, picture)
        for name in names:
            self._names[whole_name(name)] = picture.id
        return picture

    def remove(self, name: str, *, force: bool = False) -> None:
        """Take a name away, and the image with its last one. Raises Busy, NotFound."""
        picture = self.find(name)
        names = self.names_of(picture)
        is_name = whole_name(name) in names
        if is_name and len(names) > 1 and not force:
            del self._names[whole_name(name)]
            return
        if not is_name and len(names) > 1 and not force:
            raise Busy(f"cannot remove image {name}: it has the names {', '.join(names)}", hint="force removes them")
        users = self._users_by_id().get(picture.id, ())
        if users:
            raise Busy(f"cannot remove image {name}: {users[0]} uses it")
        self._drop(picture)

    def _drop(self, picture: Picture) -> None:
        for name in self.names_of(picture):
            del self._names[name]
        del self._pictures[picture.id]

    def prune(self, options: PruneOptions, *, dry_run: bool) -> Pruned:
        """Remove what nobody uses, or say what that would be."""
        users = self._users_by_id()
        gone = [
            each for each in self._pictures.values()
            if each.id not in users and (options.all or not self.names_of(each))
        ]  # fmt: skip
        kept = {step.digest for each in self._pictures.values() if each not in gone for step in each.layers}
        freed = {step.digest: step.size_bytes for each in gone for step in each.layers if step.digest not in kept}
        told = tuple(name for each in gone for name in (self.names_of(each) or [short_id(each.id)]))
        if not dry_run:
            for each in gone:
                self._drop(each)
            if options.build_cache:
                self.cache.clear()
        return Pruned(told, layers=len(freed), blobs=len(freed) + 2 * len(gone), freed_bytes=sum(freed.values()))

    def __iter__(self) -> Iterator[Picture]:
        return iter(list(self._pictures.values()))
