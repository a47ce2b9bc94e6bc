"""The only code that talks to the kernel: readers, and a step class for each thing that changes it."""
