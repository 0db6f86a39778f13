"""Channels to etcd's endpoints: one long-lived each, with failover, TLS, user, deadlines. Knows nothing of the log."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio
from etcd3 import etcdrpc

from .errors import ForeignCluster, MirrorError, RevisionWentBack, Unavailable
from .settings import EtcdSettings

log = logging.getLogger("switch.mirror")

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # a backlog comes as one message, 12 MB and more
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),  # etcd ends connections that ping more often than every 5 s or without a call
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
)
BACKOFF_S = 0.02
BACKOFF_MAX_S = 0.25
COMPLAIN_EVERY_S = 5.0
TOKEN_SIGNS = ("auth token", "revision in header", "user name is empty")  # etcd has no code of its own for these

Metadata = tuple[tuple[str, str], ...]


class Endpoint:
    """One member of the cluster and the stubs on its channel."""

    def __init__(self, url: str, channel: grpc.aio.Channel) -> None:
        self.url = url
        self.channel = channel
        stubs: Any = etcdrpc  # generated, without types
        self.kv = stubs.KVStub(channel)
        self.watch = stubs.WatchStub(channel)
        self.lease = stubs.LeaseStub(channel)
        self.auth = stubs.AuthStub(channel)
        self.maintenance = stubs.MaintenanceStub(channel)


class Client:
    """The endpoints, which of them is in use, and what is known of the cluster behind them."""

    def __init__(self, settings: EtcdSettings) -> None:
        if not settings.endpoints:
            raise ValueError("etcd needs at least one endpoint")
        self.settings = settings
        self.endpoints = [Endpoint(url, _channel(url, settings)) for url in settings.endpoints]
        self.endpoint = self.endpoints[0]
        self.metadata: Metadata = ()
        self.cluster_id = 0  # 0: none seen yet
        self.revision = 0  # of the last entry applied: no linearizable answer asked for later can be older
        self.stopped: BaseException | None = None  # why this mirror may not call any more
        self._complain_at = 0.0
        self.on_failover: Callable[[Endpoint], None] = lambda failed: None

    async def close(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.channel.close()

    def check(self, header: Any, floor: int) -> None:
        """Verify that a linearizable answer comes from our cluster and not from before `floor`."""
        if self.cluster_id == 0:
            self.cluster_id = header.cluster_id
        elif header.cluster_id != self.cluster_id:
            raise ForeignCluster(
                f"an endpoint is of etcd cluster {header.cluster_id:x}, we started with {self.cluster_id:x}"
            )
        if header.revision < floor:
            raise RevisionWentBack(
                f"etcd is at revision {header.revision}, but {floor} was applied already: its data was lost or restored"
            )

    def fail_over(self, failed: Endpoint, reason: str) -> None:
        """Leave an endpoint that did not answer. The next one in order is taken."""
        if failed is not self.endpoint or len(self.endpoints) == 1:
            return
        self.endpoint = self.after(failed)
        log.warning("etcd.failover from=%s to=%s reason=%s", failed.url, self.endpoint.url, reason)
        self.on_failover(failed)

    def after(self, endpoint: Endpoint) -> Endpoint:
        return self.endpoints[(self.endpoints.index(endpoint) + 1) % len(self.endpoints)]

    async def call(self, pick: Callable[[Endpoint], Any], request: Any, patience_s: float | None = None) -> Any:
        """One idempotent call, repeated over the endpoints until answered. `patience_s` None: without end.

        Raises Unavailable when patience is over, and the causes of `check`.
        """
        loop = asyncio.get_running_loop()
        give_up = None if patience_s is None else loop.time() + patience_s
        backoff = BACKOFF_S
        while True:
            if self.stopped is not None:
                raise MirrorError("this mirror has failed") from self.stopped
            endpoint, floor = self.endpoint, self.revision
            try:
                response = await pick(endpoint)(
                    request, timeout=self.settings.call_timeout_ms / 1000, metadata=self.metadata
                )
            except grpc.aio.AioRpcError as error:
                if give_up is not None and loop.time() >= give_up:
                    raise Unavailable(describe(error)) from error
                await self.recover(endpoint, error)
            else:
                self.check(response.header, floor)
                return response
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, BACKOFF_MAX_S)

    async def recover(self, endpoint: Endpoint, error: grpc.aio.AioRpcError) -> None:
        """Do what helps before the next attempt; raises MirrorError where no attempt would."""
        code, text = error.code(), error.details() or ""
        now = asyncio.get_running_loop().time()
        if now >= self._complain_at:
            self._complain_at = now + COMPLAIN_EVERY_S
            log.warning("etcd.unanswered endpoint=%s reason=%s", endpoint.url, describe(error))
        if code is grpc.StatusCode.UNAUTHENTICATED or any(sign in text for sign in TOKEN_SIGNS):
            await self.authenticate()
        elif code in REFUSED:
            raise MirrorError(f"etcd refuses: {describe(error)}") from error
        else:
            self.fail_over(endpoint, describe(error))

    async def authenticate(self) -> None:
        """Get a new token for the configured user; without one, nothing. An endpoint that does not answer is left.

        Raises MirrorError when the password is wrong, or cannot be read, at the start; later the switch holds until an
        operator mends it.
        """
        settings = self.settings
        if not settings.user:
            return
        endpoint = self.endpoint
        try:
            password = settings.password()
        except OSError as error:
            if self.cluster_id == 0:
                raise MirrorError(f"no password for etcd's user {settings.user}: {error}") from None
            log.warning("etcd.no_password user=%s reason=%s", settings.user, error)
            return
        try:
            response = await endpoint.auth.Authenticate(
                etcdrpc.AuthenticateRequest(name=settings.user, password=password),
                timeout=settings.call_timeout_ms / 1000,
            )
        except grpc.aio.AioRpcError as error:
            if "authentication is not enabled" in (error.details() or ""):
                self.metadata = ()
            elif error.code() is grpc.StatusCode.INVALID_ARGUMENT and self.cluster_id == 0:
                raise MirrorError(f"etcd does not accept user {settings.user}: {error.details()}") from error
            else:
                self.fail_over(endpoint, describe(error))
        else:
            self.metadata = (("token", response.token),)


# A repetition would get the same answer: the request itself is wrong. (What an operator can mend is waited for.)
REFUSED = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.OUT_OF_RANGE})


def describe(error: grpc.aio.AioRpcError) -> str:
    """The error as one short word and text for a log line."""
    return f"{error.code().name}: {(error.details() or '')[:120]}"


def _channel(url: str, settings: EtcdSettings) -> grpc.aio.Channel:
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.netloc:
        return grpc.aio.insecure_channel(parts.netloc, options=CHANNEL_OPTIONS)
    if parts.scheme != "https" or not parts.netloc:
        raise ValueError(f"an etcd endpoint is http://host:port or https://host:port, not {url!r}")
    ca, key, cert = (
        Path(name).read_bytes() if name else None for name in (settings.ca_file, settings.key_file, settings.cert_file)
    )
    untyped: Any = grpc
    return grpc.aio.secure_channel(
        parts.netloc, untyped.ssl_channel_credentials(ca, key, cert), options=CHANNEL_OPTIONS
    )
