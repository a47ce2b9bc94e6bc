"""`inn oci`: the command line of runc and crun over the runtime, for those who call a runtime."""
