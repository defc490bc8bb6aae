import pytest
from smoke_run import smoke_run


@pytest.fixture
def make_run():
    return smoke_run
