"""A whole switch on this machine: a private etcd, both nodes, simulated issuer and bank. For demo, tests and bench.

Everything listens on free ports of 127.0.0.1, lives in one folder, is a real process, and ends with the `with` block.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from switch.mirror.sealing import create_key_file
from tools.children import spawn
from tools.etcd import Etcd
from tools.fdstore import FdStore
from tools.ports import free_ports

READY_S = 60.0  # patience, not an expectation: so are the others
RESTART_S = 0.1
STOP_S = 30.0
DEFECTS = ("node.defect", "node.failed", "Traceback", "state.diverged", "ERROR", "CRITICAL")
# becomes the program it is told to, same pid, with its listening sockets from descriptor 3 on (sd_listen_fds(3))
ACTIVATE = """
import fcntl, os, sys
fds = [int(fd) for fd in sys.argv[1].split(",")]
held = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for fd in fds:
    os.close(fd)
for place, fd in enumerate(held):
    os.dup2(fd, 3 + place)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


class Ports(msgspec.Struct, frozen=True):
    """Where a pair's endpoints listen."""

    terminals: dict[str, int]
    banks: dict[str, int]
    http: dict[str, int]
    issuer: int
    bank: int
    further: dict[str, dict[str, int]] = {}  # by link

    @staticmethod
    def free(further: Iterable[str] = ()) -> "Ports":
        names = list(further)
        p = free_ports(8 + 2 * len(names))
        more = {name: {"a": p[8 + 2 * place], "b": p[9 + 2 * place]} for place, name in enumerate(names)}
        return Ports({"a": p[0], "b": p[1]}, {"a": p[2], "b": p[3]}, {"a": p[4], "b": p[5]}, p[6], p[7], more)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What tests vary."""

    timeout_ms: int = 8_000
    echo_interval_ms: int = 5_000
    limits: dict[str, int] = {}
    terminals: dict[str, Any] = {}  # options of that link
    banks: dict[str, Any] = {}
    issuer: dict[str, Any] = {}
    bank: dict[str, Any] = {}
    further: dict[str, dict[str, Any]] = {}  # more listening links by name, for cards unless they say iso20022
    etcd: dict[str, Any] = {}
    etcd_quota_bytes: int = 1 << 30  # of its members' databases
    pair: dict[str, Any] = {}
    journal: dict[str, Any] = {}
    issuer_options: tuple[str, ...] = ()  # of switch-sim issuer
    bank_options: tuple[str, ...] = ()


def configuration(ports: Ports, endpoints: list[str], directory: Path, settings: Settings) -> dict[str, Any]:
    """The configuration file of the pair, as a table."""

    def local(numbers: dict[str, int]) -> dict[str, str]:
        return {node: f"127.0.0.1:{port}" for node, port in numbers.items()}

    cards = {"framing": "2-byte-be", "header": "tpdu", "iso8583": {"dialect": "iso87-binary"}, "frame_max_bytes": 4096}
    transfers = {"framing": "8-ascii", "iso20022": {}, "frame_max_bytes": 131_072}
    further = {
        name: {**(transfers if "iso20022" in options else cards), **options}
        for name, options in settings.further.items()
    }
    routed = [name for name in further if not name.startswith("unrouted")]
    common = {"timeout_ms": settings.timeout_ms, "echo_interval_ms": settings.echo_interval_ms}
    return {
        "pair": {
            "name": "demo", "run_directory": str(directory), "key_file": str(directory / "keys"), **settings.pair,
        },
        "etcd": {"endpoints": endpoints, **settings.etcd},
        "ops": {"http": local(ports.http)},
        "limits": settings.limits,
        "journal": settings.journal,
        "link": [
            {"name": "terminals", "listen": local(ports.terminals), **cards, **settings.terminals},
            {"name": "banks", "listen": local(ports.banks), **transfers, **settings.banks},
            {
                "name": "issuer", "connect": [f"127.0.0.1:{ports.issuer}"], "framing": "2-byte-be",
                "iso8583": {"dialect": "iso87-ascii"}, **common, **settings.issuer,
            },
            {
                "name": "creditor", "connect": [f"127.0.0.1:{ports.bank}"], "framing": "8-ascii",
                "frame_max_bytes": 131_072, "iso20022": {}, **common, **settings.bank,
            },
            *({"name": name, "listen": local(ports.further[name]), **options} for name, options in further.items()),
        ],
        "route": [
            {"name": "cards", "source": ["terminals", *(name for name in routed if "iso8583" in further[name])],
             "types": ["01", "02", "04"], "targets": ["issuer"]},
            {"name": "transfers", "source": ["banks", *(name for name in routed if "iso20022" in further[name])],
             "types": ["pacs.008"], "targets": ["creditor"]},
        ],
    }  # fmt: skip


class Process:
    """A child process with its log file; killed by pid, never left behind: it dies with us."""

    def __init__(self, name: str, arguments: list[str], directory: Path) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self.arguments = arguments
        self.given: dict[str, socket.socket] = {}  # listening sockets by name, as systemd gives them
        self.store: FdStore | None = None  # keeps what the process stores for its next life
        self.environment: dict[str, str] = {}  # of the next life, beside ours
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUNBUFFERED": "1"}
        environment |= self.environment
        command, given = ["-m", *self.arguments], {name: sock.fileno() for name, sock in self.given.items()}
        if self.store is not None:
            environment["NOTIFY_SOCKET"] = str(self.store.path)
            given |= self.store.held()
        fds = list(given.values())
        if fds:
            environment |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(given)}
            command = ["-c", ACTIVATE, ",".join(map(str, fds)), *command]
        with self.log.open("ab") as log:
            self._child = spawn(
                [sys.executable, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds,
                env=environment,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = STOP_S) -> int:
        assert self._child is not None
        return self._child.wait(seconds)

    def stop(self) -> int | None:
        """SIGTERM, and SIGKILL when that does not help. The exit code, None when it never ran."""
        if self._child is None:
            return None
        if self.running():
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
        return self._child.returncode

    def kill(self) -> None:
        if self.running():
            self.signal(signal.SIGKILL)
            self.wait()

    def respawn(self) -> None:
        """After a SIGKILL: start it again, as systemd would by the unit's RestartSec."""
        self.wait()
        time.sleep(RESTART_S)
        self.start()

    def rss_bytes(self) -> int:
        """Resident memory (proc(5) statm)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")


class Switch:
    """The whole: `with Switch(directory) as switch:` starts it and waits until both nodes serve and are signed on.

    `program`: the module that a node runs.
    """

    def __init__(
        self, directory: Path, settings: Settings | None = None, members: int = 1, program: str = "switch"
    ) -> None:
        self.directory = directory
        self.run_directory = directory  # of the control sockets, as seen from here
        self.settings = settings or Settings()
        self.ports = Ports.free(self.settings.further)
        directory.mkdir(parents=True, exist_ok=True)
        self.etcd = Etcd(directory / "etcd", members=members, quota_bytes=self.settings.etcd_quota_bytes)
        self.config_path = directory / "switch.toml"
        self.nodes: dict[str, Process] = {
            node: Process(f"node-{node}", [program, "--config", str(self.config_path), "--node", node], directory)
            for node in "ab"
        }
        self.simulators = {
            "issuer": self._simulator("issuer", self.ports.issuer, self.settings.issuer_options),
            "bank": self._simulator("bank", self.ports.bank, self.settings.bank_options),
        }

    def __enter__(self) -> "Switch":
        try:
            self.etcd.__enter__()
            self.configure(self.settings)
            for simulator in self.simulators.values():
                simulator.start()
            for node in self.nodes:
                self.start(node, wait=False)
            for node in self.nodes:
                self.wait_ready(node)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _simulator(self, role: str, port: int, options: Iterable[str]) -> Process:
        arguments = ["tools.sim", role, "--listen", f"127.0.0.1:{port}", "--dir", str(self.directory / role), *options]
        return Process(role, arguments, self.directory)

    def replace_simulator(self, role: str, options: Iterable[str] = ()) -> None:
        """Stop a simulator and start it with other options and the same books."""
        self.simulators[role].stop()
        self.simulators[role] = self._simulator(role, getattr(self.ports, role), options)
        self.simulators[role].start()

    def configure(self, settings: Settings) -> None:
        """Write the configuration file (and the key file, once)."""
        keys = self.directory / "keys"
        if not keys.exists():
            create_key_file(keys)
        table = configuration(self.ports, list(self.etcd.endpoints), self.directory, settings)
        self.config_path.write_bytes(msgspec.toml.encode(table))

    def start(self, node: str, *, wait: bool = True) -> None:
        self.nodes[node].start()
        if wait:
            self.wait_ready(node)

    def ask(self, node: str, command: str = "status") -> dict[str, Any]:
        """One command over the control socket. Raises OSError while the node does not answer."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self.run_directory / f"demo-{node}.sock"))
            sock.sendall(json.dumps({"command": command}).encode() + b"\n")
            with sock.makefile() as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
        return answer

    def wait_ready(self, node: str) -> None:
        """Until the node is live, listens, and all outbound slots are ready."""
        self.wait_for(lambda: self._ready(node), f"node {node} to be ready")

    def _ready(self, node: str) -> bool:
        if not self.nodes[node].running():
            raise RuntimeError(f"node {node} ended:\n{self.nodes[node].log.read_text()[-3000:]}")
        with contextlib.suppress(OSError, ValueError):
            status, links = self.ask(node), self.ask(node, "links")["links"]
            serving = f"node.serving incarnation={status['incarnation']} "
            listening = serving in self.nodes[node].log.read_text()
            return listening and all(link["ready"] for link in links if link["outbound"])
        return False

    @staticmethod
    def wait_for(condition: Any, what: str, seconds: float = READY_S, every_s: float = 0.05) -> None:
        """Poll a condition; TimeoutError names what was waited for."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds:g} s for {what}")
            time.sleep(every_s)

    def addresses(self, ports: dict[str, int]) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in ports.values())

    def logs(self) -> Iterator[tuple[str, str]]:
        for process in [*self.nodes.values(), *self.simulators.values()]:
            if process.log.exists():
                yield process.name, process.log.read_text()

    def defects(self) -> list[str]:
        """Lines in the logs of the nodes that must never be there."""
        found = []
        for node in self.nodes.values():
            if node.log.exists():
                with node.log.open(errors="replace") as lines:
                    found += [f"{node.name}: {line.strip()}" for line in lines if any(word in line for word in DEFECTS)]
        return found

    def stop_nodes(self) -> dict[str, int | None]:
        """Both nodes in order, then the simulators, so that their records are complete. Exit codes by name."""
        codes = {name: node.stop() for name, node in self.nodes.items()}
        codes.update({name: simulator.stop() for name, simulator in self.simulators.items()})
        return codes

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:  # each is stopped, whatever becomes of the others; the last one first
            stack.push(self.etcd)
            for process in reversed([*self.nodes.values(), *self.simulators.values()]):
                stack.callback(process.stop)
