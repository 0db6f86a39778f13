"""What a node tells systemd, and what it starts once it serves: neither may stop it."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sdnotify

from switch import daemon

FULL = b"FDSTORE=1"
STUCK_S = 5.0


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The other end of NOTIFY_SOCKET, that does not read, and whose queue is full."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            with pytest.raises(BlockingIOError):
                while True:
                    sender.sendto(FULL, sock.getsockname())
            yield sock


def _read(manager: socket.socket) -> list[bytes]:
    told = []
    with contextlib.suppress(BlockingIOError):
        while True:
            told.append(manager.recv(100))
    return told


def test_while_systemd_does_not_read_sessions_do_not_wait_and_its_watchdog_is_told_afterwards(
    manager: socket.socket,
) -> None:
    async def run() -> None:
        let_go = threading.Timer(STUCK_S, _read, (manager,))  # whoever waits for it
        let_go.start()
        beats, began = asyncio.create_task(daemon._beat(sdnotify.SystemdNotifier())), time.monotonic()
        for _ in range(10):
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < STUCK_S
        told = _read(manager)
        while b"WATCHDOG=1" not in told:
            await asyncio.sleep(0.01)
            told += _read(manager)
        let_go.cancel()
        beats.cancel()

    asyncio.run(run())


def test_an_address_of_http_that_is_taken_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Control:
        async def start_http(self) -> None:
            raise OSError(98, "address already in use")

    node: Any = None
    control: Any = Control()
    with caplog.at_level(logging.ERROR):
        asyncio.run(daemon._afterwards(node, control))
    assert "ops.http_failed error=OSError" in caplog.text and "no /health" in caplog.text
