"""Virtual machines of a libvirt daemon."""
