"""Set-up of a checkout for `./inn` and `./run-tests`: the virtual environment and the Debian packages.

Runs before anything is installed, so it imports only the standard library.
"""
