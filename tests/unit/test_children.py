"""A child dies with its parent, not with the thread that started it; one that cannot be stopped stops nobody else."""

import contextlib
import subprocess
import threading
from pathlib import Path

import pytest

from tools.children import spawn
from tools.pair import Switch


def test_a_child_outlives_the_thread_that_started_it() -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        child = spawn(["sleep", "600"])
        started.append(child)
        while Path(f"/proc/{child.pid}/comm").read_text() != "sleep\n":
            assert child.poll() is None  # from here on it wants to die with its parent

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    while Path(f"/proc/self/task/{thread.native_id}").exists():
        pass
    (child,) = started
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.2)
    child.kill()
    child.wait()


class Child:
    """Of the whole switch; it may not want to stop."""

    def __init__(self, stopped: list[str], name: str, fails: bool) -> None:
        self._stopped, self._name, self._fails = stopped, name, fails

    def stop(self) -> None:
        self._stopped.append(self._name)
        if self._fails:
            raise TimeoutError(self._name)

    def __exit__(self, *_: object) -> None:
        self.stop()


def test_everything_is_stopped_in_order_even_if_one_part_fails(tmp_path: Path) -> None:
    stopped: list[str] = []
    switch = Switch(tmp_path)
    switch.nodes = {node: Child(stopped, node, node == "a") for node in "ab"}  # type: ignore[misc]
    switch.simulators = {role: Child(stopped, role, role == "bank") for role in ("issuer", "bank")}  # type: ignore[misc]
    switch.etcd = Child(stopped, "etcd", False)  # type: ignore[assignment]
    with contextlib.suppress(TimeoutError):
        switch.__exit__(None, None, None)
    assert stopped == ["a", "b", "issuer", "bank", "etcd"]
