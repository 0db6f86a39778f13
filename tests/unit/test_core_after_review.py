"""What seeds and a review found in how advices, completions and breakers meet: each as short as it can be told."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from engines import DIALECT, Pair, answer_to, card, reversal, rules

from switch.config import ConfigError, load, load_again
from switch.core.originals import Standing, find
from switch.core.proposals import Undo
from switch.core.records import Incarnation, Role, Stage, Status
from switch.peer import boot_id, kill, start_time


@pytest.fixture
def pair():
    return Pair(rules(net={"timeout_ms": 1_000, "advice_retry_ms": 1_000}))


def completion(number=11):
    return card(number, mti="0220", de90=DIALECT.decode(reversal()).fields[90])


def partial(stan=700, left=400):
    return reversal(stan=stan, de95=f"{left:012d}{0:012d}C00000000C00000000")


@pytest.mark.parametrize("acknowledged", [False, True])
def test_a_reversal_goes_behind_its_original_where_that_may_not_be_written_yet(pair, acknowledged):
    terminal, first, second = pair.accept(node="b"), pair.connect(slot=0), pair.connect(node="b", slot=1)
    pair.receive(terminal, card())
    (carrier,) = (net for net in (first, second) if pair.sent(net, Role.FORWARD))
    other = first if carrier == second else second
    if acknowledged:
        pair.ack(carrier)
    pair.pass_ms(1_000)
    pair.tend()
    assert len(pair.sent(carrier, Role.ADVICE)) + len(pair.sent(other, Role.ADVICE)) == 1
    if not acknowledged:  # its owner may be cut off from the log, and write the original when it has caught up
        assert [out.role for out in pair.outs(carrier)] == [Role.FORWARD, Role.ADVICE]


def test_a_refused_echo_is_followed_by_another_in_a_while():
    pair = Pair(rules(net={"breaker_timeouts": 1, "timeout_ms": 300, "network_timeout_ms": 2_000, "echo_interval_ms": 0}))
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.pass_ms(1_000)
    pair.tend()
    (echo,) = pair.sent(net, Role.NETWORK)[-1:]
    assert echo[:4] == b"0800"
    pair.receive(net, answer_to(echo, "91"))
    sent = len(pair.sent(net, Role.NETWORK))
    pair.tend()
    pair.pass_ms(1_000)
    pair.tend()
    assert len(pair.sent(net, Role.NETWORK)) == sent and pair.state.breakers["net"].open
    pair.pass_ms(1_500)
    pair.tend()
    assert len(pair.sent(net, Role.NETWORK)) == sent + 1


def test_after_a_partial_reversal_of_what_is_unknown_the_rest_can_be_reversed(pair):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, partial())
    pair.receive(terminal, reversal(stan=701))
    pair.tend()
    pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[0], "00"))
    pair.tend()
    assert [DIALECT.decode(each).fields.get(95) is None for each in pair.sent(net, Role.ADVICE)] == [False, True]
    pair.receive(terminal, card())
    assert pair.codes(terminal)[-1] == "12"
    pair.receive(terminal, reversal(stan=702))
    pair.tend()
    assert len(pair.sent(net, Role.ADVICE)) == 2, "it is reversed in full already"


@pytest.mark.parametrize("repeated", [False, True])
def test_a_completion_of_what_reached_nobody_makes_it_final(pair, repeated):
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card())
    pair.end(one, 0)
    pair.receive(net, answer_to(pair.forwarded(net)))
    assert pair.only().stage is Stage.UNDELIVERABLE
    if repeated:
        pair.receive(two, card(mti="0201"))
    pair.receive(two, completion())
    assert not any(isinstance(item, Undo) for item in pair.tend())
    assert not pair.state.transactions and pair.session(two).waiting == 0
    pair.receive(two, card(mti="0201"))
    assert pair.codes(two)[-1] == "00"


def test_not_if_its_reversal_was_acknowledged_before(pair):
    one, two, net = pair.accept(), pair.accept(), pair.connect()
    pair.receive(one, card())
    pair.end(one, 0)
    pair.receive(net, answer_to(pair.forwarded(net)))
    pair.receive(two, reversal())
    pair.receive(two, completion())
    assert any(isinstance(item, Undo) for item in pair.tend())


@pytest.mark.parametrize(("code", "undone"), [("00", False), ("05", True)])
def test_an_advice_that_tells_a_decline_completes_nothing(pair, code, undone):
    terminal, net = pair.accept(), pair.connect()
    pair.receive(terminal, card())
    pair.receive(terminal, card(11, mti="0220", de90=DIALECT.decode(reversal()).fields[90], de39=code))
    pair.pass_ms(1_000)
    pair.tend()
    pair.receive(net, answer_to(pair.sent(net, Role.ADVICE)[0], "00"))
    pair.tend()
    assert (b"0420" in [payload[:4] for payload in pair.sent(net, Role.ADVICE)]) is undone


def test_of_those_about_one_original_only_the_first_expires(pair):
    pair = Pair(rules(net={"advice_expires_ms": 1_000}))
    terminal = pair.accept()
    pair.receive(terminal, reversal())
    pair.receive(terminal, partial(701))
    pair.receive(terminal, card(20, mti="0220"))
    pair.pass_ms(2_000)
    pair.tend()
    assert [each.parked for each in pair.state.advices.values()].count("expired") == 2
    assert find(pair.state, "pos", pair.state.advices[1].about.partition(b"\0")[2])[0] is Standing.BLOCKED


def test_a_process_that_has_just_ended_is_no_error_of_who_kills_it():
    """It ended, and was reaped, after its pidfd was opened and before the loop has seen that (seed 68570)."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    gone = Incarnation("b", 1, "", boot_id(), child.pid, start_time(child.pid) or 0, Status.LIVE)

    def ends_now() -> bool:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        return False

    assert asyncio.run(kill(gone, 0.0, spare=ends_now))


def test_a_value_that_nobody_foresaw_is_an_error_of_the_file(tmp_path):
    file = tmp_path / "switch.toml"
    file.write_text('[pair]\nname = "x"\nrun_directory = "/tmp"\nkey_file = "k"\n[etcd]\nendpoints = ["http://x:1"]\n'
                    '[[link]]\nname = "pos"\nlisten = {a = "127.0.0.1:1"}\nframing = "2-byte-be"\nheader = "fixed:x"\n'
                    'unparseable = "reject"\n[link.iso8583]\n')  # fmt: skip
    with pytest.raises(ConfigError, match="invalid literal"):
        load(file)


def test_a_dialect_that_was_changed_where_it_stands_is_told_at_a_reload(tmp_path):
    """It was said to be active, and was not, before a node ended: then that one had it, or did not start."""
    dialect, file = tmp_path / "own.toml", tmp_path / "switch.toml"
    dialect.write_text('base = "iso87-ascii"\n[fields.48]\nformat = "ans...999"\n')
    file.write_text('[pair]\nname = "x"\nrun_directory = "/tmp"\nkey_file = "k"\n[etcd]\nendpoints = ["http://x:1"]\n'
                    '[[link]]\nname = "pos"\nlisten = {a = "127.0.0.1:1"}\nframing = "2-byte-be"\n'
                    f'[link.iso8583]\ndialect = "{dialect}"\n')  # fmt: skip
    load(file)
    load_again(file)
    dialect.write_text('base = "iso87-ascii"\n[fields.48]\nformat = "ans...999"\nsensitive = true\n')
    with pytest.raises(ConfigError, match=r"own\.toml was changed since"):
        load_again(file)
    dialect.write_text('base = "iso87-ascii"\n[fields.48]\nformat = "nonsense"\n')
    with pytest.raises(ConfigError, match=r"link .pos.: dialect .*own\.toml"):
        load_again(file)
