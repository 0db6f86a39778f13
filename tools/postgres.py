"""A private PostgreSQL for tests: a server of Debian's package on a free local port, gone when its user is.

with Postgres() as postgres:
    store = Store(postgres.url, postgres.password)
    postgres.stop()
    postgres.start()
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tools.ports import free_ports

START_S = 30.0
OWNER = "postgres"  # the server refuses to run as root
BINARIES = Path("/usr/lib/postgresql")


def ensure_postgres() -> Path:
    """The directory of a server's programs, installed from Debian's `postgresql` if there is none (needs root then)."""
    found = _newest()
    if found is None:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        install = ["apt-get", "install", "-y", "--no-install-recommends", "postgresql"]
        for command in (["apt-get", "update"], install):
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        found = _newest()
    if found is None:
        raise RuntimeError(f"postgresql was installed, but there is no initdb under {BINARIES}")
    return found


def _newest() -> Path | None:
    versions = [path.parent for path in BINARIES.glob("*/bin/initdb")]
    return max(versions, key=lambda path: float(path.parent.name), default=None)


class Postgres:
    """One server process with an empty database `postgres` and the user `switch`. Its data are deleted at the end."""

    def __init__(self) -> None:
        self._binaries = ensure_postgres()
        self._as_owner: list[str] = []
        self.directory = Path(tempfile.mkdtemp(prefix="switch-postgres-"))
        if os.geteuid() == 0:
            owner = pwd.getpwnam(OWNER)
            self._as_owner = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
        self.password = secrets.token_hex(8)
        (self.port,) = free_ports(1)
        self.url = f"postgresql://switch@127.0.0.1:{self.port}/postgres"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Postgres":
        try:
            password_file = self.directory / "password"
            password_file.write_text(self.password)
            password_file.chmod(0o644)
            options = ["--username=switch", "--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync"]
            command = self._command("initdb", f"--pgdata={self._data}", *options)
            subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL)
            self.start()
        except BaseException:  # also KeyboardInterrupt: no child may stay behind
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _log(self) -> Path:
        return self.directory / "postgres.log"

    def _command(self, program: str, *arguments: str) -> list[str]:
        """As its owner, and killed with the thread that starts it."""
        return ["setpriv", *self._as_owner, "--pdeathsig=KILL", str(self._binaries / program), *arguments]

    def start(self) -> None:
        """Start the server, with the data it had, and wait until it takes connections."""
        settings = (
            "-clisten_addresses=127.0.0.1", f"-cport={self.port}", "-cunix_socket_directories=", "-cmax_connections=20",
            "-cshared_buffers=16MB",
        )  # fmt: skip
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self._data), *settings), cwd="/", stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        ready = [str(self._binaries / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        deadline = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < deadline:
            if subprocess.run(ready, check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError(f"postgres did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Fast shutdown: connections are cut, what was committed stays."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """As a crash: its children end when they notice."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(START_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def close(self) -> None:
        """End what runs and delete the data."""
        self._end(signal.SIGINT)
        shutil.rmtree(self.directory, ignore_errors=True)
