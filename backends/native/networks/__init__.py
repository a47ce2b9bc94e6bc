"""Networks of containers: what is kept of them, their addresses, and how a container is on them."""
