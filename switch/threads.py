"""Calls that may wait for others: a database, systemd."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any


def in_thread(function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    """The call in a thread of its own, which ends with the process; what it returns or raises.

    asyncio's executor would be waited for at the end, and whoever does not answer must not keep a node that ends.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    def call() -> None:
        result, failure = None, None
        try:
            result = function(*arguments)
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=call, name=function.__name__, daemon=True).start()
    return future
