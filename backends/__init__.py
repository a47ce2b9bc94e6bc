"""Sources of guests: what a guest is, what a backend promises, and the backends themselves."""
