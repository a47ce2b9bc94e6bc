"""What a new container takes from its image where it was not asked for something else, as docker has it.

::

    ENTRYPOINT CMD    args come in the place of CMD; an entry point asked for comes in the place of both
    ENV LABEL         those asked for are added, or replace those of the same name
    USER WORKDIR STOPSIGNAL HEALTHCHECK    unless asked for
    VOLUME            a volume of the container's own, unless something else is mounted there

See docker's daemon/commit.go (merge) and image-spec config.md, "Properties".
"""

from __future__ import annotations

from dataclasses import replace

from backends.container import ContainerSpec, HealthCheck
from backends.errors import UsageError
from backends.native.images.image import ImageConfig
from backends.native.options.mounts import user_mounts
from backends.native.options.volumes import place_in


def with_image(asked: ContainerSpec, image: ImageConfig) -> ContainerSpec:
    """Return all that the container is to be; only layers, mounts and ports remain the image's. Raises UsageError."""
    if asked.entrypoint is not None:
        args = (*asked.entrypoint, *asked.args)
    else:
        args = (*image.entrypoint, *(asked.args or image.command))
    if not args:
        raise UsageError(f"image {asked.image} names no program to run", hint="give one after the image")
    return replace(
        asked,
        args=args,
        entrypoint=(),
        env=(*image.env, *asked.env),
        cwd=asked.cwd or image.cwd or None,
        user=asked.user or image.user or None,
        stop_signal=asked.stop_signal or image.stop_signal,
        labels={**image.labels, **asked.labels} if image.labels else asked.labels,
        health=asked.health if asked.health is not None else _health(image),
        volumes=(*asked.volumes, *_volumes(asked, image)) if image.volumes else asked.volumes,
    )


def _health(image: ImageConfig) -> HealthCheck | None:
    if not image.health:
        return None
    known = {key: value for key, value in image.health.items() if key in HealthCheck.__dataclass_fields__}
    return HealthCheck(**known | {"args": tuple(image.health["args"])})


def _volumes(asked: ContainerSpec, image: ImageConfig) -> list[str]:
    taken = {mount["destination"] for mount in user_mounts(asked)}
    places = dict.fromkeys(place_in(f"volume {path!r} of image {image.name}", path) for path in image.volumes)
    return [place for place in places if place not in taken]
