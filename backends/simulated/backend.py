"""The simulated backend: everything a backend can do but to run programs, with nothing behind it."""

from __future__ import annotations

from backends.errors import UsageError
from backends.registry import BackendConfig
from backends.simulated.copies import CopyVerbs
from backends.simulated.images import ImageVerbs
from backends.simulated.lifecycle import LifecycleVerbs
from backends.simulated.limiting import LimitVerbs
from backends.simulated.networks import NetworkVerbs
from backends.simulated.saving import SavingVerbs
from backends.simulated.store import StoreVerbs
from backends.simulated.transfers import TransferVerbs
from backends.simulated.volumes import VolumeVerbs


class SimulatedBackend(
    LifecycleVerbs,
    LimitVerbs,
    SavingVerbs,
    StoreVerbs,
    ImageVerbs,
    TransferVerbs,
    CopyVerbs,
    NetworkVerbs,
    VolumeVerbs,
):
    """In-memory guests that move, deterministic by seed and clock. Always labelled as simulated."""


def make(config: BackendConfig) -> SimulatedBackend:
    """Make the backend.

    Options: guests, seed, names ("lifelike" or "hostile"), verb_s, bytes_per_s, and fail or hang (a call).

    Pulls, pushes and builds move 25 MB a second unless told otherwise.
    """
    options = dict(config.options)
    try:
        backend = SimulatedBackend(
            guests=int(options.pop("guests", "40")),
            seed=int(options.pop("seed", "1")),
            verb_s=float(options.pop("verb_s", "0")),
            bytes_per_s=float(options.pop("bytes_per_s", "25e6")),
            hostile=options.pop("names", "lifelike") == "hostile",
        )
    except ValueError as error:
        raise UsageError(f"an option of the simulated backend makes no sense: {error}") from error
    if "hang" in options:
        backend.faults.hang(*options.pop("hang").split(","))
    if "fail" in options:
        backend.faults.die(options.pop("fail"))
    if options:
        raise UsageError(f"the simulated backend has no option {sorted(options)[0]!r}")
    return backend
