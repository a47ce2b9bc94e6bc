"""Images: what containers are made from."""
