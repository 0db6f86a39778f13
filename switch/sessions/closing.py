"""Closes sockets in order: SHUT_WR, discard input until the remote's FIN or a timer, close. close() with unread input would
send a RST and lose queued output (takeover.md)."""

import asyncio
import socket

LINGER_S = 2.0
DISCARD_BYTES = 65_536


class Closing:
    """The sockets of sessions that are over."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timers: dict[socket.socket, asyncio.TimerHandle] = {}

    def close(self, sock: socket.socket) -> None:
        try:
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            sock.close()  # not connected, or broken: nothing is left to wait for
            return
        self._timers[sock] = self._loop.call_later(LINGER_S, self._close, sock)
        self._loop.add_reader(sock.fileno(), self._discard, sock)

    def _discard(self, sock: socket.socket) -> None:
        try:
            if sock.recv(DISCARD_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset by the remote: as good as its FIN here
        self._close(sock)

    def _close(self, sock: socket.socket) -> None:
        self._timers.pop(sock).cancel()
        self._loop.remove_reader(sock.fileno())
        sock.close()

    def finish(self) -> None:
        """Close what still waits."""
        for sock in list(self._timers):
            self._close(sock)
