"""Beats to the peer from a thread of its own, so that a busy event loop does not look dead."""

import socket
import threading
import time

from switch.sessions.handover_messages import BEAT


class Beats:
    """The beating thread; it pauses while the event loop stands still."""

    INTERVAL_S = 0.05
    STILL_S = 1.0  # an event loop that has not turned for so long is hung: the peer shall kill it

    def __init__(self, sock: socket.socket) -> None:
        self.turned = time.monotonic()
        self._sock = sock.dup()  # the thread's own: the number of a closed one may be a terminal's the next moment
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="beats", daemon=True).start()

    def _run(self) -> None:
        with self._sock:
            while not self._stop.wait(self.INTERVAL_S):
                if time.monotonic() - self.turned > self.STILL_S:
                    continue
                try:
                    self._sock.send(BEAT, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    continue  # what fills the socket shows that we live
                except OSError:
                    return  # the event loop notices, too

    def stop(self) -> None:
        self._stop.set()
