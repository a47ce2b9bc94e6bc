"""Images from Dockerfiles (docs.docker.com/reference/dockerfile), and from what a guest has changed."""
