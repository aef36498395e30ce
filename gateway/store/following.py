"""A connection for commands that block, and the one beside it for the time that their key is being moved.

It stays with the node that owns the key. While the slot is half-moved that node sends whoever asks for a key
it no longer has to the next one, where the command must say that it was sent; there it blocks as well. Made
by connect.Redis.dedicated(); the caller closes it.
"""

from collections.abc import Callable

from redis.exceptions import AskError

from gateway.kernel.errors import StoreRefused
from gateway.store.address import Host
from gateway.store.calls import Arg, Reply, ReplyFuture
from gateway.store.link import Link


class Follower:
    """make_asked: a link to the node that the reply names."""

    def __init__(self, own: Link, make_asked: Callable[[Host], Link]) -> None:
        self._own = own
        self._make_asked = make_asked
        self._asked: Link | None = None
        self._host: Host | None = None
        """Where the asked link leads."""

    async def call(self, *args: Arg, timeout_s: float | None = None) -> Reply:
        """See Link.call()."""
        return await self._followed(lambda link, asking: link.call(*args, timeout_s=timeout_s, asking=asking))

    async def call_packed(self, packed: bytes, *, timeout_s: float | None = None) -> Reply:
        """See Link.call_packed()."""
        return await self._followed(
            lambda link, asking: link.call_packed(packed, timeout_s=timeout_s, asking=asking)
        )

    def drop(self) -> None:
        """See Link.drop()."""
        self._own.drop()

    async def aclose(self) -> None:
        await self._own.aclose()
        await self._leave()

    async def _followed(self, issue: Callable[[Link, bool], ReplyFuture]) -> Reply:
        try:
            return await issue(self._own, False)
        except StoreRefused as error:
            reply = error.__cause__
            if not isinstance(reply, AskError):
                raise
            link = await self._link_to((reply.host, reply.port))
        return await issue(link, True)

    async def _link_to(self, host: Host) -> Link:
        if self._asked is None or self._host != host:
            await self._leave()
            self._asked, self._host = self._make_asked(host), host
        return self._asked

    async def _leave(self) -> None:
        asked, self._asked, self._host = self._asked, None, None
        if asked is not None:
            await asked.aclose()
