"""Containers for tests of networks."""

from tests.kernel.conftest import native as native
from tests.kernel.conftest import output_of as output_of
from tests.kernel.conftest import root as root
from tests.kernel.conftest import run as run
