"""Which image is meant by a name, a digest, or the beginning of an id."""

from __future__ import annotations

from collections.abc import Sequence

from backends.errors import AmbiguousName, InnkeeperError, NoSuchImage
from backends.native.images.reference import Reference
from backends.native.images.stored import StoredImage

_LEAST_DIGITS = 2
"""Of the beginning of an id."""


def is_name(text: str) -> bool:
    try:
        Reference.parse(text)
    except InnkeeperError:
        if not is_hex(text):
            raise
        return False
    return True


def is_hex(text: str) -> bool:
    return _LEAST_DIGITS <= len(text) <= 64 and set(text) <= set("0123456789abcdef")


def has_id(image: StoredImage, digits: str) -> bool:
    if not is_hex(digits):
        return False
    whole = [image.id, image.digest, *image.indexes] if len(digits) == 64 else [image.id]
    return any(digest.removeprefix("sha256:").startswith(digits) for digest in whole)


def is_called(image: StoredImage, wanted: Reference) -> bool:
    if not wanted.digest:
        return str(wanted) in image.names
    if wanted.digest not in (image.digest, *image.indexes):
        return False
    names = [Reference.parse(name).name for name in image.names]
    return not names or wanted.name in names


def name_for(image: StoredImage, asked: str) -> str:
    """Return the name under which somebody asked for it, else its first one."""
    if is_name(asked):
        shown = str(Reference.parse(asked))
        if shown in image.names:
            return shown
    return image.name


def one(name: str, found: Sequence[StoredImage]) -> StoredImage:
    if not found:
        raise NoSuchImage(
            f"there is no image {name}", hint="see: inn image ls; fetch it: inn image pull, or import one"
        )
    ids = {image.id for image in found}
    if len(ids) > 1:
        raise AmbiguousName(f"{name} is the beginning of {len(ids)} ids", hint="give more digits")
    return found[0]
