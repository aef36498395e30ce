"""One instance: its process, its connection, its login and models, and the asks that run on it.

`run()` brings it up and keeps it up: reconnects when only the connection is gone, starts a new process when
that has died or no longer answers. `watch()` keeps an eye on login and models. Both run for ever, owned by
pool.py. The rest is for those who hand out work: ask, stop, the round trip of tools, and questions of
operators. An ask is never repeated here: whether it had begun is not for us to know.
"""

import asyncio
import contextlib
import logging
import secrets
from enum import StrEnum

from gateway.jobs.messages import LOGIN_REMEDY, ModelInfo
from gateway.kernel import json
from gateway.kernel.errors import GatewayError
from gateway.kernel.json import Json
from workers.lingma.account import Login, read_login, read_login_url, read_models, read_refusal
from workers.lingma.config import InstanceConfig
from workers.lingma.errors import AskRefused, LingmaDisconnected, LingmaNotReady, RpcError
from workers.lingma.process import LingmaProcess
from workers.lingma.rpc import Incoming, Reply, RpcConnection
from workers.lingma.subscriptions import Subscription, Subscriptions

log = logging.getLogger(__name__)

RECONNECTS_BEFORE_RESPAWN = 2
"""A process that lives but cannot be spoken to is replaced after this many failures in a row."""
STEADY_S = 10.0
"""A connection that held this long ends the counting of failures."""
FAILURES_UNTIL_FAILED = 3
MIN_PAUSE_S = 1.0

ACCOUNT_PUSHES = frozenset({"auth/report", "config/refreshModels", "model/refresh", "config/changeEndpoint"})


class ClientState(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    RECONNECTING = "reconnecting"
    FAILED = "failed"
    """Several tries in a row went wrong; it goes on trying."""
    CLOSED = "closed"


class LingmaClient:
    def __init__(self, config: InstanceConfig, process: LingmaProcess | None = None) -> None:
        self.config = config
        self.state = ClientState.STOPPED
        self.restarts = 0
        """Processes started after the first."""
        self.login: Login | None = None
        """None while nobody has asked yet."""
        self.models: list[ModelInfo] = []
        """As they were last known; stale ones stay when a later question fails."""
        self._process = process or LingmaProcess(config)
        self._connection: RpcConnection | None = None
        self._subscriptions = Subscriptions(config.buffer_bytes)
        self._port = 0
        self._was_started = False
        self._was_ready = False
        self._failures = 0
        self._last_problem = "not started"
        self._models_at: float | None = None
        self.settled = asyncio.Event()
        """It has come up and been asked what it is, or has failed to come up once."""
        self._ready = asyncio.Event()
        self._lost = asyncio.Event()
        self._wake = asyncio.Event()
        self._refresh_due = asyncio.Event()

    # -- what it is ---------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Connected. Whether it is logged in is another question."""
        return self.state is ClientState.READY

    @property
    def logged_in(self) -> bool:
        return self.login is not None and self.login.logged_in

    @property
    def login_state(self) -> str:
        if self.login is None:
            return "unknown"
        return "logged_in" if self.login.logged_in else "login_required"

    @property
    def in_flight(self) -> int:
        return len(self._subscriptions)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def http_port(self) -> int:
        return self._process.http_port

    # -- keeping it up ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Failures are waited out, ever longer, unless wake() cuts the wait short."""
        loop = asyncio.get_running_loop()
        while self.state is not ClientState.CLOSED:
            up_since: float | None = None
            try:
                await self._bring_up()
                up_since = loop.time()
                await self._lost.wait()
                problem = "the connection was lost"
            except GatewayError as error:
                problem = error.message
            except OSError as error:
                problem = type(error).__name__
            steady = up_since is not None and loop.time() - up_since > STEADY_S
            self._failures = 1 if steady else self._failures + 1
            await self._take_down(problem)
            await self._pause()

    async def watch(self) -> None:
        """Ask for login and models when something says so, and every now and then. Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.refresh_interval_s):
                    await self._refresh_due.wait()
            self._refresh_due.clear()
            if self.ready:
                await self._refresh()
                self.settled.set()

    def wake(self) -> None:
        """Try again now instead of waiting out the pause."""
        self._wake.set()

    async def ensure_ready(self, timeout_s: float | None = None) -> None:
        """Wait until it is connected, at most as long as a start may take. Raises LingmaNotReady."""
        if self.ready:
            return
        self.wake()
        try:
            async with asyncio.timeout(self.config.startup_timeout_s if timeout_s is None else timeout_s):
                await self._ready.wait()
        except TimeoutError as error:
            raise LingmaNotReady(f"{self.config.name} is not ready: {self._last_problem}") from error

    async def aclose(self) -> None:
        """End every ask, the connection and the process. For good."""
        self.state = ClientState.CLOSED
        self._ready.clear()
        self._subscriptions.end_all(LingmaDisconnected(f"{self.config.name} was stopped"))
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                await connection.aclose()
        finally:
            await self._process.stop()

    async def _bring_up(self) -> None:
        if not self._was_ready:
            self.state = ClientState.STARTING
        if not self._process.alive or self._failures > RECONNECTS_BEFORE_RESPAWN:
            self.login = None
            self._models_at = None
            if self._was_started:
                self.restarts += 1
            self._was_started = True
            self._port = await self._process.start()
        self._lost.clear()
        connection = RpcConnection(
            self._port,
            self._on_push,
            self._on_lost,
            coalesce=self.config.coalesce,
            ping_interval_s=self.config.ping_interval_s,
        )
        self._connection = connection
        await connection.open(self.config.handshake_timeout_s)
        await self._request("initialize", self._initialize_params())
        await self._ask_login()
        if not connection.is_open:
            raise LingmaDisconnected("the connection was lost")
        self._was_ready = True
        self.state = ClientState.READY
        self._ready.set()
        self._refresh_due.set()
        log.info("lingma.ready", extra={"instance": self.config.name, "login": self.login_state})

    async def _take_down(self, problem: str) -> None:
        """After the connection was lost, or never came up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()
        if self.state is ClientState.CLOSED:
            return
        self._ready.clear()
        self.settled.set()
        self._last_problem = problem
        recovering = self._was_ready and self._failures < FAILURES_UNTIL_FAILED
        self.state = ClientState.RECONNECTING if recovering else ClientState.FAILED
        log.warning(
            "lingma.down",
            extra={
                "instance": self.config.name,
                "state": str(self.state),
                "problem": problem,
                "failures": self._failures,
            },
        )

    async def _pause(self) -> None:
        """Exponential, with jitter: instances of a dead machine must not come back as one."""
        longest = min(self.config.max_backoff_s, self.config.backoff_s * 2 ** min(self._failures - 1, 16))
        pause = longest * (0.5 + secrets.randbelow(500) / 1000)
        # Every request may wake us; a start a second is enough of that.
        floor = min(pause, MIN_PAUSE_S)
        await asyncio.sleep(floor)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause - floor):
                await self._wake.wait()
        self._wake.clear()

    def _initialize_params(self) -> Json:
        # Without a folder the binary logs an error about the workspace.
        uri = self.config.work_dir.absolute().as_uri()
        return {
            "processId": None,
            "clientInfo": {"name": "lingma-gateway", "version": "1"},
            "rootUri": uri,
            "capabilities": {},
            "workspaceFolders": [{"uri": uri, "name": "workspace"}],
        }

    # -- login and models ---------------------------------------------------------------------------------

    async def _refresh(self) -> None:
        """A question that fails changes nothing: what was known goes on counting."""
        before = self.login
        try:
            await self._ask_login()
            if self.login != before:
                self._models_at = None
            now = asyncio.get_running_loop().time()
            fresh = self._models_at is not None and now - self._models_at < self.config.models_ttl_s
            if self.logged_in and not fresh:
                await self.query_models()
        except GatewayError as error:
            log.warning(
                "lingma.refresh_failed", extra={"instance": self.config.name, "problem": error.message}
            )

    async def _ask_login(self) -> None:
        try:
            await self.auth_status()
        except RpcError as error:
            log.warning("lingma.login_unknown", extra={"instance": self.config.name, "code": error.rpc_code})

    async def auth_status(self) -> Login:
        """Ask now. Raises LingmaNotReady, LingmaDisconnected, UpstreamTimeout, RpcError."""
        login = read_login(await self._request("auth/status", {}))
        if not login.logged_in and (self.login is None or self.login.logged_in):
            instance = self.config.name
            log.warning("lingma.login_required", extra={"instance": instance, "remedy": LOGIN_REMEDY})
        self.login = login
        return login

    async def query_models(self) -> bytes:
        """Ask now; the answer as it came. Raises like auth_status()."""
        raw = await self._request("config/queryModels", {})
        models = read_models(raw)
        if models:
            self.models = models
            self._models_at = asyncio.get_running_loop().time()
        return raw

    async def login_url(self) -> str:
        """An address where a person logs this instance in; good for one try. Raises like auth_status()."""
        url = read_login_url(await self._request("login/generateUrl", {}))
        if not url:
            raise RpcError(0, "login/generateUrl: no address in the answer")
        return url

    # -- asks ---------------------------------------------------------------------------------------------

    async def ask(self, params: bytes, request_id: str) -> Subscription:
        """Send chat/ask. Its answer to the request is not waited for: some versions never give one.

        params is a JSON object that names request_id itself. Raises LingmaNotReady when nothing was sent,
        and InvalidRequest for an id in use or a body that is too long.
        """
        connection = self._ready_connection()
        subscription = self._subscriptions.open(request_id)
        try:
            self._subscriptions.learn_session(subscription, params)
            if self.config.ask_style == "notify":
                connection.notify("chat/ask", params)
            else:
                call_id = connection.call(
                    "chat/ask", params, lambda reply: _end_if_refused(subscription, reply)
                )
                subscription.on_end = lambda: connection.forget(call_id)
        except GatewayError:
            subscription.close()
            raise
        return subscription

    async def stop(self, request_id: str, session_id: str) -> None:
        """Send chat/stop and wait until it is confirmed. Raises like auth_status()."""
        await self._request("chat/stop", {"requestId": request_id, "sessionId": session_id})

    async def approve_tool(
        self, *, request_id: str, session_id: str, tool_call_id: str, approval: bool
    ) -> None:
        """Let a native tool call go on, or refuse it. Raises LingmaNotReady."""
        self._notify(
            "tool/call/approve",
            {
                "type": "tool_call",
                "sessionId": session_id,
                "requestId": request_id,
                "toolCallId": tool_call_id,
                "approval": approval,
            },
        )

    async def send_tool_result(self, *, request_id: str, tool_call_id: str, name: str, result: Json) -> None:
        """Hand in what a native tool call gave. Raises LingmaNotReady."""
        self._notify(
            "tool/invokeResult",
            {
                "requestId": request_id,
                "toolCallId": tool_call_id,
                "name": name,
                "success": True,
                "errorMessage": "",
                "result": result,
            },
        )

    # -- the connection -----------------------------------------------------------------------------------

    def _ready_connection(self) -> RpcConnection:
        connection = self._connection
        if connection is None or not self.ready or not connection.is_open:
            raise LingmaNotReady(f"{self.config.name} is not ready: {self._last_problem}")
        return connection

    def _notify(self, method: str, params: Json) -> None:
        self._ready_connection().notify(method, json.dumps(params))

    async def _request(self, method: str, params: Json) -> bytes:
        connection = self._connection
        if connection is None or not connection.is_open:
            raise LingmaNotReady(f"{self.config.name} is not ready: {self._last_problem}")
        return await connection.request(method, params, timeout_s=self.config.rpc_timeout_s)

    def _on_push(self, message: Incoming, body: bytes) -> bool:
        if message.method in ACCOUNT_PUSHES:
            self._models_at = None
            self._refresh_due.set()
        else:
            self._subscriptions.route(message, body)
        return False

    def _on_lost(self, reason: str) -> None:
        if self.ready:
            self.state = ClientState.RECONNECTING
        self._ready.clear()
        self._last_problem = reason
        self._subscriptions.end_all(LingmaDisconnected(f"the connection to Lingma ended: {reason}"))
        self._lost.set()


def _end_if_refused(subscription: Subscription, reply: Reply) -> None:
    """An error, or `success: false` under either of its names. A lost connection ends asks by itself."""
    if isinstance(reply.error, RpcError):
        subscription.end(AskRefused(f"Lingma refused the request: {reply.error.message}"))
        return
    refusal = read_refusal(reply.result)
    if refusal is not None:
        code, text = refusal
        subscription.end(AskRefused(f"Lingma refused the request: {text}", code=code or None))
