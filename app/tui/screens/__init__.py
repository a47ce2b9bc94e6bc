"""The screens, each with its keys."""
