import pytest

from gateway.kernel.errors import ErrorKind, UpstreamError
from workers.lingma import errors


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.LingmaNotReady("x"), ErrorKind.UPSTREAM_UNAVAILABLE),
        (errors.LingmaStartFailed("x"), ErrorKind.UPSTREAM_UNAVAILABLE),
        (errors.LingmaDisconnected("x"), ErrorKind.UPSTREAM_EOF),
        (errors.FramingError("x"), ErrorKind.UPSTREAM_PROTOCOL),
        (errors.AskRefused("x"), ErrorKind.UPSTREAM_PROTOCOL),
        (errors.ReaderTooSlow("x"), ErrorKind.UPSTREAM_PROTOCOL),
        (errors.RpcError(-32601, "x"), ErrorKind.UPSTREAM_PROTOCOL),
    ],
)
def test_every_error_is_one_of_the_upstream(error: UpstreamError, kind: ErrorKind) -> None:
    assert isinstance(error, UpstreamError)
    assert error.kind is kind
    assert error.message == "x"


def test_rpc_error_without_words_shows_its_code() -> None:
    assert errors.RpcError(-32603, "").message == "error -32603"
