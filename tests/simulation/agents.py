"""The agents of credit transfers: debtor agents ask until they are told, the creditor agent credits and undoes.

A debtor agent has several transfers under way on one connection, and repeats each after silence, also of what is pending.
The creditor agent answers each once, may say first that it is pending, and takes a pacs.002 RJCT as the word that the
transfer is off, as often as it comes (EPC SCT Inst: negative confirmation). What no correct switch would say to them is a
violation.
"""

from typing import Any

from client import Client
from host import Host
from outside import frame
from transfers import PENDING, REJECTED, SETTLED, Order, Report, order, read, report
from world import Timer, Violation, World

SILENCE_S = 1.6
INVESTIGATES_S = 15.0  # what is pending so long is asked about by other means
AT_ONCE = 3  # transfers under way


class Transfer:
    """What a debtor agent knows of one."""

    def __init__(self, id_: str, amount: int) -> None:
        self.id, self.amount = id_, amount
        self.sent_s = 0.0  # when, the first time
        self.sends = 0
        self.told: list[str] = []  # status and reason of every pacs.002
        self.final = ""  # its status; "" while it is open
        self.timer: Timer | None = None


class DebtorAgent(Client):
    """Each of its transfers is over at a status that is final, or when it was pending for too long."""

    def __init__(
        self, world: World, network: Any, number: int, addresses: list[tuple[str, int]], transfers: int, patient: bool
    ) -> None:
        """`patient`: it may be told that a transfer is pending; else that decides nothing, and is not told."""
        super().__init__(world, network, f"BANK{number:04d}", addresses, read)
        self.transfers: dict[str, Transfer] = {}
        self._left, self._patient = transfers, patient

    @property
    def done(self) -> bool:
        return not self._left and not self._open

    def asks(self) -> None:
        self._left = 1
        self._next()

    @property
    def served(self) -> bool:
        last = list(self.transfers.values())[-1]
        return last.final == SETTLED and last.sends == 1

    @property
    def waits_for(self) -> str:
        return f"transfers {self._open}"

    @property
    def _open(self) -> list[str]:
        return [each.id for each in self.transfers.values() if not each.final]

    def up(self) -> None:
        for id_ in self._open:
            self._say(self.transfers[id_])
        self._next()

    def _next(self) -> None:
        if self._connected and self._left and len(self._open) < AT_ONCE:
            self._left -= 1
            id_ = f"{self.name}E{len(self.transfers) + 1:06d}"
            transfer = self.transfers[id_] = Transfer(id_, self._world.dice.randrange(100, 100_000))
            self._say(transfer)
            self._world.at(self._world.latency(0.02), self._next)

    def _say(self, transfer: Transfer) -> None:
        transfer.sent_s = transfer.sent_s or self._world.now
        transfer.sends += 1
        if transfer.timer is not None:
            transfer.timer.cancel()
        if self._connected:
            self._world.trace(self.name, f"sends pacs.008 {transfer.id}{' again' if transfer.sends > 1 else ''}")
            data = frame(order(transfer.id, transfer.amount))
            if self._wire.send(data) != len(data):
                self._world.trace(self.name, "cannot send")
        transfer.timer = self._world.at(SILENCE_S, lambda: self._silence(transfer))

    def _silence(self, transfer: Transfer) -> None:
        if transfer.told and self._world.now - transfer.sent_s > INVESTIGATES_S:
            self._over(transfer, PENDING)
        if not transfer.final:
            self._say(transfer)

    def _over(self, transfer: Transfer, status: str) -> None:
        if not transfer.final:
            self._world.at(self._world.latency(0.06), self._next)
        if transfer.final in ("", PENDING):
            transfer.final = status

    def heard(self, body: Order | Report) -> None:
        super().heard(body)
        transfer = self.transfers.get(body.id)
        if not isinstance(body, Report) or transfer is None or body.msg_id != f"M{body.id}":
            raise Violation(f"{self.name}: hears {body}, which answers nothing that it sent")
        told = f"{body.status}/{body.reason}"
        self._world.trace(self.name, f"hears pacs.002 {body.id} status={told}")
        if transfer.final not in ("", PENDING) and told != transfer.told[-1]:
            raise Violation(f"{self.name}: {body.id} was told {told}, and {transfer.told} before: it has one outcome")
        if body.status == PENDING and not self._patient:
            raise Violation(f"{self.name}: {body.id} was told to be pending")
        transfer.told.append(told)
        if transfer.told.count(told) > transfer.sends:
            raise Violation(f"{self.name}: {body.id} was sent {transfer.sends} times, and was told {transfer.told}")
        if body.status != PENDING:
            self._over(transfer, body.status)


class Credit:
    """What the creditor agent knows of a transfer."""

    def __init__(self) -> None:
        self.requests = 0  # how often it was asked
        self.heard_s = 0.0
        self.amount = 0
        self.status = ""  # its own word
        self.said_on: Any = None  # the connection on which it has said that
        self.reversed = False

    @property
    def held(self) -> int:
        """Minor units that the creditor has."""
        return self.amount if self.status == SETTLED and not self.reversed else 0


class CreditorAgent(Host):
    """A ledger of credits, by EndToEndId."""

    KINDS = ("loss", "late", "twice", "decline", "pending")

    def __init__(self, world: World, network: Any, networks: dict[str, tuple[str, int]]) -> None:
        self.ledger: dict[str, Credit] = {}
        self.loss = self.late = self.twice = self.decline = self.pending = 0.0  # chances
        self.delay_s = 0.01
        self._reports = 0
        super().__init__(world, network, "CREDITOR", networks, read)

    def heard(self, link: str, wire: Any, body: Order | Report) -> None:
        credit = self.ledger.setdefault(body.id, Credit())
        if isinstance(body, Order):
            self._world.trace(self.name, f"hears pacs.008 {body.id}")
            self._order(wire, body, credit)
        elif body.status == REJECTED:
            self._world.trace(self.name, f"hears pacs.002 {body.id} status=RJCT/{body.reason}")
            credit.reversed = True
        else:
            raise Violation(f"{self.name}: {body.id} is told to be {body.status}")

    def _order(self, wire: Any, body: Order, credit: Credit) -> None:
        world = self._world
        credit.requests += 1
        if credit.requests > 1:
            raise Violation(f"{self.name}: {body.id} was forwarded {credit.requests} times")
        credit.heard_s, credit.amount = world.now, body.amount
        declined = credit.reversed or world.chance(self.decline)
        credit.status = REJECTED if declined else SETTLED
        delay = world.latency(self.delay_s) + (1.5 if world.chance(self.late) else 0.0)
        if world.chance(self.pending):
            world.at(delay, lambda: self._answer(wire, body, PENDING, ""))
            delay += world.latency(0.3)
        if world.chance(self.loss):
            world.trace(self.name, f"does not answer {body.id}")
            return
        for _ in range(2 if world.chance(self.twice) else 1):
            world.at(delay, lambda: self._answer(wire, body, credit.status, "AC04" if declined else ""))
            delay += world.latency(0.01)

    def _answer(self, wire: Any, body: Order, status: str, reason: str) -> None:
        if wire in self.wires:
            self._reports += 1
            self._world.trace(self.name, f"sends pacs.002 {body.id} status={status}")
            data = frame(report(body, status, reason, self._reports))
            if wire.send(data) != len(data):
                self._world.trace(self.name, "cannot send")
            elif status != PENDING:
                self.ledger[body.id].said_on = wire
