"""A private etcd for tests, the demo and benchmarks: one or more members on free local ports, gone when its user is.

with Etcd(directory, members=3) as etcd:
    settings = EtcdSettings(endpoints=etcd.endpoints)
    etcd.kill(etcd.leader())
"""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

import etcd3.etcdrpc
import grpc

from .certificates import Certificates
from .ports import free_ports

stubs: Any = etcd3.etcdrpc  # generated, without types
START_S = 20.0
CALL_S = 20.0
JUNK = (b"/junk/", b"/junk0")  # a range of keys that nobody else uses
JUNK_BYTES = 512 << 10
DIE_WITH_US = (
    "setpriv",
    "--pdeathsig",
    "KILL",
)  # becomes etcd, same pid. It follows the thread that starts: use the main one


def ensure_etcd() -> str:
    """The path of an etcd, installed from Debian's `etcd-server` if there is none on PATH (needs root then)."""
    found = shutil.which("etcd") or shutil.which("etcd", path="/usr/bin:/usr/local/bin:/opt/etcd")
    if found:
        return found
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "etcd-server"]):
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    installed = shutil.which("etcd", path="/usr/bin:/usr/sbin")
    if installed is None:
        raise RuntimeError("etcd-server was installed, but there is no etcd in /usr/bin")
    return installed


class Etcd:
    """A cluster of child processes. They die with this process and are killed by pid at the end."""

    def __init__(
        self,
        directory: Path | str,
        members: int = 1,
        snapshot_count: int = 5000,
        quota_bytes: int = 1024 * 1024 * 1024,
        tls: bool = False,
        heartbeat_ms: int = 100,
        election_ms: int = 1000,
        token: str = "private",
        ports: list[int] | None = None,
    ) -> None:
        """`directory` receives data, logs and, with `tls`, certificates. Ports are free ones unless given (client ports
        first, then peer ports)."""
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.members = members
        self.quota_bytes = quota_bytes
        ports = ports or free_ports(2 * members)
        self.ports = ports
        self.certificates = Certificates(self.directory / "tls") if tls else None
        scheme = "https" if tls else "http"
        self.endpoints = tuple(f"{scheme}://127.0.0.1:{port}" for port in ports[:members])
        self._peers = [f"http://127.0.0.1:{port}" for port in ports[members:]]
        self._options = [
            f"--snapshot-count={snapshot_count}",
            f"--quota-backend-bytes={quota_bytes}",
            f"--heartbeat-interval={heartbeat_ms}",
            f"--election-timeout={election_ms}",
            f"--initial-cluster-token={token}",
            "--log-level=warn",
            "--initial-cluster=" + ",".join(f"m{i}={url}" for i, url in enumerate(self._peers)),
        ]
        self._binary = ensure_etcd()
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * members

    def __enter__(self) -> "Etcd":
        try:
            for number in range(self.members):
                self.start(number, wait=False)
            for number in range(self.members):
                self.wait_ready(number)
        except BaseException:  # also KeyboardInterrupt: no child may stay behind
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self, number: int, wait: bool = True) -> None:
        """Start a member, with the data it had."""
        client, peer = self.endpoints[number], self._peers[number]
        command = [
            *DIE_WITH_US,
            self._binary,
            f"--name=m{number}",
            f"--data-dir={self.directory / f'm{number}'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            *self._options,
        ]
        if self.certificates:
            files = self.certificates
            command += [f"--cert-file={files.server_cert}", f"--key-file={files.server_key}"]
            command += [f"--trusted-ca-file={files.ca}", "--client-cert-auth"]
        with (self.directory / f"m{number}.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            self.wait_ready(number)

    def wait_ready(self, number: int) -> None:
        """Until the member says it is healthy; raises RuntimeError with the end of its log."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            process = self._processes[number]
            if process is None or process.poll() is not None:
                break
            with contextlib.suppress(OSError, ValueError):
                if json.loads(self._http(number, "/health"))["health"] == "true":
                    return
            time.sleep(0.02)
        text = (self.directory / f"m{number}.log").read_text(errors="replace")
        raise RuntimeError(f"etcd member {number} did not start:\n{text[-2000:]}")

    def stop(self, number: int = 0) -> None:
        """End a member in good order."""
        self._end(number, signal.SIGTERM)

    def kill(self, number: int = 0) -> None:
        """End a member at once."""
        self._end(number, signal.SIGKILL)

    def pause(self, number: int = 0) -> None:
        """Stop a member's process: its connections stay open and silent."""
        os.kill(self.pid(number), signal.SIGSTOP)

    def resume(self, number: int = 0) -> None:
        os.kill(self.pid(number), signal.SIGCONT)

    def running(self, number: int) -> bool:
        process = self._processes[number]
        return process is not None and process.poll() is None

    def pid(self, number: int = 0) -> int:
        process = self._processes[number]
        if process is None:
            raise RuntimeError(f"etcd member {number} is not running")
        return process.pid

    def leader(self) -> int:
        """The number of the member that leads; waits for an election that is under way."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            for number in range(self.members):
                with contextlib.suppress(OSError, RuntimeError):
                    if self.running(number) and self.metric("etcd_server_is_leader", number) == 1:
                        return number
            time.sleep(0.02)
        raise RuntimeError("no member of etcd leads")

    def metric(self, name: str, number: int = 0) -> float:
        """One value of the member's /metrics."""
        for line in self._http(number, "/metrics").decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise RuntimeError(f"etcd has no metric {name}")

    def db_size(self, number: int = 0) -> int:
        """Bytes of the member's database file."""
        return int(self.metric("etcd_mvcc_db_total_size_in_bytes", number))

    def rss(self, number: int = 0) -> int:
        """Resident bytes of the member's process."""
        pages = int(Path(f"/proc/{self.pid(number)}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def fill(self) -> int:
        """Write until the quota is reached and the members refuse to write (alarm NOSPACE). How many keys it took."""
        with self._channel(0) as channel:
            kv = stubs.KVStub(channel)
            for written in range(2 * self.quota_bytes // JUNK_BYTES):  # it counts what it has committed, later
                put = stubs.PutRequest(key=JUNK[0] + written.to_bytes(4, "big"), value=bytes(JUNK_BYTES))
                try:
                    kv.Put(put, timeout=CALL_S)
                except grpc.RpcError as error:
                    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                        return written
                    raise RuntimeError(f"etcd refuses to be filled, but not for its size: {error.details()}") from None
        raise RuntimeError(f"etcd took twice its quota of {self.quota_bytes} bytes")

    def make_room(self) -> None:
        """What etcd's maintenance guide tells operators to do after NOSPACE: delete, compact, defragment, disarm."""
        with self._channel(0) as channel:
            kv, maintenance = stubs.KVStub(channel), stubs.MaintenanceStub(channel)
            deleted = kv.DeleteRange(stubs.DeleteRangeRequest(key=JUNK[0], range_end=JUNK[1]), timeout=CALL_S)
            kv.Compact(stubs.CompactionRequest(revision=deleted.header.revision, physical=True), timeout=CALL_S)
            for number in range(self.members):
                with self._channel(number) as member:
                    stubs.MaintenanceStub(member).Defragment(stubs.DefragmentRequest(), timeout=CALL_S)
            actions = stubs.AlarmRequest
            for alarm in maintenance.Alarm(actions(action=actions.GET), timeout=CALL_S).alarms:
                disarm = actions(action=actions.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm)
                maintenance.Alarm(disarm, timeout=CALL_S)

    def _channel(self, number: int) -> Any:
        """For calls that have no HTTP; a cluster with `tls` takes none."""
        return grpc.insecure_channel(self.endpoints[number].removeprefix("http://"))

    def close(self) -> None:
        """Kill what runs and wait for its end. The directory stays."""
        for number, process in enumerate(self._processes):
            if process is not None:
                self.kill(number)

    def _end(self, number: int, how: signal.Signals) -> None:
        process = self._processes[number]
        if process is None:
            return
        self._processes[number] = None
        process.send_signal(how)
        if how is signal.SIGTERM:
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _http(self, number: int, path: str) -> bytes:
        context = self.certificates.context() if self.certificates else None
        with urllib.request.urlopen(self.endpoints[number] + path, timeout=2, context=context) as response:
            try:
                data: bytes = response.read()
            except http.client.HTTPException as error:  # the member has died in the middle of its answer
                raise ConnectionError(f"{self.endpoints[number]}{path}: {error!r}") from error
            return data
