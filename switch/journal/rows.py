"""From an item of the journal to a row: the codec of its link says what the message was, masked. The columns stand here."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from messages.facts import NUMBER_MAX, Facts
from messages.message import Codec, MessageError
from switch.core.books import JournalItem


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row. The primary key is (pair, origin, number); numbers have no gaps. Amounts are in minor units."""

    pair: str
    origin: str  # of the log: one that began anew, etcd being lost, numbers from 1 again
    number: int
    kind: str  # of JournalKind: request (once for each transaction that finished), refusal, advice, undone, ...
    link: str
    target: str  # "" of a refusal
    transaction_id: int  # 0: never forwarded
    advice_id: int  # 0: no advice of the store-and-forward lane
    decision: str  # approved, declined; "" of an advice whose answer says nothing
    response_code: str
    profile: str
    message_type: str  # of the request; of a reversal that the switch made, of what it reverses
    processing_code: str
    pan: str  # first six, last four
    amount: int | None
    approved_amount: int | None  # where the answer names another
    currency: str
    stan: str  # the source's
    outbound_stan: int
    rrn: str
    transmission: str
    local_time: str
    terminal: str
    merchant: str
    acquirer: str
    approval_code: str
    message_id: str
    end_to_end_id: str
    uetr: str
    instructing_agent: str
    instructed_agent: str
    source_date: str  # business date of the link, MMDD
    target_date: str
    log_ms: int  # log time at which it was final
    node: str  # that wrote the row
    written_utc: str
    flaw: str  # why columns of the message are empty


class Coded(Protocol):
    """A link's wire."""

    codec: Codec


class Rows:
    """Makes rows for one pair, log and writing node."""

    def __init__(self, pair: str, origin: str, node: str) -> None:
        self._pair, self._origin, self._node = pair, origin, node

    def row(self, number: int, item: JournalItem, wires: Mapping[str, Coded], written_utc: str) -> Row:
        """Never fails: a row of which the message is not told any more stands there with its `flaw`."""
        flaw, facts = "", Facts()
        try:
            facts = wires[item.link].codec.facts(item.original, item.outcome)
        except KeyError:
            flaw = "the link is gone"
        except MessageError as error:
            flaw = error.reason
        told, outcome = item.summary, item.outcome
        return Row(
            pair=self._pair,
            origin=self._origin,
            number=number,
            kind=item.kind.value,
            link=item.link,
            target=item.target,
            transaction_id=item.transaction,
            advice_id=item.advice,
            decision=outcome.decision.name.lower() if outcome is not None else "",
            response_code=outcome.code if outcome is not None else "",
            profile=told.profile,
            message_type=facts.type,
            processing_code=facts.processing_code,
            pan=facts.pan,
            amount=facts.amount if facts.amount is not None else min(told.amount, NUMBER_MAX) or None,
            approved_amount=facts.approved_amount,
            currency=facts.currency or told.currency,
            stan=facts.stan,
            outbound_stan=item.stan,
            rrn=facts.rrn,
            transmission=facts.transmission,
            local_time=facts.local_time,
            terminal=facts.terminal,
            merchant=facts.merchant,
            acquirer=facts.acquirer,
            approval_code=facts.approval_code,
            message_id=facts.message_id,
            end_to_end_id=facts.end_to_end_id,
            uetr=facts.uetr,
            instructing_agent=facts.instructing_agent,
            instructed_agent=facts.instructed_agent,
            source_date=item.dates[0],
            target_date=item.dates[1],
            log_ms=item.clock_ms,
            node=self._node,
            written_utc=written_utc,
            flaw=flaw,
        )


_OF_THE_MESSAGE = {"message_type", "profile", "response_code", *Facts.__struct_fields__} & {*Row.__struct_fields__}


def bare(row: Row) -> Row:
    """The row without what a message could have put there: it must not keep all others out of the database."""
    columns = {name: "" if isinstance(getattr(row, name), str) else None for name in sorted(_OF_THE_MESSAGE)}
    return msgspec.structs.replace(row, **columns, flaw="the database refused it")
