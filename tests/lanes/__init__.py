"""What `./run-tests` runs: the lanes, what each needs, and the guard that nothing is left behind."""
