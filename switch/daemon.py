"""switchd: one node as a process. Start-up, signals, sd_notify, and how it leaves."""

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from pathlib import Path

import sdnotify
import uvloop

from switch.config import Config, ConfigError, load
from switch.core.proposals import TooNew
from switch.datakeys import in_memory
from switch.mirror.errors import MirrorError
from switch.mirror.mirror import Mirror
from switch.node import Node
from switch.ops import logs
from switch.ops.control import Control
from switch.ops.logs import event
from switch.poison import PoisonEntry
from switch.sessions.links import sessions_held
from switch.threads import in_thread
from switch.witness import WentBack

log = logging.getLogger("switch.daemon")
EXIT_CONFIG = 78  # sysexits(3) EX_CONFIG
EXIT_FAILED = 70  # EX_SOFTWARE: this incarnation is over; the service manager starts the next


def descriptors(sessions_max: int) -> None:
    """As many as this process may have (getrlimit(2)). A node that runs out of them ends, and so would its peer."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    enough_for = sessions_held(most)
    if enough_for < sessions_max:
        event(log, logging.WARNING, "descriptors.few", limit=most, sessions_max=sessions_max,
              do=f"raise LimitNOFILE, or set limits.sessions_max to {enough_for}: no more are accepted")  # fmt: skip


async def serve(config: Config, path: Path, node_name: str, mirror: type[Mirror] = Mirror) -> None:
    """Run one node until SIGTERM or SIGINT. `mirror` may be replaced to measure what mirroring costs."""
    loop = asyncio.get_running_loop()
    descriptors(config.limits.sessions_max)
    node = Node(config, node_name, path, mirror)
    control = Control(node)
    notifier = sdnotify.SystemdNotifier()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    loop.add_signal_handler(signal.SIGHUP, _reload, node)
    loop.set_exception_handler(_defect)
    if not in_memory(directory := Path(config.pair.run_directory)):
        event(log, logging.WARNING, "keys.on_disk", directory=directory,
              do="a destroyed data key may still be found on that disk: use a tmpfs")  # fmt: skip
    await control.start()
    later = [asyncio.create_task(_beat(notifier))]

    def ready() -> None:
        later.append(asyncio.create_task(_tell(notifier, "READY=1")))
        later.append(asyncio.create_task(_afterwards(node, control)))
        later.append(asyncio.create_task(node.journal.run()))
        later[-1].add_done_callback(_ended)

    try:
        await node.run(ready)
        await _tell(notifier, "STOPPING=1")
    finally:
        await control.close()
        await node.close()


async def _tell(notifier: sdnotify.SystemdNotifier, what: str) -> None:
    """While systemd does not read, and its queue is full, this waits, and the sessions shall not."""
    await in_thread(notifier.notify, what)


async def _beat(notifier: sdnotify.SystemdNotifier) -> None:
    """To systemd's watchdog, three times in its patience, as long as the event loop turns."""
    patience_us = int(os.environ.get("WATCHDOG_USEC", "0"))
    while patience_us:
        await _tell(notifier, "WATCHDOG=1")
        await asyncio.sleep(patience_us / 3e6)


async def _afterwards(node: Node, control: Control) -> None:
    """What may wait until the node serves. It serves without, too: whose address is taken lacks figures, not payments."""
    try:
        await control.start_http()
    except Exception as error:  # as of any operator's command
        text = str(error) if isinstance(error, OSError) else None
        event(log, logging.ERROR, "ops.http_failed", error=type(error).__name__, text=text,
              do="no /metrics, no /health: correct [ops.http] or free its address, and restart this node")  # fmt: skip


def _ended(task: asyncio.Task[None]) -> None:
    """Nobody awaits it: what it raised is told as what nobody awaited."""
    if not task.cancelled() and task.exception() is not None:
        task.get_loop().call_exception_handler({"message": "the journal's writer ended", "exception": task.exception()})


def _reload(node: Node) -> None:
    """As systemd asks: a fault in the file is told in the log, and the active rules stay."""
    try:
        node.reload()
    except ConfigError as error:
        event(log, logging.WARNING, "rules.refused", error=str(error), do="correct the file and reload again")


def _defect(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """An exception that nobody awaited is a defect: this incarnation leaves at once and its heir goes on."""
    error = context.get("exception")
    event(log, logging.CRITICAL, "node.defect", message=context.get("message"), error=type(error).__name__)
    if isinstance(error, BaseException):
        _traceback(error)
    os._exit(EXIT_FAILED)


def _traceback(error: BaseException) -> None:
    """Where it happened, without the exception's text: that may quote a message."""
    frame = error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        where = f"{Path(code.co_filename).name}:{frame.tb_lineno}"
        event(log, logging.CRITICAL, "node.defect_at", line=where, function=code.co_name)
        frame = frame.tb_next
    if error.__cause__ is not None:
        event(log, logging.CRITICAL, "node.defect_cause", error=type(error.__cause__).__name__)
        _traceback(error.__cause__)


def start(path: Path, node: str) -> None:
    """Run one node of the switch."""
    try:
        loaded = load(path)
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(EXIT_CONFIG) from None
    if node not in ("a", "b"):
        print("--node is a or b", file=sys.stderr)
        raise SystemExit(EXIT_CONFIG)
    logs.configure(node, loaded.pair.log_level)
    gc.freeze()  # what start-up made lives for ever
    gc.set_threshold(50_000, 20, 50)  # messages make many short-lived dicts, and hardly a cycle
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(loaded, path, node))
    except (PoisonEntry, TooNew, WentBack) as error:
        event(log, logging.CRITICAL, "node.stopped", text=error)
        os._exit(EXIT_CONFIG)
    except Exception as error:
        # whatever ends a node ends it at once: nothing may be written after a fence, and an heir goes on
        text = str(error) if isinstance(error, MirrorError | OSError) else ""
        event(log, logging.CRITICAL, "node.failed", error=type(error).__name__, text=text or None)
        _traceback(error)
        os._exit(EXIT_FAILED)


def main() -> None:
    """The command line: `switchd --config FILE --node a|b`."""
    # argparse, not typer as elsewhere: its import adds about a tenth to what a node imports before it can take over
    options = argparse.ArgumentParser(prog="switchd", description="Run one node of the switch.")
    options.add_argument("-c", "--config", type=Path, required=True, help="the pair's configuration file")
    options.add_argument("-n", "--node", required=True, help="a or b")
    given = options.parse_args()
    start(given.config, given.node)
