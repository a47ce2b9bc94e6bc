"""The small first process of `--init`: written here, assembled when a container is made, 1 KiB of machine code."""
