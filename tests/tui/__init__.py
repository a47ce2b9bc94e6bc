"""The screen, under Textual's Pilot, over simulated guests."""
