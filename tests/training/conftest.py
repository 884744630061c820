import pytest

from tests.training.fork_server import ForkServer


@pytest.fixture(scope="session")
def forked():
    """Runs in processes of their own, to be interrupted."""
    server = ForkServer()
    yield server
    server.close()
