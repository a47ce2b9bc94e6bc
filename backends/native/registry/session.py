"""One pull, push or login: its connections, its credentials, and whom it talks to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backends.errors import Cancelled, NotFound
from backends.native.registry import credentials, settings, trust
from backends.native.registry.client import Client
from backends.native.registry.credentials import Credentials
from backends.native.registry.settings import Place
from backends.native.registry.web import Patience, Web

if TYPE_CHECKING:
    from pathlib import Path

    from backends.image import TransferOptions
    from backends.native.images.reference import Reference
    from backends.trace import Recorder


def places_to_pull(reference: Reference) -> list[Place]:
    """Return where the settings say that an image comes from, in the order in which it is tried."""
    by_digest = bool(reference.digest)
    return settings.places(reference.registry, reference.repository, by_digest=by_digest, settings=settings.read())


@contextmanager
def clients(
    places: Sequence[Place], options: TransferOptions, recorder: Recorder, patience: Patience | None = None
) -> Iterator[tuple[Web, list[Client]]]:
    """Yield a client for each place; their connections are closed afterwards. Raises Cancelled for what broke of it."""
    insecure = frozenset(place.host for place in places if place.insecure)
    trusted = trust.truster(verify=options.tls_verify, ca_file=options.ca_file, insecure=insecure)
    with Web.opened(trusted, recorder, patience) as web:
        try:
            yield web, [_client(web, place, options) for place in places]
        except Cancelled:
            raise
        except Exception:
            recorder.check()  # a connection that was broken off because of it is no news
            raise


def _client(web: Web, place: Place, options: TransferOptions) -> Client:
    if options.credentials is not None and not place.is_mirror:
        found: Credentials | None = Credentials(*options.credentials)
    else:
        found = credentials.find(place.registry, place.repository, options.auth_file)
    client = Client(web, place, found, plain_http=options.plain_http)
    client.settle()
    return client


def login(registry: str, options: TransferOptions, recorder: Recorder, patience: Patience | None = None) -> Path:
    """Check options.credentials at a registry and keep them; return the file. Raises PermissionDenied."""
    assert options.credentials is not None
    place = settings.places(registry, "-", by_digest=False, settings=settings.read())[-1]
    with clients([place], options, recorder, patience) as (_, (client,)):
        try:
            client.check()
        except NotFound as error:
            raise NotFound(f"{registry} is no registry of images: it has no /v2/") from error
    return credentials.keep(registry, Credentials(*options.credentials), options.auth_file)
