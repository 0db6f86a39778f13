"""The pair of a scenario: etcd and two nodes with the scenario's links, and neither issuer nor bank of its own."""

import contextlib
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from switch.mirror.sealing import create_key_file
from tools.fdstore import FdStore
from tools.kills import duplex
from tools.pair import Settings, Switch
from tools.ports import free_ports
from tools.scenarios.armed import VARIABLE
from tools.scenarios.configuration import faster

LIMITS = {"heartbeat_ms": 100}


class ScenarioSwitch(Switch):
    """The pair with a scenario's links instead of the demo's, and no simulators."""

    def __init__(self, directory: Path, table: dict[str, Any], speed: float) -> None:
        super().__init__(directory, Settings(), program="tools.scenarios.armed")
        self.simulators = {}
        self.table = table
        self.speed = speed
        self.journal = directory / "journal.db"  # kept where the limits bound what may wait for it
        names = [link["name"] for link in table["link"]]
        numbers = iter(free_ports(2 * len(names)))
        self.where = {name: {"a": next(numbers), "b": next(numbers)} for name in names}
        self.arm = directory / "arm"
        for node, process in self.nodes.items():
            process.environment = {VARIABLE: str(self.arm)}
            process.store = FdStore(directory / f"{node}.notify")

    def configure(self, settings: Settings) -> None:
        keys = self.directory / "keys"
        if not keys.exists():
            create_key_file(keys)
        table = faster(self.table, self.speed)
        links = [{**link, **self._address(link)} for link in table["link"]]
        pair = {"name": "demo", "run_directory": str(self.directory), "key_file": str(keys), "log_level": "debug"}
        limits = {**LIMITS, **table.get("limits", {})}
        whole = {"pair": pair, "etcd": {"endpoints": list(self.etcd.endpoints)}, "limits": limits}
        rest: dict[str, Any] = {name: table.get(name, []) for name in ("route", "stand_in")}
        if limits.get("journal_waiting_max"):
            rest["journal"] = {"url": f"sqlite:///{self.journal}", "timeout_s": 1}
        self.config_path.write_bytes(msgspec.toml.encode({**whole, "link": links, **rest}))

    def _address(self, link: dict[str, Any]) -> dict[str, Any]:
        ports = self.where[link["name"]]
        if "connect" in link:
            return {"connect": [f"127.0.0.1:{ports['a']}"]}
        return {"listen": {node: f"127.0.0.1:{port}" for node, port in ports.items()}}

    def _ready(self, node: str) -> bool:
        """Hosts that are played by hand are not there yet."""
        if not self.nodes[node].running():
            raise RuntimeError(f"node {node} ended:\n{self.nodes[node].log.read_text()[-3000:]}")
        return "node.serving" in self.nodes[node].log.read_text() and duplex(self)

    def ask_any(self, command: str | dict[str, Any]) -> dict[str, Any]:
        """Of whichever node answers: both say the same."""
        request = {"command": command} if isinstance(command, str) else command
        for node in "ab":
            with contextlib.suppress(OSError, ValueError):
                return self._ask(node, request)
        raise OSError("no node answers")

    def _ask(self, node: str, request: dict[str, Any]) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self.run_directory / f"demo-{node}.sock"))
            sock.sendall(msgspec.json.encode(request) + b"\n")
            with sock.makefile("rb") as lines:
                answer: dict[str, Any] = msgspec.json.decode(lines.readline())
        return answer

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        for process in self.nodes.values():
            if process.store is not None:
                process.store.close()
