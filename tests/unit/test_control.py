"""The control socket of a node: whatever line comes, one line goes back, and the node lives on."""

import asyncio
import json
import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from engines import Pair

from switch.config import Pair as PairConfig
from switch.ops.control import Control
from switch.ops.switchctl import ask as asked


def ask(directory: Path, lines: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """The answers, and what the event loop was told that nobody had awaited: that ends a node."""

    async def talk() -> tuple[list[dict[str, Any]], list[str]]:
        unawaited: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unawaited.append(str(context)))
        config = SimpleNamespace(pair=PairConfig(name="p", key_file="keys", run_directory=str(directory)))
        node: Any = SimpleNamespace(node="a", config=config, engine=Pair().engines["a"])
        control = Control(node)
        await control.start()
        reader, writer = await asyncio.open_unix_connection(directory / "p-a.sock")
        writer.write(lines)
        writer.write_eof()
        answers = [json.loads(line) for line in (await reader.read()).splitlines()]
        writer.close()
        await control.close()
        return answers, unawaited

    return asyncio.run(talk())


@pytest.mark.parametrize(
    "line", [b'{"command":' + b"[" * 30_000, b'{"command":"\xff"}', b"[1]", b"", b'{"command":{}}', b"{"],
    ids=["deep", "no utf-8", "no object", "empty", "no name", "no json"],
)  # fmt: skip
def test_a_line_that_is_no_command_is_answered_by_the_commands(line: bytes, tmp_path: Path) -> None:
    answers, unawaited = ask(tmp_path, line + b'\n{"command":"sessions"}\n')
    assert [answer["ok"] for answer in answers] == [False, True] and unawaited == []
    assert answers[0]["error"].startswith("commands are status, sessions")


@pytest.mark.parametrize("given", ["", ',"id":"7","retry":true', ',"id":1e300,"retry":true', ',"id":7,"retry":"no"'])
def test_a_word_on_no_advice_is_told_what_it_lacks(given: str, tmp_path: Path) -> None:
    answers, _ = ask(tmp_path, f'{{"command":"settle"{given}}}\n'.encode())
    assert answers == [{"ok": False, "error": "settle wants an id, which is a number, and retry, true or false"}]


@pytest.mark.parametrize("cut", [b"", b'{"ok": tr', b"\xff\n"])
def test_a_node_that_ends_in_its_answer_is_told_as_one_that_does_not_answer(cut: bytes, tmp_path: Path) -> None:
    config = tmp_path / "switch.toml"
    config.write_text(f'[pair]\nname = "p"\nkey_file = "keys"\nrun_directory = "{tmp_path}"\n[etcd]\nendpoints = []\n')
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "p-a.sock"))
        server.listen()

        def serve() -> None:
            with server.accept()[0] as client:
                client.recv(100)
                client.sendall(cut)

        node = threading.Thread(target=serve)
        node.start()
        with pytest.raises(SystemExit, match="node a does not answer"):
            asked(config, "a", "status")
        node.join()
