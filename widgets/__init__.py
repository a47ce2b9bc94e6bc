"""Reusable Textual widgets for guests and their figures; they show data and never fetch it."""
