"""Guests that exist only in memory and move as real ones do: for tests, screenshots and measuring the screen."""
