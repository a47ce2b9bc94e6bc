"""A twin of `dataclasses` for processes that live for milliseconds.

The standard module writes source for each class and compiles it: 80 classes cost 35 ms, and its import 14 ms more,
of which `inspect` is most. A runtime's `create` would spend more time on that than on the container. Here methods
are shared closures: a class costs some microseconds, an instance a little more than usual.

install() puts it in the place of the standard module, in `inn oci` only. What it does not know it leaves to that.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

_FIELDS = "__dataclass_fields__"


class FrozenInstanceError(AttributeError):
    """Somebody assigned to a frozen value."""


class _Missing:
    """No default."""


MISSING = _Missing()


class Field:
    """One field: what its class says of it."""

    __slots__ = ("compare", "default", "default_factory", "hash", "init", "kw_only", "metadata", "name", "repr", "type")

    def __init__(
        self, default: Any, default_factory: Any, init: bool, repr: bool, compare: bool, kw_only: bool
    ) -> None:
        self.name = ""
        self.type: Any = None
        self.default, self.default_factory = default, default_factory
        self.init, self.repr, self.compare, self.kw_only = init, repr, compare, kw_only
        self.hash: bool | None = None
        self.metadata: Mapping[Any, Any] = {}


def field(
    *,
    default: Any = MISSING,
    default_factory: Any = MISSING,
    init: bool = True,
    repr: bool = True,
    hash: bool | None = None,
    compare: bool = True,
    metadata: Any = None,
    kw_only: bool = False,
) -> Any:
    """Say more of a field than its type."""
    found = Field(default, default_factory, init, repr, compare, kw_only)
    found.hash, found.metadata = hash, metadata or {}
    return found


def dataclass(cls: type | None = None, /, **options: Any) -> Any:
    """Make a class one of values, as the standard decorator does."""

    def wrap(found: type) -> type:
        return _made(found, **options)

    return wrap if cls is None else wrap(cls)


def _made(
    cls: type,
    init: bool = True,
    repr: bool = True,
    eq: bool = True,
    order: bool = False,
    unsafe_hash: bool = False,
    frozen: bool = False,
    match_args: bool = True,
    kw_only: bool = False,
    slots: bool = False,
    weakref_slot: bool = False,
) -> type:
    own = _own_fields(cls, kw_only)
    known: dict[str, Field] = {}
    for base in cls.__mro__[-1:0:-1]:
        known.update(base.__dict__.get(_FIELDS, {}))
    known.update(own)
    methods: dict[str, Any] = {_FIELDS: known, "__dataclass_params__": (init, repr, eq, order, frozen)}
    named = tuple(known.values())
    if init:
        methods["__init__"] = _init(named, hasattr(cls, "__post_init__"))
    if repr:
        methods["__repr__"] = _repr(tuple(one.name for one in named if one.repr))
    compared = tuple(one.name for one in named if one.compare)
    if eq:
        methods |= _equality(compared, frozen or unsafe_hash)
    if order:
        methods |= _orders(compared)
    if frozen:
        methods |= {"__setattr__": _refuse_setting, "__delattr__": _refuse_deleting}
    if match_args:
        methods["__match_args__"] = tuple(one.name for one in named if one.init and not one.kw_only)
    return _finished(cls, own, methods, slots)


def _own_fields(cls: type, kw_only: bool) -> dict[str, Field]:
    found = {}
    for name, kind in cls.__annotations__.items():
        if str(kind).startswith(("ClassVar", "typing.ClassVar")):
            continue
        default = cls.__dict__.get(name, MISSING)
        one = default if isinstance(default, Field) else Field(default, MISSING, True, True, True, False)
        one.name, one.type, one.kw_only = name, kind, one.kw_only or kw_only
        found[name] = one
    return found


def _finished(cls: type, own: dict[str, Field], methods: dict[str, Any], slots: bool) -> type:
    for name, method in methods.items():
        # What the class itself defines wins; __hash__ is None in every class that defines __eq__.
        if name not in cls.__dict__ or (name == "__hash__" and "__eq__" not in cls.__dict__):
            setattr(cls, name, method)
    if not slots:
        for name, one in own.items():
            if one.default is not MISSING:
                setattr(cls, name, one.default)
            elif isinstance(cls.__dict__.get(name), Field):
                delattr(cls, name)
        return cls
    inherited = {name for base in cls.__mro__[1:] for name in _slots_of(base)}
    content = {name: value for name, value in cls.__dict__.items() if name not in own}
    content.pop("__dict__", None)
    content.pop("__weakref__", None)
    content["__slots__"] = tuple(name for name in own if name not in inherited)
    content["__qualname__"] = cls.__qualname__
    return type(cls)(cls.__name__, cls.__bases__, content)


def _slots_of(cls: type) -> Iterable[str]:
    names = cls.__dict__.get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)


def _init(named: tuple[Field, ...], has_post: bool) -> Callable[..., None]:
    positional = tuple(one.name for one in named if one.init and not one.kw_only)
    by_name = tuple((one.name, one.default, one.default_factory, one.init) for one in named)
    put = object.__setattr__

    def __init__(self: Any, *args: Any, **given: Any) -> None:
        if len(args) > len(positional):
            raise TypeError(f"{type(self).__name__} takes {len(positional)} arguments, not {len(args)}")
        for name, value in zip(positional, args, strict=False):
            if name in given:
                raise TypeError(f"{type(self).__name__} got several values for {name!r}")
            put(self, name, value)
        taken = positional[: len(args)]
        for name, default, factory, is_asked in by_name:
            if name in taken:
                continue
            if is_asked and name in given:
                put(self, name, given.pop(name))
            elif default is not MISSING:
                put(self, name, default)
            elif factory is not MISSING:
                put(self, name, factory())
            elif is_asked:
                raise TypeError(f"{type(self).__name__} lacks {name!r}")
        if given:
            raise TypeError(f"{type(self).__name__} has no {next(iter(given))!r}")
        if has_post:
            self.__post_init__()

    return __init__


def _repr(names: tuple[str, ...]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    return __repr__


def _equality(names: tuple[str, ...], is_hashed: bool) -> dict[str, Any]:
    def __eq__(self: Any, other: object) -> Any:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in names)

    def __hash__(self: Any) -> int:
        return hash(tuple(getattr(self, name) for name in names))

    return {"__eq__": __eq__, "__hash__": __hash__ if is_hashed else None}


def _orders(names: tuple[str, ...]) -> dict[str, Any]:
    import operator

    def order(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], Any]:
        def method(self: Any, other: object) -> Any:
            if type(self) is not type(other):
                return NotImplemented
            return compare(tuple(getattr(self, n) for n in names), tuple(getattr(other, n) for n in names))

        return method

    return {f"__{name}__": order(getattr(operator, name)) for name in ("lt", "le", "gt", "ge")}


def _refuse_setting(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_deleting(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def fields(value: Any) -> tuple[Field, ...]:
    """Return the fields of a value or its class."""
    return tuple(getattr(value, _FIELDS).values())


def is_dataclass(value: Any) -> bool:
    """Say whether it is a class of values, or one of them."""
    return hasattr(value if isinstance(value, type) else type(value), _FIELDS)


def replace(value: Any, /, **changes: Any) -> Any:
    """Return a value with some fields changed."""
    kept = {one.name: getattr(value, one.name) for one in fields(value) if one.init and one.name not in changes}
    return type(value)(**kept, **changes)


def asdict(value: Any) -> dict[str, Any]:
    """Return a value's fields by name, those within it too."""
    return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def __getattr__(name: str) -> Any:
    """What is not here (InitVar, make_dataclass …) is the standard module's."""
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(_standard(), name)


def _standard() -> Any:
    """Return the standard module, which is not in its place after install()."""
    own = sys.modules.get("dataclasses")
    if own is sys.modules[__name__]:
        del sys.modules["dataclasses"]
    try:
        import dataclasses

        return dataclasses
    finally:
        if own is sys.modules[__name__]:
            sys.modules["dataclasses"] = own


def install() -> None:
    """Take the standard module's place, unless it is loaded already."""
    sys.modules.setdefault("dataclasses", sys.modules[__name__])
