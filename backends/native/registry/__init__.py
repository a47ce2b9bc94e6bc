"""Images from and to registries: the protocol of the OCI distribution specification over urllib3.

Loaded by what pulls, pushes and logs in alone (docs/decisions/registry-client.md).
"""
