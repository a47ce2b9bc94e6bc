"""A line to type into that keeps the order of what is typed."""

from __future__ import annotations

from textual import events
from textual.widgets import Input


class Field(Input):
    """An Input that does its own keys itself.

    Textual hands them up to the app, which comes back with the action later than with letters that were typed after
    them: Ctrl-U and a word in one packet of a slow line would be an empty field.
    """

    async def on_key(self, event: events.Key) -> None:
        """Do what a key of this field means, before the next one is looked at."""
        own = self._bindings.key_to_bindings.get(event.key)
        if own:
            event.stop()
            event.prevent_default()
            await self.run_action(own[0].action)
