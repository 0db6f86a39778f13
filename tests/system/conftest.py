"""Fixtures of the system tests: a whole switch per test or per file, and the ends of its logs with every failure."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tools.pair import Settings, Switch

TAIL_LINES = 40


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Switch]]:
    """`start(settings, members)` starts a switch that is gone when the test is."""
    with contextlib.ExitStack() as stack:

        def begin(settings: Settings | None = None, members: int = 1) -> Switch:
            return stack.enter_context(Switch(tmp_path / "switch", settings, members))

        yield begin


@pytest.fixture(scope="module")
def switch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Switch]:
    """One switch for all tests of a file, as its SETTINGS and MEMBERS say."""
    module = request.module
    settings, members = getattr(module, "SETTINGS", None), getattr(module, "MEMBERS", 1)
    with Switch(tmp_path_factory.mktemp("pair") / "switch", settings, members) as pair:
        yield pair


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Iterator[None]:
    """A failure shows what the processes of its switch said last."""
    outcome: Any = yield
    report = outcome.get_result()
    pair = getattr(item, "funcargs", {}).get("switch")
    if report.failed and isinstance(pair, Switch):
        for name, text in pair.logs():
            report.sections.append((f"{name}.log", "\n".join(text.splitlines()[-TAIL_LINES:])))
