"""The container runtime itself: an OCI config.json becomes a running container.

Used by `inn oci` and by the native backend.
"""
