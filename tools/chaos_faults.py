"""What tools/chaos does to a switch: a table of faults, and the order in which a seed lets them happen.

One failure at a time is what the switch promises to survive, so each fault begins with the pair whole and heals itself. To
add one: a function that hits, heals and tells, and its line in FAULTS.
"""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from tools.kills import Kill, strike, strike_both, taken_over
from tools.pair import RESTART_S, Switch

QUIET_S = 0.5  # at most, from the pair being whole to the next fault: sessions are still being given back in it
PATIENCE_S = {"a": 2.0, "b": 1.0}  # how long the peer of this node lets it be silent (switch/config.py, detector.py)
SETTLE_S = 0.3  # what comes of it has come
BUSY_S = 1.0  # a peer on a busy machine has decided, and has done so
CATCH_UP_S = 0.4
AWAY_S = 1.0  # etcd, while a node is killed
DISK_BYTES = 640 << 20  # of an etcd that is to fill it: seven files of its log have 64 MB each
PIDFD_GETFD = 438  # pidfd_getfd(2), on every architecture
CONNECTED = "03"  # of a socket in /proc/net/unix


class Step(msgspec.Struct, frozen=True):
    """One fault as the seed wants it. size: 0 to 1, from the mildest to the hardest of its kind."""

    fault: str
    node: str
    wait_s: float
    size: float


class Done(msgspec.Struct, frozen=True):
    """What came of a fault. replaced: the nodes whose process is another one now."""

    detail: str
    kills: list[Kill] = []
    replaced: str = ""


class Fault(msgspec.Struct, frozen=True):
    """A kind of fault. each_round: how often it comes in a round of the order.

    kills: it may end nodes. sudden: it ends one at once, and its peer need not find out by its silence. holds: while it
    lasts the log or sessions may stand still, so that requests may outlive their timers.
    """

    run: Callable[[Switch, Step], Done]
    each_round: int
    members: tuple[int, ...] = (1, 3)  # of etcd, with which it makes sense
    kills: bool = False
    sudden: bool = False
    holds: bool = False
    asked: bool = False  # only when asked for


def order(seed: int, each_round: Mapping[str, int]) -> Iterator[Step]:
    """Rounds without end, each with every fault as often as it is due, shuffled; the same seed, the same order."""
    dice = random.Random(seed)
    while True:
        faults = [name for name, times in each_round.items() for _ in range(times)]
        dice.shuffle(faults)
        for name in faults:
            yield Step(name, dice.choice("ab"), dice.uniform(0, QUIET_S), dice.random())


# --- nodes


def kill(switch: Switch, step: Step) -> Done:
    """SIGKILL; the unit's RestartSec later it is started again."""
    return _killed(strike(switch, step.node))


def hang(switch: Switch, step: Step) -> Done:
    """SIGSTOP: its peer must kill it, and nothing is left that SIGCONT could wake up."""
    return _killed(strike(switch, step.node, signal.SIGSTOP))


def doze(switch: Switch, step: Step) -> Done:
    """SIGSTOP, and SIGCONT about when its peer loses patience: killed or spared, but never both at work."""
    process, dead = switch.nodes[step.node], switch.ask(step.node)["incarnation"]
    seconds = PATIENCE_S[step.node] * (0.8 + 0.4 * step.size)
    epoch_ms = _stopped(switch, step.node, seconds)
    # its peer may lose patience when it has just woken up and not been heard yet: what comes of it is known after that
    known_s = time.monotonic() + max(PATIENCE_S[step.node] - seconds, 0) + BUSY_S
    while process.running() and time.monotonic() < known_s:
        time.sleep(0.01)
    if process.running():
        return Done(f"{step.node} slept {seconds:.2f} s and was spared")
    process.respawn()
    return _killed(taken_over(switch, dead, epoch_ms), f" (it slept {seconds:.2f} s)")


def pause(switch: Switch, step: Step) -> Done:
    """SIGSTOP for a moment: nothing may come of it."""
    seconds = 0.05 + 0.15 * step.size
    _stopped(switch, step.node, seconds)
    time.sleep(SETTLE_S)
    return Done(f"{step.node} for {seconds * 1000:.0f} ms")


def restart(switch: Switch, step: Step) -> Done:
    """SIGTERM: it hands its sessions over and leaves; then it is started again."""
    began = time.monotonic()
    code = switch.nodes[step.node].stop()
    if code:
        raise RuntimeError(f"{step.node} was asked to leave and ended with {code}")
    switch.nodes[step.node].start()
    return Done(f"{step.node} left within {time.monotonic() - began:.2f} s", replaced=step.node)


def kill_rejoining(switch: Switch, step: Step) -> Done:
    """SIGKILL, and once more when it has joined and catches up, or has just done so."""
    victim, survivor = step.node, "ba"["ab".index(step.node)]
    before = set(switch.ask(survivor)["incarnations"])
    first = strike(switch, victim)
    joined: set[str] = set()

    def has_joined() -> bool:
        joined.update(id_ for id_ in switch.ask(survivor)["incarnations"].keys() - before if id_.startswith(victim))
        return bool(joined)

    switch.wait_for(has_joined, f"{victim} to join again", every_s=0.005)
    after_s = CATCH_UP_S * step.size
    time.sleep(after_s)
    status = switch.ask(survivor)["incarnations"][min(joined)]["status"]
    epoch_ms = time.time() * 1000
    switch.nodes[victim].signal(signal.SIGKILL)
    switch.nodes[victim].respawn()
    second = taken_over(switch, min(joined), epoch_ms)
    detail = f"{_told(first)}; again {after_s * 1000:.0f} ms after its join, then {status}: {_told(second)}"
    return Done(detail, [first, second], victim)


def kill_both(switch: Switch, step: Step) -> Done:
    """SIGKILL for both: only their fd stores hold the sockets then."""
    return _killed(strike_both(switch))


def cut(switch: Switch, step: Step) -> Done:
    """The handover socket between the nodes is shut down under their hands: one kills the other, and not both."""
    ids = {node: switch.ask(node)["incarnation"] for node in "ab"}
    epoch_ms = time.time() * 1000
    _shut_down_handover(switch)
    gone: list[str] = []

    def decided() -> bool:
        gone[:] = [node for node in "ab" if not switch.nodes[node].running()]
        return bool(gone)

    switch.wait_for(decided, "one node to replace the other")
    time.sleep(SETTLE_S)
    decided()
    for node in gone:
        switch.nodes[node].respawn()
    if len(gone) == 2:
        raise RuntimeError("both nodes ended when the socket between them was cut")
    return _killed(taken_over(switch, ids[gone[0]], epoch_ms))


def _stopped(switch: Switch, node: str, seconds: float) -> float:
    """Stop a node's process for a time. The epoch milliseconds of its begin."""
    process, epoch_ms = switch.nodes[node], time.time() * 1000
    process.signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):  # killed by its peer
            if process.running():
                process.signal(signal.SIGCONT)
    return epoch_ms


def _killed(kill: Kill, more: str = "") -> Done:
    return Done(_told(kill) + more, [kill], kill.node)


def _told(kill: Kill) -> str:
    return f"{kill.node}: {kill.sessions} sessions taken over in {kill.takeover_ms:.0f} ms"


def _shut_down_handover(switch: Switch) -> None:
    """Shut the handover socket down through a duplicate of a node's descriptor. Needs root, or the right to ptrace(2)."""
    paths = {str(switch.run_directory / f"demo-{node}.handover") for node in "ab"}
    rows = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    ours = {f"socket:[{row[6]}]" for row in rows if row[-1] in paths and row[5] == CONNECTED}
    for process in switch.nodes.values():
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                if os.readlink(link) in ours:
                    with _duplicate(process.pid, int(link.name)) as sock:
                        sock.shutdown(socket.SHUT_RDWR)
                    return
    raise RuntimeError("there is no handover socket between the nodes")


def _duplicate(pid: int, fd: int) -> socket.socket:
    """Another process's socket, shared with it. Raises OSError."""
    pidfd = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        shared = libc.syscall(PIDFD_GETFD, pidfd, fd, 0)
        if shared < 0:
            raise OSError(ctypes.get_errno(), f"pidfd_getfd of process {pid}: {os.strerror(ctypes.get_errno())}")
        return socket.socket(fileno=shared)
    finally:
        os.close(pidfd)


# --- etcd


def kill_without_etcd(switch: Switch, step: Step) -> Done:
    """SIGKILL for a node while all of etcd stands still or is dead: its peer is the heir as soon as the log is back."""
    etcd, victim, process = switch.etcd, step.node, switch.nodes[step.node]
    stands_still, before_s = step.size < 0.5, AWAY_S * (step.size * 2 % 1)
    dead = switch.ask(victim)["incarnation"]
    for number in range(etcd.members):
        (etcd.pause if stands_still else etcd.kill)(number)
    try:
        time.sleep(before_s)
        epoch_ms = time.time() * 1000
        process.signal(signal.SIGKILL)
        process.respawn()
        time.sleep(max(AWAY_S - before_s - RESTART_S, 0))
    finally:
        for number in range(etcd.members):
            if stands_still:
                etcd.resume(number)
            else:
                etcd.start(number, wait=False)
    back_ms = time.time() * 1000 - epoch_ms
    how = "stood still" if stands_still else "was dead"
    return _killed(taken_over(switch, dead, epoch_ms), f"; etcd {how}, and was back {back_ms:.0f} ms after the kill")


def etcd_pause(switch: Switch, step: Step) -> Done:
    """The only member stands still: the switch holds, and goes on."""
    return _member_stands_still(switch, 0, 0.3 + 1.7 * step.size)


def etcd_kill(switch: Switch, step: Step) -> Done:
    """The only member is killed and started again with its data."""
    return _member_dies(switch, 0, step)


def etcd_full(switch: Switch, step: Step) -> Done:
    """The database reaches its quota: etcd refuses every write until an operator has made room."""
    began = time.monotonic()
    try:
        written = switch.etcd.fill()
        full = time.monotonic()
        switch.wait_for(lambda: all(switch.ask(node)["held"] for node in "ab"), "both nodes to hold")
        time.sleep(2 * step.size)
        refused_s = time.monotonic() - full
    finally:
        switch.etcd.make_room()
    return Done(f"{written} keys of junk in {full - began:.1f} s, no write for {refused_s:.1f} s")


def disk_full(switch: Switch, step: Step) -> Done:
    """The disk of etcd's data has no room left: etcd ends when it commits; it is started again when there is room."""
    etcd, junk = switch.etcd, switch.etcd.directory / "m0" / "junk"
    began, zeros = time.monotonic(), bytes(1 << 20)
    try:
        with junk.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # there is no room
            while file.write(zeros):
                pass
        with contextlib.suppress(RuntimeError):  # it ends in the midst of that
            etcd.fill()
        switch.wait_for(lambda: not etcd.running(0), "etcd to find no room on its disk")
        ended = time.monotonic()
        time.sleep(step.size)
    finally:
        junk.unlink()
        etcd.kill(0)
        etcd.start(0)
    etcd.make_room()
    return Done(f"m0 ended {ended - began:.1f} s after its disk was full, {time.monotonic() - ended:.1f} s without it")


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    """A small file system in memory, gone with all that is on it in the end. Needs root. Raises CalledProcessError."""
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def leader_kill(switch: Switch, step: Step) -> Done:
    """The member that leads is killed; started again when the others have gone on for a while."""
    return _member_dies(switch, switch.etcd.leader(), step)


def follower_kill(switch: Switch, step: Step) -> Done:
    """A member that follows is killed and started again."""
    return _member_dies(switch, (switch.etcd.leader() + 1 + int(step.size * 2)) % 3, step)


def member_pause(switch: Switch, step: Step) -> Done:
    """Any member stands still for three seconds: its connections stay open and silent."""
    return _member_stands_still(switch, int(step.size * 3), 3.0)


def _member_stands_still(switch: Switch, number: int, seconds: float) -> Done:
    switch.etcd.pause(number)
    try:
        time.sleep(seconds)
    finally:
        switch.etcd.resume(number)
    return Done(f"m{number} for {seconds:.1f} s")


def _member_dies(switch: Switch, number: int, step: Step) -> Done:
    away_s = 2 * step.size
    switch.etcd.kill(number)
    time.sleep(away_s)
    switch.etcd.start(number)
    return Done(f"m{number}, {away_s:.1f} s without it")


FAULTS = {
    "kill": Fault(kill, 4, kills=True, sudden=True),
    "hang": Fault(hang, 1, kills=True, holds=True),
    "doze": Fault(doze, 1, kills=True, holds=True),
    "pause": Fault(pause, 1),
    "restart": Fault(restart, 1),
    "kill-rejoining": Fault(kill_rejoining, 1, kills=True, sudden=True),
    "kill-both": Fault(kill_both, 2, kills=True, asked=True, holds=True),
    "cut": Fault(cut, 1, kills=True),
    "kill-without-etcd": Fault(kill_without_etcd, 1, kills=True, holds=True),
    "etcd-pause": Fault(etcd_pause, 1, (1,), holds=True),
    "etcd-kill": Fault(etcd_kill, 1, (1,), holds=True),
    "etcd-full": Fault(etcd_full, 1, holds=True),
    "disk-full": Fault(disk_full, 1, (1,), holds=True, asked=True),
    "leader-kill": Fault(leader_kill, 1, (3,), holds=True),
    "follower-kill": Fault(follower_kill, 1, (3,), holds=True),
    "member-pause": Fault(member_pause, 1, (3,), holds=True),
}


def chosen(members: int, only: Iterable[str] = (), both: bool = False) -> dict[str, int]:
    """How often each fault comes in a round. Raises ValueError for a name that is none, or not with so many members."""
    fitting = {name: fault for name, fault in FAULTS.items() if members in fault.members}
    if members not in (1, 3):
        raise ValueError(f"etcd has 1 or 3 members here, not {members}")
    names = set(only) or {name for name, fault in fitting.items() if not fault.asked}
    if both:
        names.add("kill-both")
    if strange := sorted(names - fitting.keys()):
        known = ", ".join(fitting)
        raise ValueError(f"with {members} member(s) of etcd there is no fault {strange[0]!r}, but: {known}")
    return {name: fault.each_round for name, fault in fitting.items() if name in names}
