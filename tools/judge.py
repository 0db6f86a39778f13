"""The rules by which a run is judged: they know what payment parties hold each other to, nothing of the switch.

Every request and advice has one answer, its repeats the same one, and nothing was posted twice. What came to a host is what
was sent, and both sides agree on every amount and account, what was reversed included. No connection was cut and every byte
belongs to a message. No finding shows card data.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from tools.arrivals import Arrivals
from tools.cases import Asked, Case, Key, changed, named
from tools.evidence import Facts, Seen, read_messages
from tools.ledger import FILE as LEDGER
from tools.ledger import Posting, Undoing, read_ledger
from tools.record import RunMark, SessionEnded, lives, read_sessions
from tools.streams import swapped

APPROVED = frozenset(("00", "ACSC", "ACSP", "ACCC", "ACCP", "ACWC"))
INTERIM = frozenset(("PDNG", "RCVD", "ACTC"))  # the final status follows
FINDINGS_SHOWN = 20
REVERSAL_CLASS = "4"  # second digit of the MTI


class Verdict(msgspec.Struct, kw_only=True):
    """The judgement. lost: requests, advices and repeats without an answer. resets: connections that ended before their time.

    repeats: of requests, advices and reversals.

    reversed: requests that their terminal has reversed, after silence or after an approval. advices: of sales, among `sent`.

    remainder: pieces of streams that are no message. findings: the first twenty, for people.
    """

    sent: int = 0
    repeats: int = 0
    answered: int = 0
    approved: int = 0
    declined: int = 0
    reversed: int = 0
    advices: int = 0
    lost: int = 0
    duplicated: int = 0
    resets: int = 0
    ledger_mismatch: int = 0
    unexpected: int = 0
    remainder: int = 0
    findings: list[str] = []
    clean: bool = False


class Host(msgspec.Struct):
    """What an issuer or bank has seen and booked."""

    received: Mapping[Key, int]
    advised: Mapping[tuple[Key, str], set[str]]  # see Arrivals
    postings: dict[Key, list[Posting]] = msgspec.field(default_factory=dict)
    undone: set[int] = msgspec.field(default_factory=set)  # numbers of postings


class Auditor:
    """Hears the injector's records first, then the hosts', then judges."""

    def __init__(self) -> None:
        self.verdict = Verdict()
        self._cases: dict[Key, Case] = {}
        self._reversals: dict[Key, Case] = {}  # by the key of what they undo
        self._runs: list[tuple[float, float]] = []

    def find(self, category: str, text: str) -> None:
        setattr(self.verdict, category, getattr(self.verdict, category) + 1)
        if len(self.verdict.findings) < FINDINGS_SHOWN:
            self.verdict.findings.append(f"{category}: {text}")

    def hear_injector(self, folder: Path) -> None:
        for life in lives(folder):
            events = read_sessions(folder, life)
            marks = {event.what: event.time for event in events if isinstance(event, RunMark)}
            if len(marks) < 2:
                self.find("unexpected", f"the record {folder.name} of run {life} has no end")
            self._runs.append((marks.get("begun", 0.0), marks.get("ended", float("inf"))))
            for event in events:
                if isinstance(event, SessionEnded) and event.how != "closed":
                    self.find("resets", f"{_ended(folder, life, event)}; the injector had not closed it")
        for seen in read_messages(folder, self._complain("remainder")):
            if seen.outward:
                self._hear_request(seen)
            elif seen.facts.kind != "network":
                self._hear_answer(seen)

    def _complain(self, category: str) -> Callable[[str], None]:
        return lambda text: self.find(category, text)

    def _hear_request(self, seen: Seen) -> None:
        facts = seen.facts
        cases = self._cases_of(facts)
        case = cases.get(facts.key)
        if case is None:
            advice = facts.kind == "advice"
            sent = (facts.amount, facts.currency, facts.account, facts.content, facts.echo)
            case = cases[facts.key] = Case({}, seen.header, *sent, advice)
        asked = case.asked.setdefault(seen.session, Asked())
        asked.messages += 1
        asked.waiting = True

    def _cases_of(self, facts: Facts) -> dict[Key, Case]:
        return self._reversals if facts.key[0] == "card" and facts.type[1] == REVERSAL_CLASS else self._cases

    def _hear_answer(self, seen: Seen) -> None:
        facts = seen.facts
        case = self._cases_of(facts).get(facts.key)
        what = f"the answer {facts.type} to {named(facts.key)} on session {seen.session}"
        if case is None or facts.kind != ("advice answer" if case.advice else "answer"):
            self.find("unexpected", f"{what}: nothing asked for it")
            return
        if facts.code.partition("/")[0] in INTERIM:
            return
        undoing = self._reversals.get(facts.key)
        if facts.code in APPROVED and not case.advice and undoing and undoing.answers:
            self.find("unexpected", f"{what}: an approval after its reversal was acknowledged")
        asked = case.asked.get(seen.session)
        if asked is None:
            self.find("unexpected", f"{what}: its request was sent on session {', '.join(sorted(case.asked))}")
            asked = Asked(messages=1)
            for each in case.asked.values():
                each.waiting = False
        if seen.header != swapped(case.header, seen.header_kind):
            self.find("unexpected", f"{what}: its header is not the request's with source and destination swapped")
        for name in changed(facts, case):
            self.find("unexpected", f"{what}: {name} is not the request's")
        case.answers.append(facts.code)
        case.approval = case.approval or facts.approval
        asked.answers, asked.waiting = asked.answers + 1, False
        if asked.answers > asked.messages:
            self.find("duplicated", f"{what}: answer {asked.answers} to {asked.messages} message(s)")
        elif facts.code != case.answers[0]:
            self.find("unexpected", f"{what}: says {facts.code} after {case.answers[0]}")
        elif facts.approval != case.approval:
            self.find("unexpected", f"{what}: is approved under another code than before")

    def hear_host(self, folder: Path, rail: Literal["card", "transfer"]) -> Host:
        """The record and ledger of an issuer ("card") or bank ("transfer")."""
        arrivals = Arrivals(self._cases, self.find)
        host = Host(arrivals.received, arrivals.advised)
        for life in lives(folder):
            for event in read_sessions(folder, life):
                cut = isinstance(event, SessionEnded) and event.how != "closed"
                if cut and any(begun <= event.time <= ended for begun, ended in self._runs):
                    self.find("resets", f"{_ended(folder, life, event)}, while traffic ran")
        for seen in read_messages(folder, self._complain("remainder")):
            arrivals.hear(seen)
        for entry in read_ledger(folder / LEDGER):
            if isinstance(entry, Posting):
                # a ledger's second part of the key is the terminal of a card request, and the UETR of a transfer
                key = (rail, *entry.key) if rail == "card" else (rail, entry.key[0])
                host.postings.setdefault(key, []).append(entry)
            elif isinstance(entry, Undoing) and entry.posting is not None:
                host.undone.add(entry.posting)
        return host

    def judge(self, hosts: dict[str, Host]) -> Verdict:
        """The verdict over all cases; `hosts` by rail. A rail without a host is judged by its answers alone."""
        verdict = self.verdict
        for key, case in self._cases.items():
            approved = any(code in APPROVED for code in case.answers)
            reversal = self._reversals.get(key)
            verdict.sent += 1
            verdict.advices += case.advice
            verdict.reversed += reversal is not None
            verdict.repeats += case.repeats + (reversal.repeats if reversal else 0)
            verdict.answered += bool(case.answers or (reversal and reversal.answers))
            verdict.approved += approved
            verdict.declined += bool(case.answers) and not approved
            self._judge_answers(key, case, reversal)
            if host := hosts.get(key[0]):
                self._judge_books(key, case, approved, reversal is not None, host)
        for host in hosts.values():
            for key in host.postings.keys() - self._cases.keys():
                self.find("ledger_mismatch", f"{named(key)} is posted, but nobody asked for it")
            for (key, class_), stans in host.advised.items():
                self._judge_advised(key, class_, stans)
        faults = (verdict.lost, verdict.duplicated, verdict.resets, verdict.ledger_mismatch, verdict.unexpected)
        verdict.clean = not any((*faults, verdict.remainder))
        return verdict

    def _judge_answers(self, key: Key, case: Case, reversal: Case | None) -> None:
        """What was reversed need not be answered."""
        last, what = (reversal, f"the reversal of {named(key)}") if reversal else (case, named(key))
        if not last.answers:
            self.find("lost", f"{what} on session {', '.join(sorted(last.asked))} was never answered")
        elif last.waiting:
            self.find("lost", f"the last repeat of {what} on session {', '.join(last.waiting)} was never answered")

    def _judge_advised(self, key: Key, class_: str, stans: set[str]) -> None:
        """A host is told once that a sale was done or undone: a switch's reversal stands for that of its terminal."""
        if len(stans) > 1:
            what = "reversal" if class_ == REVERSAL_CLASS else "advice"
            self.find("duplicated", f"the {what} of {named(key)} came to the host under {len(stans)} STANs")

    def _judge_books(self, key: Key, case: Case, approved: bool, reversed_: bool, host: Host) -> None:
        postings = host.postings.get(key, [])
        standing = [posting for posting in postings if posting.number not in host.undone]
        if len(postings) > 1:
            self.find("duplicated", f"{named(key)} was posted {len(postings)} times")
        elif host.received.get(key, 0) > 1:
            self.find("duplicated", f"{named(key)} came to the host {host.received[key]} times")
        if approved and not standing and not reversed_:
            self.find("ledger_mismatch", f"{named(key)} was approved, but does not stand on the ledger")
        if standing and (reversed_ or not approved):
            told = f"was answered {case.answers[0]}" if case.answers else "was never answered"
            seen = "was reversed" if reversed_ else told
            self.find("ledger_mismatch", f"{named(key)} {seen}, but stands on the ledger")
        for posting in postings:
            if (posting.amount, posting.currency) != (case.amount, case.currency):
                asked, booked = f"{case.amount} {case.currency}", f"{posting.amount} {posting.currency}"
                self.find("ledger_mismatch", f"{named(key)} asked for {asked}, the ledger says {booked}")
            if posting.account != case.account:
                self.find("ledger_mismatch", f"{named(key)} is posted to another account than it was asked for")


def _ended(folder: Path, life: int, event: SessionEnded) -> str:
    how = f"was reset (errno {event.errno})" if event.how == "reset" else "was closed by the other side"
    return f"session {folder.name} {life}.{event.session} {how}"
