"""How a safeguard is removed: patches of the product in memory, for as long as their context lasts."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from switch.core import fold

Ablate = Callable[[], contextlib.AbstractContextManager[Any]]


def replaced(target: Any, name: str, make: Callable[[Any], Any]) -> Any:
    """A patch that is made from what it replaces."""
    return mock.patch.object(target, name, make(getattr(target, name)))


def rule(proposal: type, make: Callable[[fold.Rule], fold.Rule]) -> Any:
    return mock.patch.dict(fold.RULES, {proposal: make(fold.RULES[proposal])})


@contextlib.contextmanager
def all_of(*ablations: Ablate) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for each in ablations:
            stack.enter_context(each())
        yield
