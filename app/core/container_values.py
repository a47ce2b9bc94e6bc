"""Values of a new container as people write them, for the command line and for the form of the screen."""

from __future__ import annotations

import os
from collections.abc import Sequence


def variables(texts: Sequence[str]) -> tuple[str, ...]:
    """Return KEY=VALUE of each; KEY alone is taken from our environment, if it is there."""
    return tuple(
        text if "=" in text else f"{text}={os.environ[text]}" for text in texts if "=" in text or text in os.environ
    )


def volume(text: str) -> str:
    """Return the volume with the path of the host made absolute, where it is given from here."""
    source, colon, rest = text.partition(":")
    return f"{os.path.abspath(source)}{colon}{rest}" if source.startswith(".") else text  # noqa: PTH100
