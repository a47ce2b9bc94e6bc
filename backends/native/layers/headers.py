"""Headers of a layer's tar, and what is wrong with them."""

from __future__ import annotations

import tarfile


class BadLayer(Exception):
    """The archive is no layer, or one that is refused."""


class Header(tarfile.TarInfo):
    """A header that notices how the archive ends: tarfile takes a damaged header for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Header:
        """Return the next header. Raises BadLayer for a damaged one."""
        try:
            return super().fromtarfile(tarfile)
        except _DAMAGES as error:
            raise BadLayer(f"damaged header: {error}") from None


_DAMAGES = tuple(
    getattr(tarfile, name) for name in ("InvalidHeaderError", "TruncatedHeaderError", "SubsequentHeaderError")
)
