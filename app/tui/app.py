"""The door to the screen. Imports Textual only after the first picture is on the terminal."""

from __future__ import annotations

import os
import sys

from app.core.settings import Settings
from app.core.workstation import Workstation
from app.tui import early
from backends.errors import UsageError


def run(settings: Settings) -> int:
    """Show the screen until the user leaves it; return the exit code.

    Raises UsageError where there is no terminal.
    """
    if not (sys.__stdin__ and sys.__stderr__ and os.isatty(sys.__stdin__.fileno()) and sys.__stderr__.isatty()):
        raise UsageError("the screen needs a terminal", hint="inn ps and inn top -n 3 --json work without one")
    early.paint(settings.backends)
    try:
        # Its threads open the backends and take the first samples while Textual is imported.
        with Workstation(settings, sampling=True) as station:
            from app.tui.application import InnkeeperApp
            from app.tui.leave import leave_in_time

            app = InnkeeperApp(station)
            app.run()
            leave_in_time(app.return_code or 0)
            return app.return_code or 0
    except BaseException:
        early.take_back()
        raise
