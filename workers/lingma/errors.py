"""What can go wrong between a worker and its Lingma subprocess, as leaves of the kernel's error tree.

UpstreamUnavailable
├── LingmaNotReady       no process, no connection or no handshake yet; nothing was sent
└── LingmaStartFailed    the subprocess did not come up
UpstreamEof
└── LingmaDisconnected   the connection ended; what was sent may or may not have begun
UpstreamProtocol
├── FramingError         bytes that are no framed message
├── RpcError             the subprocess answered a request with an error
├── AskRefused           the subprocess refused a chat/ask; it has not begun
└── ReaderTooSlow        nobody took the pushes of one ask until their buffer was full
"""

from gateway.kernel.errors import UpstreamEof, UpstreamProtocol, UpstreamUnavailable


class LingmaNotReady(UpstreamUnavailable):
    pass


class LingmaStartFailed(UpstreamUnavailable):
    pass


class LingmaDisconnected(UpstreamEof):
    pass


class FramingError(UpstreamProtocol):
    pass


class RpcError(UpstreamProtocol):
    def __init__(self, rpc_code: int, text: str) -> None:
        super().__init__(text or f"error {rpc_code}")
        self.rpc_code = rpc_code


class AskRefused(UpstreamProtocol):
    pass


class ReaderTooSlow(UpstreamProtocol):
    pass
