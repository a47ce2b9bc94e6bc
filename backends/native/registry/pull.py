"""`image pull`: manifest and configuration first, then all layers that are not here, several at once.

What broke off goes on where it was, in the same pull and in a later one; two pulls of one layer share it. Whatever
comes is verified on its way in (Blobs.ingest); nothing refers to it until all of it is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from backends.errors import BackendUnavailable, Cancelled, InnkeeperError, NotFound, PermissionDenied
from backends.native.images.blobs import digest_of
from backends.native.images.config import Config, parse_config
from backends.native.images.manifest import MAX_BYTES, Descriptor, is_index, parse_index, parse_manifest
from backends.native.images.platforms import Platform, choose
from backends.native.registry import session
from backends.native.registry.crew import Crew, GivenUp
from backends.native.registry.failures import Answered, Broken, printable
from backends.trace import Progress

if TYPE_CHECKING:
    from backends.image import TransferOptions
    from backends.native.images.blobs import Blobs, Ingest
    from backends.native.images.reference import Reference
    from backends.native.registry.client import Client
    from backends.native.registry.web import Patience, Web
    from backends.trace import Recorder

_GAIN = 1 << 16
"""A connection that broke after so many bytes was of some use: patience begins anew."""

_STAYS = (Cancelled, GivenUp, BackendUnavailable, Answered, NotFound, PermissionDenied)
"""Errors that say nothing against what has come of a blob."""

_MOST_DEPTH = 3
"""Indexes of indexes end somewhere."""


def pull(
    reference: Reference, options: TransferOptions, blobs: Blobs, recorder: Recorder, patience: Patience | None = None
) -> str:
    """Bring an image's manifest, configuration and layers into the store; return the digest that its name stands for.

    That is of an index where the registry has one: of it, the index and the image for the platform are brought.
    Hold blobs.using() until it has a name. Raises NotFound, PermissionDenied, BackendUnavailable, Unsupported,
    Cancelled, InnkeeperError (digests).
    """
    wanted = Platform.parse(options.platform) if options.platform else Platform.here()
    with session.clients(session.places_to_pull(reference), options, recorder, patience) as (web, clients):
        client, data = _find(reference, clients, recorder)
        indexes = [data]
        while is_index(indexes[-1], f"the manifest of {reference}"):
            if len(indexes) > _MOST_DEPTH:
                raise InnkeeperError(f"the manifest of {reference} is an index in an index, and so on")
            indexes.append(_chosen(client, indexes[-1], wanted, reference))
        raw = indexes.pop()
        manifest = parse_manifest(raw, f"the manifest of {reference}")
        fetcher = Fetcher(web, [client, *(other for other in clients if other is not client)], blobs, recorder)
        fetcher.fetch(manifest.config, shown=False)
        config = parse_config(blobs.read(manifest.config.digest, MAX_BYTES))
        _check_platform(config, wanted, options, reference, recorder)
        fetcher.fetch_all(manifest.layers)
        for found in (raw, *indexes):
            blobs.put(found)
        return digest_of(data)


def _find(reference: Reference, clients: Sequence[Client], recorder: Recorder) -> tuple[Client, bytes]:
    """Return the first that has the image, and what it has; the last one's error is the error."""
    for client in clients:
        try:
            return client, client.manifest(reference.digest or reference.tag, str(reference))
        except Cancelled:
            raise
        except InnkeeperError as error:
            if client is clients[-1]:
                raise
            recorder.say(f"mirror {client.place.registry}: {error.message}; trying the next one")
    raise NotFound(f"{reference} is nowhere to be pulled from")


def _chosen(client: Client, index: bytes, wanted: Platform, reference: Reference) -> bytes:
    entries = parse_index(index, f"the index of {reference}")
    number = choose([entry.platform for entry in entries], wanted)
    if number is None:
        there = sorted({printable(str(entry.platform), 40) for entry in entries if entry.platform})
        raise NotFound(f"{reference} is not there for {wanted}", hint=f"it is for {', '.join(there[:20]) or 'nothing'}")
    return client.manifest(entries[number].digest, str(reference))


def _check_platform(
    config: Config, wanted: Platform, options: TransferOptions, reference: Reference, recorder: Recorder
) -> None:
    """An image that is not in an index may be for anything. What was asked for has to be so; else it is only said."""
    if not config.platform.architecture or wanted.runs(config.platform) is not None:
        return
    text = f"{reference} is for {printable(str(config.platform), 40)}, not for {wanted}"
    if options.platform:
        raise NotFound(text)
    recorder.say(text)


class Fetcher:
    """Brings blobs from the first of several places that has them."""

    def __init__(self, web: Web, clients: Sequence[Client], blobs: Blobs, recorder: Recorder) -> None:
        self._web, self._clients, self._blobs, self._recorder = web, clients, blobs, recorder
        self._patience = web.patience
        self._crew = Crew()

    def fetch_all(self, layers: Sequence[Descriptor]) -> None:
        """Bring all layers; the first failure ends all of it."""
        unique = {layer.digest: layer for layer in layers if not self._is_left_out(layer)}
        self._crew.do_all(self.fetch, unique.values())

    def _is_left_out(self, layer: Descriptor) -> bool:
        """Foreign layers are seldom in a registry; the store says what it means that one is not here."""
        if not layer.is_foreign or self._blobs.has(layer.digest):
            return False
        return not self._clients[0].has_blob(layer.digest, to_push=False)

    def fetch(self, blob: Descriptor, *, shown: bool = True) -> None:
        """Bring one blob. Raises InnkeeperError."""

        def wait() -> None:
            self._tell(blob, "waiting for another pull", 0, shown)
            self._recorder.check()

        with self._blobs.ingest(blob.digest, blob.size, wait) as ingest:
            if ingest.is_here:
                return self._tell(blob, "already here", blob.size, shown)
            resumed_at = ingest.offset
            try:
                self._bring(blob, ingest, shown)
                ingest.commit()
            except InnkeeperError as error:
                # What was here of it may have been wrong; once from the beginning tells.
                if not resumed_at or isinstance(error, _STAYS):
                    raise
            else:
                return self._tell(blob, "downloaded", blob.size, shown)
        with self._blobs.ingest(blob.digest, blob.size) as ingest:
            ingest.restart()
            self._bring(blob, ingest, shown)
            ingest.commit()
        self._tell(blob, "downloaded", blob.size, shown)

    def _tell(self, blob: Descriptor, text: str, done: int, shown: bool) -> None:
        if shown:
            self._recorder.progress(Progress(blob.digest, text, done, blob.size))

    def _bring(self, blob: Descriptor, ingest: Ingest, shown: bool) -> None:
        """Write until all of it is here, through broken connections as long as there is some gain between them."""
        failures = 0
        self._tell(blob, "downloading", ingest.offset, shown)
        while ingest.offset < blob.size:
            before = ingest.offset
            try:
                self._read_once(blob, ingest, shown)
                if ingest.offset < blob.size:
                    raise Broken(f"{self._clients[0].place.host} sent {ingest.offset} bytes of {blob.size}")
            except Broken as error:
                failures = 1 if ingest.offset - before >= _GAIN else failures + 1
                if failures >= self._patience.attempts:
                    raise
                self._web.rest(failures, error.message)

    def _read_once(self, blob: Descriptor, ingest: Ingest, shown: bool) -> None:
        for client in self._clients:
            try:
                self._read_from(client, blob, ingest, shown)
            except (NotFound, PermissionDenied, Answered):
                if client is self._clients[-1]:
                    raise
            else:
                return

    def _read_from(self, client: Client, blob: Descriptor, ingest: Ingest, shown: bool) -> None:
        with client.blob(blob.digest, ingest.offset) as (answer, begin):
            if begin != ingest.offset:
                ingest.restart()
                if begin != 0:
                    return  # a part that was not asked for; from the beginning then
            for data in answer.stream():
                ingest.write(data)
                self._recorder.check()
                self._crew.check()
                if ingest.offset < blob.size:
                    self._tell(blob, "downloading", ingest.offset, shown)
