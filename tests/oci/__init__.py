"""`inn oci` as its callers use it."""
