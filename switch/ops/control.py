"""The control socket of a node (Unix stream socket in the run directory) and the HTTP endpoint of metrics and health.

One JSON object a line: {"command": "status"} -> {"ok": true, ...}. What it tells is masked: no data of messages at all.
"""

import asyncio
import importlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from switch.config import ConfigError
from switch.core.proposals import Settle
from switch.ops.logs import event

if TYPE_CHECKING:
    from aiohttp import web

    from switch.node import Node

log = logging.getLogger("switch.ops")
LINE_MAX = 65_536
CONNECTIONS_MAX = 64  # of operators, and as many of HTTP: they take descriptors, of which sessions leave few


def status(node: "Node", request: dict[str, Any]) -> dict[str, Any]:
    state = node.engine.state
    return {
        "node": node.node,
        "incarnation": node.engine.incarnation,
        "held": node.mirror.held,
        "simplex": len(state.live()) < 2,
        "synced": node.succession.synced and node.succession.handover.up,
        "incarnations": {
            id_: {"status": item.status.name.lower(), "applied": item.applied, "heir": item.heir, "pid": item.pid}
            for id_, item in sorted(state.incarnations.items())
        },
        "index": state.index,
        "hash": node.engine.last_hash,
        "clock_ms": state.meta.clock_ms,
        "snapshot": state.meta.snapshot,
        "sessions": len(state.sessions),
        "transactions": len(state.transactions),
        "outcomes": len(state.outcomes),
        "advices": len(state.advices),
        "takeovers": [msgspec.to_builtins(each) for each in node.succession.takeovers],
        "data_keys": node.keys.health(),
        "journal": node.journal.health(),
        "mirror": node.mirror.health(),
    }


def sessions(node: "Node", request: dict[str, Any]) -> dict[str, Any]:
    fields = ("id", "link", "owner", "remote", "local", "connected", "ready", "applied", "output", "acked", "waiting")
    rows = node.engine.state.sessions.values()
    return {"sessions": [{name: getattr(row, name) for name in fields} for row in rows]}


def links(node: "Node", request: dict[str, Any]) -> dict[str, Any]:
    state = node.engine.state
    return {
        "links": [
            {
                "name": name,
                "outbound": wire.link.outbound,
                "sessions": len(state.links.get(name, ())),
                "ready": sum(state.sessions[id_].ready for id_ in state.links.get(name, ())),
                "waiting": state.waiting.get(name, 0),
                "advices": len(state.lanes.get(name, ())),
                "parked": len(state.parked.get(name, ())),
                "date": state.dates.get(name, ""),
                "breaker": "open" if name in state.breakers and state.breakers[name].open else "closed",
            }
            for name, wire in node.engine.wires.items()
        ]
    }


def advices(node: "Node", request: dict[str, Any]) -> dict[str, Any]:
    """What waits in the lanes; with `parked` only what waits for an operator."""
    rows = node.engine.state.advices.values()
    fields = ("id", "link", "stan", "tries", "session", "parked")
    clock = node.engine.state.meta.clock_ms
    return {
        "advices": [
            {**{name: getattr(row, name) for name in fields}, "age_s": (clock - row.queued_ms) // 1000}
            for row in rows
            if row.parked or not request.get("parked")
        ]
    }


def settle(node: "Node", request: dict[str, Any]) -> dict[str, Any]:
    """A parked advice is tried again (`retry`), or let go since it was settled by other means."""
    number, retry = request.get("id"), request.get("retry")
    if type(number) is not int or type(retry) is not bool:
        raise ValueError("settle wants an id, which is a number, and retry, true or false")
    advice = node.engine.state.advices.get(number)
    if advice is None or not advice.parked:
        raise ValueError(f"there is no parked advice {number}: see the parked ones with advices --parked")
    node.settle(Settle(number, retry))
    return {}


def totals(node: "Node", request: dict[str, Any]) -> dict[str, Any]:
    state = node.engine.state
    fields = ("link", "date", "profile", "currency", "counted", "count", "amount")
    rows = [state.totals[key] for key in sorted(state.totals)]
    return {"totals": [{name: getattr(row, name) for name in fields} for row in rows]}


def reload(node: "Node", request: dict[str, Any]) -> dict[str, Any]:
    node.reload()
    return {}


def rotate_key(node: "Node", request: dict[str, Any]) -> dict[str, Any]:
    """The next request is sealed with a new data key; the present one is destroyed when nothing needs it."""
    return {"rotated": node.keys.rotate(node.engine.state.index)}


def metrics(node: "Node", request: dict[str, Any]) -> dict[str, Any]:
    return {"metrics": node.metrics.text().decode()}


COMMANDS: dict[str, Callable[["Node", dict[str, Any]], dict[str, Any]]] = {
    "status": status, "sessions": sessions, "links": links, "reload": reload, "rotate-key": rotate_key,
    "metrics": metrics, "advices": advices, "settle": settle, "totals": totals,
}  # fmt: skip


class Control:
    """Serves one node's operators."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._path = Path(node.config.pair.run_directory) / f"{node.config.pair.name}-{node.node}.sock"
        self._server: asyncio.Server | None = None
        self._site: asyncio.Server | None = None
        self._connected = 0
        self._http: web.AppRunner | None = None

    async def start(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_MAX)
        self._path.chmod(0o600)

    async def start_http(self) -> None:
        """The HTTP endpoint, once the node serves: its library is costly to import."""
        address = self._node.config.ops.http.get(self._node.node)
        if not address:
            return
        web = await asyncio.to_thread(importlib.import_module, "aiohttp.web")
        application = web.Application()
        application.router.add_get("/metrics", self._metrics)
        application.router.add_get("/health", self._health)
        # its logger would repeat what was sent, and that may be anything
        self._http = web.AppRunner(application, access_log=None, logger=_silent())
        await self._http.setup()
        host, _, port = address.rpartition(":")
        self._site = await asyncio.get_running_loop().create_server(self._connection, host.strip("[]"), int(port))

    def _connection(self) -> asyncio.Protocol:
        """For the next of HTTP; where there are too many the oldest makes room, which may have been silent for ever."""
        assert self._http is not None and self._http.server is not None
        connections = self._http.server.connections
        if len(connections) >= CONNECTIONS_MAX:
            connections[0].force_close()
        return self._http.server()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connected >= CONNECTIONS_MAX:
            event(log, logging.WARNING, "control.full", connections=self._connected)
            writer.close()
            return
        self._connected += 1
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as error:  # ValueError: a line over the limit
            event(log, logging.WARNING, "control.broken", error=type(error).__name__)
        finally:
            self._connected -= 1
            writer.close()

    def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            command = COMMANDS[str(request.get("command"))]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError):  # msgspec lets the middle two through
            return {"ok": False, "error": f"commands are {', '.join(COMMANDS)}"}
        try:
            return {"ok": True, **command(self._node, request)}
        except (ValueError, ConfigError) as error:  # what was asked for cannot be
            event(log, logging.WARNING, "control.refused", command=request.get("command"), error=str(error))
            return {"ok": False, "error": str(error)}
        except Exception as error:  # an operator's command must not end the node
            event(log, logging.ERROR, "control.failed", command=request.get("command"), error=repr(error))
            return {"ok": False, "error": str(error)}

    async def _metrics(self, request: "web.Request") -> "web.Response":
        from aiohttp import web  # imported by start_http

        return web.Response(body=self._node.metrics.text(), content_type="text/plain")

    async def _health(self, request: "web.Request") -> "web.Response":
        from aiohttp import web  # imported by start_http

        healthy = not self._node.mirror.held
        return web.json_response(status(self._node, {}), status=200 if healthy else 503)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        if self._site is not None:
            self._site.close()
        if self._http is not None:
            await self._http.cleanup()


def _silent() -> logging.Logger:
    """What our own handlers raise is an operator's loss, and seen as status 500."""
    silent = logging.getLogger("switch.ops.http")
    silent.disabled = True
    return silent
