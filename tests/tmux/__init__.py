"""The real program in a real terminal multiplexer, driven by keys."""
