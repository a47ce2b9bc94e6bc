"""What the program costs, measured; nothing here asserts. docs/performance.md says how to run it."""
