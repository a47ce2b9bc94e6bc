"""What `run` lets a user say about a container, each kind turned into its part of an OCI config.json."""
