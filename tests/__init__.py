"""All lanes of tests; `./run-tests` runs them."""
