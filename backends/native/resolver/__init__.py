"""Names of containers on a network: a small server of DNS, whose sockets are in the containers' own namespaces."""
