"""Pulls, pushes and builds from the screen: a registry that wants to know who asks is told, and asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from app.tui.asker import Answer
from app.tui.questions import ask_text
from backends.assets import LoggingIn
from backends.errors import InnkeeperError, LoginNeeded, PermissionDenied
from backends.events import OperationEnded
from backends.image import TransferOptions
from widgets.line import Role
from widgets.text import clean

if TYPE_CHECKING:
    from app.tui.application import InnkeeperApp
    from app.tui.screens.base import BaseScreen

PLAIN = "http://"
"""Before the name of an image: its registry is to be talked to without TLS."""


def parse(text: str) -> tuple[str, TransferOptions]:
    """Return the name of an image as it is typed, and how its registry is talked to."""
    name = text.strip()
    return name.removeprefix(PLAIN), TransferOptions(plain_http=name.startswith(PLAIN))


class Registries:
    """Begins operations that talk to registries. Passwords go to the backend's LoggingIn and nowhere else."""

    def __init__(self, app: InnkeeperApp) -> None:
        self._app = app
        self._waiting: dict[tuple[str, str], list[Callable[[], object]]] = {}
        """What is to be begun again once one is logged in, by backend and registry."""

    def begin(self, command: str, backend: str, transfer: TransferOptions, **arguments: object) -> None:
        """Begin a command; if a registry refuses it for want of a login, ask for one and begin it again."""
        try:
            operation = self._app.station.submit(command, None, backend=backend, **arguments)
        except InnkeeperError as error:
            self._say(error.message, "bad")
            return

        def ended(event: OperationEnded) -> None:
            if isinstance(event.error, LoginNeeded):
                self._wanted(
                    backend, event.error, transfer, lambda: self.begin(command, backend, transfer, **arguments)
                )

        self._app.after[operation.id] = ended

    def _wanted(self, name: str, error: LoginNeeded, transfer: TransferOptions, again: Callable[[], object]) -> None:
        """Ask, unless the same is being asked or the user is about to answer something else."""
        try:
            backend = self._app.station.backend(name)
        except InnkeeperError:
            return
        if not isinstance(backend, LoggingIn):
            return
        key = (name, error.registry)
        if key in self._waiting:
            self._waiting[key].append(again)
        elif self._screen() is not None:
            self._waiting[key] = [again]
            self._ask_user(backend, key, transfer, "")

    def _ask_user(self, backend: LoggingIn, key: tuple[str, str], transfer: TransferOptions, user: str) -> None:
        registry = clean(key[1])

        def back() -> None:
            self._waiting.pop(key, None)
            self._say(f"not logged in at {registry}", "warn")

        ask_text(
            self._app, f"User at {registry}:", lambda text: self._ask_password(backend, key, transfer, text),
            value=user, hint="Esc gives it up", back=back,
        )  # fmt: skip

    def _ask_password(self, backend: LoggingIn, key: tuple[str, str], transfer: TransferOptions, user: str) -> None:
        name, registry = key

        def typed(password: str) -> None:
            options = TransferOptions(plain_http=transfer.plain_http, credentials=(user, password))
            self._say(f"logging in at {clean(registry)}")
            self._app.asker.ask(
                f"login {name}", f"login {registry}", lambda: backend.registry_login(registry, options), answered
            )

        def answered(answer: Answer[str]) -> None:
            error = answer.error
            if error is None:
                self._say(f"logged in at {clean(registry)}; kept in {clean(answer.value)}", "good")
                for again in self._waiting.pop(key, []):
                    again()
                return
            self._say(error.message, "bad")
            if isinstance(error, PermissionDenied) and self._screen() is not None:
                self._ask_user(backend, key, transfer, user)
            else:
                self._waiting.pop(key, None)

        def back() -> None:
            self._ask_user(backend, key, transfer, user)

        ask_text(
            self._app, f"Password of {clean(user)} at {clean(registry)}:", typed,
            hint="kept as inn login keeps it", is_secret=True, back=back,
        )  # fmt: skip

    def _screen(self) -> BaseScreen | None:
        """Return the screen in front if it is one of ours, and no dialog."""
        from app.tui.screens.base import BaseScreen

        return self._app.screen if isinstance(self._app.screen, BaseScreen) else None

    def _say(self, text: str, role: Role = "") -> None:
        screen = self._screen()
        if screen is not None:
            screen.say(text, role)
