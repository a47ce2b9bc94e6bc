"""Containers that others made with `inn oci`: docker, podman, containerd, or a person at a shell."""
