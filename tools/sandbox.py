"""A whole switch whose nodes are units of a systemd of their own (PID 1 of private namespaces), as on a real host. Root only.

The units are those of systemd/, with a drop-in for where Python, configuration and listening addresses are here. The
network is the host's: etcd, simulators and injector run outside.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from msgspec.structs import replace

from tools.pair import STOP_S, Process, Settings, Switch

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "systemd"
MANAGER = ROOT.parent / "shared" / "tools" / "systemd_sandbox.py"  # what boots a manager in namespaces
RUN = "/run/switch"
USER = "switch"
# PATH is on the way to what the nodes need, but closed to other users: in the sandbox an open folder with the same in it
OPEN_UP = """
set -e
mkdir -p /run/kept; mount --bind "$2" /run/kept
[ -e "/run/opened$1" ] || { mkdir -p "/run/opened$1"; mount -t tmpfs -o mode=755 tmpfs "$1"; }
mkdir -p "$2"; mount --bind /run/kept "$2"; umount /run/kept
"""


class SandboxUnavailable(Exception):
    """No systemd can be booted here. The text says why."""


def require() -> None:
    """Raises SandboxUnavailable when something that the sandbox needs is missing."""
    if os.geteuid() != 0:
        raise SandboxUnavailable("a private systemd needs root")
    if not MANAGER.exists():
        raise SandboxUnavailable(f"{MANAGER} is missing: it boots the private systemd")
    missing = [
        name for name in ("unshare", "nsenter", "setpriv", "systemctl", "systemd-analyze") if not shutil.which(name)
    ]
    if missing or not Path("/lib/systemd/systemd").exists():
        raise SandboxUnavailable(f"systemd is not installed ({', '.join(missing)}): apt-get install -y systemd")
    if not any(Path(path, "cgroup.procs").exists() for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")):
        raise SandboxUnavailable("there is no cgroup2 hierarchy")


def manager(**options: Any) -> Any:
    """A `Systemd` of the shared tool, not booted. Raises SandboxUnavailable."""
    require()
    spec = importlib.util.spec_from_file_location("systemd_sandbox", MANAGER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Systemd(**options)


def _needed() -> list[Path]:
    """Folders that a node reads: this interpreter's and ours."""
    return sorted({Path(sys.prefix), Path(sys.base_prefix), ROOT})


def _closed(path: Path) -> Path | None:
    """The first folder on the way that other users cannot pass."""
    return next((each for each in reversed(path.parents) if not each.stat().st_mode & 0o001), None)


def drop_in(config: Path, node_log: str) -> str:
    """What differs here from an installed switch. `node_log`: a path with %i in it."""
    seen = [path for path in [*_needed(), config.parent] if path.is_relative_to("/tmp")]
    return "\n".join((
        "[Service]", "ExecStart=", f"ExecStart={sys.executable} -m switch --config {config} --node %i",
        f"Environment=PYTHONPATH={ROOT} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1",
        f"BindReadOnlyPaths={' '.join(map(str, seen))}", "ProtectHome=no",
        f"StandardOutput=append:{node_log}", "StandardError=inherit", "",
    ))  # fmt: skip


def listen_streams(addresses: list[str]) -> str:
    return "\n".join(("[Socket]", "ListenStream=", *(f"ListenStream={address}" for address in addresses), ""))


class Unit(Process):
    """A node as a unit. Its pid is the one outside."""

    def __init__(self, systemd: Any, node: str, directory: Path) -> None:
        super().__init__(f"node-{node}", [], directory)
        self.unit = f"switch@{node}.service"
        self._systemd = systemd
        self._killed = 0

    def _pids(self) -> list[int]:
        group = Path(self._systemd.cg) / "system.slice" / "system-switch.slice" / self.unit / "cgroup.procs"
        try:
            return [int(line) for line in group.read_text().split()]
        except OSError:  # the unit has no process, or ENODEV: its group is being removed
            return []

    @property
    def pid(self) -> int:
        pids = self._pids()
        if not pids:
            raise ProcessLookupError(f"{self.unit} has no process")
        return pids[0]

    def running(self) -> bool:
        return bool(self._pids())

    def start(self) -> None:
        """Both nodes and their sockets, as far as they do not run."""
        self._systemd.ctl("start", "--no-block", "switch.target")

    def signal(self, number: signal.Signals) -> None:
        self._killed = self.pid
        os.kill(self._killed, number)

    def respawn(self) -> None:
        """After a SIGKILL: systemd starts it again; returns when the old process is gone."""
        deadline = time.monotonic() + STOP_S
        while self._killed in self._pids():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.unit}: {self._killed} does not end")
            time.sleep(0.005)

    def kill(self) -> None:
        """For good: its unit is stopped."""
        if self.running():
            self.signal(signal.SIGKILL)
        self._systemd.ctl("stop", self.unit)

    def stop(self) -> int | None:
        """The exit code of an orderly stop."""
        self._systemd.ctl("stop", self.unit)
        return int(self._systemd.show(self.unit, "ExecMainStatus"))


class SystemdSwitch(Switch):
    """`pair.Switch` with its nodes under systemd. Raises SandboxUnavailable."""

    def __init__(self, directory: Path, settings: Settings | None = None, members: int = 1) -> None:
        super().__init__(directory, settings, members)
        binds = [str(path) for path in [*_needed(), directory] if path.is_relative_to("/tmp")]
        self.systemd = manager(bind=binds)
        self.nodes = {node: Unit(self.systemd, node, directory) for node in "ab"}
        self._user = -1

    def configure(self, settings: Settings) -> None:
        """Write the configuration file with the unit's run directory, readable by its user."""
        super().configure(replace(settings, pair={**settings.pair, "run_directory": RUN}))
        for path in (self.config_path, self.directory / "keys"):
            os.chown(path, self._user, self._user)

    def __enter__(self) -> "SystemdSwitch":
        self.directory.chmod(0o755)
        self.install()
        self.systemd.start()
        try:
            self._open_up()
            self.systemd.run("systemd-sysusers", str(UNITS / "switch.sysusers"))
            self._user = int(self.systemd.run("id", "-u", USER).stdout)
            self.run_directory = Path(f"/proc/{self.systemd.pid1}/root{RUN}")
        except BaseException:
            self.systemd.stop()
            raise
        super().__enter__()
        return self

    def install(self) -> None:
        """The units as they are, and the drop-ins of this place."""
        for unit in ("switch@.service", "switch.socket", "switch.target"):
            self.systemd.unit(unit, (UNITS / unit).read_text())
        ports = [*self.ports.terminals.values(), *self.ports.banks.values()]
        ports += [port for nodes in self.ports.further.values() for port in nodes.values()]
        self.systemd.unit("switch.socket.d/here.conf", listen_streams([f"127.0.0.1:{port}" for port in ports]))
        text = drop_in(self.config_path, str(self.directory / "node-%i.log"))
        self.systemd.unit("switch@.service.d/here.conf", text)

    def _open_up(self) -> None:
        for path in _needed():
            closed = _closed(path)
            if closed is not None:
                done = self.systemd.run("bash", "-c", OPEN_UP, "open-up", str(closed), str(path))
                if done.returncode:
                    raise SandboxUnavailable(f"cannot show {path} to the nodes' user: {done.stderr}")

    def stop_nodes(self) -> dict[str, int | None]:
        """The whole target in order, then the simulators."""
        self.systemd.ctl("stop", "switch.target", "switch@a.service", "switch@b.service")
        return super().stop_nodes()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, value, trace)
        finally:
            self.systemd.stop()


def boots() -> str:
    """Why no private systemd boots here; "" when one does."""
    try:
        with manager():
            return ""
    except (SandboxUnavailable, RuntimeError, OSError, subprocess.SubprocessError) as error:
        return str(error)
