"""Track, PIN block, CVV and tag 57 live until their request is decided: in the log and in snapshots under a data key only,
and afterwards nowhere in the state, whatever became of the request. What is looked at is opened: clear of the long-lived key.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from engines import DIALECT, Pair, answer_to, card, rules
from sealing_pair import SealingPair

from messages.iso8583.options import Iso8583Options
from switch.core import snapshot
from switch.core.records import Role, Stage
from switch.core.rules import Rules
from switch.core.state import State

TRACK_2 = "4111111111111111=28121017391828374650"
TRACK_1 = "B4111111111111111^DOE/J^28121018463726159"
PIN_BLOCK = "B7C91D5E83F2A64D"
CVV = "CVV2=918"
CHIP = f"5713{TRACK_2.replace('=', 'D').ljust(38, 'F')}9F0206000000010000"
SECRETS = ("7391828374650", "8463726159", PIN_BLOCK, CVV)
FIELDS = {"de35": TRACK_2, "de45": TRACK_1, "de52": PIN_BLOCK, "de48": CVV, "de55": CHIP}


def secrets_in(data: bytes) -> list[str]:
    text, digits = data.decode("latin-1").upper(), data.hex().upper()
    return [each for each in SECRETS if each in text or each in digits or each.encode().hex().upper() in digits]


def encoded(state: State) -> bytes:
    """The whole state, as a snapshot has it."""
    view = snapshot.View(state)
    return b"".join([*view.chunks(), *(encode() for encode in view.segments().values())])


def request(stan: int = 1, mti: str = "0200", **changes: str) -> bytes:
    return card(stan, mti, **{**FIELDS, **changes})


def approval(payload: bytes, code: str = "00") -> bytes:
    """An issuer that sends back what it should not."""
    body, asked = DIALECT.decode(answer_to(payload, code)), DIALECT.decode(payload)
    return DIALECT.assemble(body.mti, dict(sorted({**body.raw, **{n: asked.raw[n] for n in (35, 45, 52)}}.items())))


def approved(pair: Pair, net: str, terminal: str) -> None:
    pair.receive(net, approval(pair.forwarded(net)))
    pair.ack(terminal)


def declined(pair: Pair, net: str, terminal: str) -> None:
    pair.receive(net, approval(pair.forwarded(net), "51"))
    pair.ack(terminal)


def timed_out(pair: Pair, net: str, terminal: str) -> None:
    pair.pass_ms(16_000)
    pair.tend()
    assert pair.sent(net, Role.ADVICE)[0][:4] == b"0420"


def undeliverable(pair: Pair, net: str, terminal: str) -> None:
    pair.end(terminal)
    pair.receive(net, approval(pair.forwarded(net)))
    assert pair.only().stage is Stage.UNDELIVERABLE
    pair.tend()
    assert pair.sent(net, Role.ADVICE)[0][:4] == b"0420"


def repeated_in_flight(pair: Pair, net: str, terminal: str) -> None:
    other = pair.accept()
    pair.receive(other, request(mti="0201"))
    approved(pair, net, terminal)
    pair.ack(other)


def repeated_afterwards(pair: Pair, net: str, terminal: str) -> None:
    approved(pair, net, terminal)
    other = pair.accept()
    pair.receive(other, request(mti="0201"))
    assert pair.codes(other) == ["00"]


def refused(pair: Pair, net: str, terminal: str) -> None:
    approved(pair, net, terminal)
    other = pair.accept()
    pair.receive(other, request(de4="000000077777"))  # another one under its key
    assert pair.codes(other) == ["94"]


def answered_late(pair: Pair, net: str, terminal: str) -> None:
    forwarded = pair.forwarded(net)
    timed_out(pair, net, terminal)
    pair.receive(net, approval(forwarded))


FATES = (
    approved, declined, timed_out, undeliverable, repeated_in_flight, repeated_afterwards, refused, answered_late,
)  # fmt: skip


@pytest.fixture
def given(tmp_path: Path) -> Rules:
    """Links on which DE48 is where a CVV comes: their dialect says so."""
    dialect = tmp_path / "private.toml"
    dialect.write_text('base = "iso87-ascii"\n[fields]\n48 = { format = "ansb...999", sensitive = true }\n')
    options = Iso8583Options(sign_on=False, dialect=str(dialect))
    return rules(pos={"iso8583": options}, net={"iso8583": options})


def test_the_search_finds_what_is_there(given: Rules) -> None:
    assert sorted(secrets_in(request())) == sorted(SECRETS)
    pair = Pair(given)
    net = pair.connect(node="b")
    pair.receive(pair.accept(), request())
    assert sorted(secrets_in(pair.forwarded(net))) == sorted(SECRETS)  # it reaches its issuer
    assert sorted(secrets_in(encoded(pair.state))) == sorted(SECRETS)  # and stands there while nothing is sealed


@pytest.mark.parametrize("fate", FATES)
def test_the_log_and_every_snapshot_hold_nothing_of_it_in_clear(
    fate: Callable[[Pair, str, str], None], given: Rules, tmp_path: Path
) -> None:
    pair = SealingPair(tmp_path / "data-keys", given)
    net, terminal = pair.connect(node="b"), pair.accept()
    pair.receive(terminal, request())
    assert sorted(secrets_in(pair.forwarded(net))) == sorted(SECRETS)
    assert secrets_in(encoded(pair.state)) == []
    fate(pair, net, terminal)
    assert secrets_in(encoded(pair.state)) == []
    assert [body for _, body in pair.log if secrets_in(body)] == []


@pytest.mark.parametrize("fate", FATES)
def test_nothing_of_it_is_left_when_the_request_is_decided_and_has_arrived(
    fate: Callable[[Pair, str, str], None], given: Rules
) -> None:
    """Not even without sealing: neither in outcomes, answers, advices and reversals, nor in what they are made from."""
    pair = Pair(given)
    net, terminal = pair.connect(node="b"), pair.accept()
    pair.receive(terminal, request())
    fate(pair, net, terminal)
    pair.ack(net)
    assert secrets_in(encoded(pair.state)) == []


def test_once_the_issuer_has_it_nothing_of_it_is_left_even_before_it_decides(given: Rules) -> None:
    pair = Pair(given)
    net = pair.connect(node="b")
    pair.receive(pair.accept(), request())
    pair.ack(net)
    assert pair.only().stage is Stage.SENT and secrets_in(encoded(pair.state)) == []
