"""The installed packages, where Python was started without looking for them."""

from __future__ import annotations

import sys


def load_site() -> None:
    """Make them importable if Python was started with -S, to be up sooner."""
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        site.main()
