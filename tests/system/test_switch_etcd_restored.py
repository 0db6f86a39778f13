"""etcd's data is brought back from before while both nodes are away: they stop loudly, and reverse nobody's payment."""

import shutil
from pathlib import Path

from switch_rig import Wire, card_request, fresh, postings, until

from tools.pair import Settings, Switch

EXIT_CONFIG = 78
SETTINGS = Settings(timeout_ms=4_000, issuer_options=("--delay-ms", "1000..1000"))


def test_a_restored_log_is_not_gone_on_with(tmp_path: Path) -> None:
    with Switch(tmp_path, SETTINGS) as switch:
        data, backup = tmp_path / "etcd" / "m0", tmp_path / "backup"
        number, wire = fresh(), Wire(switch.ports.terminals["a"])
        wire.request(card_request(number))
        until(lambda: switch.ask("a")["transactions"], "the request to be on its way")
        switch.etcd.pause()
        shutil.copytree(data, backup)
        switch.etcd.resume()
        assert wire.fields()[39] == "00"
        paid = postings(switch, number)
        for node in switch.nodes.values():
            node.kill()
        switch.etcd.kill()
        shutil.rmtree(data)
        shutil.copytree(backup, data)
        switch.etcd.start(0)
        for name, node in switch.nodes.items():
            switch.start(name, wait=False)
            assert node.wait() == EXIT_CONFIG and "etcd's data was lost or restored" in node.log.read_text()
        assert postings(switch, number) == paid  # and no reversal
