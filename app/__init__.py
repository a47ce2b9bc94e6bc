"""Innkeeper's application: the core, the command line and the screen."""

__version__ = "0.1.0"
