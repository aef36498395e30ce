from gateway.kernel.errors import ErrorKind
from workers.bootstrap.errors import BootstrapFailed


def test_missing_binary_means_nobody_can_take_work() -> None:
    assert BootstrapFailed("x").kind is ErrorKind.UPSTREAM_UNAVAILABLE
