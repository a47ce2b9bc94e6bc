"""The command line: every verb of the screen as a command, with JSON where it prints."""
