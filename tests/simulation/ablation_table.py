"""The table of safeguards: what each protects, how it is removed, in what kind of mishap that shows, and how soon."""

import random
from typing import Any

import faults
import faults_of_nodes as nodes
import faults_of_others as others
import msgspec
import patches_of_advices as advices
import patches_of_payments as payments
import patches_of_the_log as log
import patches_of_transfers as transfers
from patching import Ablate
from plan import Fault, Maker, Plan, either
from terminals import Habits


class Focus(msgspec.Struct, frozen=True):
    """Which faults there are, with more traffic than a seed draws (0: as it draws). `alone`: one fault, one member of etcd."""

    makers: tuple[Maker, ...]
    terminals: int = 4
    requests: int = 15  # of each
    alone: bool = False
    world: dict[str, Any] = {}  # of the plan's other attributes

    def plan(self, seed: int) -> Plan:
        plan = faults.draw(random.Random(seed), self.makers)
        if self.terminals:
            plan.terminals, plan.requests, plan.snapshot_entries = self.terminals, self.requests, 12
        if self.alone:
            plan.members, plan.faults = 1, plan.faults[:1]
        for name, value in self.world.items():
            setattr(plan, name, value)
        return plan


class Ablation(msgspec.Struct, frozen=True):
    """One safeguard, or a pair of them, and how to remove it."""

    name: str
    protects: str
    seeds: int  # it has to be caught within so many
    apply: tuple[Ablate, ...]
    focus: Focus | None = None  # None: all faults, as the seed draws them
    pair: str = ""  # of which one is enough: the name of the entry that removes both


def _etcd(text: str) -> Maker:
    return next(maker for maker in others.ETCD if maker(random.Random(0)).text == f"etcd: {text}")


def _lagging(dice: random.Random) -> Fault:
    """The watch of one node shows nothing for a while: the other one is ahead of it."""
    name, seconds = dice.choice("ab"), 0.2 + 0.6 * dice.random()
    return Fault(f"etcd: the watch of {name} lags", lambda simulation: simulation.cluster.watch_lag(seconds, name=name))


def _issuer(kind: str) -> Maker:
    return lambda dice: others.issuer(dice, kind)


def _at(*points: str) -> Maker:
    return lambda dice: nodes.kill_at_a_point(dice, *points)


def _late_opens(dice: random.Random) -> Fault:
    """A node dies while terminals come back, what it last sent to etcd late."""
    again, late = others.storm(dice), nodes.kill_with_late_entries(dice)

    def strike(simulation: Any) -> None:
        again.strike(simulation)
        simulation.world.at(0.1, lambda: late.strike(simulation))

    return Fault(f"{again.text}, {late.text}", strike, 0.5)


def _dies_sharing(dice: random.Random) -> Fault:
    """A node dies as it has passed on the socket of a terminal that comes back, and the other has no time to look."""
    again, name, count = others.storm(dice), either(dice), dice.randrange(1, 5)
    other = "b" if name == "a" else "a"

    def strike(simulation: Any) -> None:
        simulation.node_fault()
        again.strike(simulation)
        simulation.doom(name, count, "share.after")
        process = simulation.units[other].process
        process.slowness = 20.0
        simulation.world.at(0.5, lambda: setattr(process, "slowness", 1.0))

    return Fault(f"{again.text}, kill {name} at share.after, the {count}. time", strike, 0.6)


def _leaves_again(dice: random.Random) -> Fault:
    """A node is restarted, and asked to leave again while its peer gives it sessions, and etcd takes its time."""
    name, after = either(dice), 0.1 * dice.random()

    def strike(simulation: Any) -> None:
        simulation.node_fault()
        unit, world = simulation.units[name], simulation.world
        until = simulation.busy_until = world.now + 3.0
        simulation.cluster.slow(10.0, 2.0)
        unit.stop()
        world.at(0.1, unit.start)

        def again() -> None:
            unit.stop()
            world.at(0.2, unit.start)

        def look() -> None:
            if unit.live and unit.lives > 1:
                world.at(after, again)
            elif world.now < until:
                world.at(0.005, look)

        look()

    return Fault(f"{name} is restarted, and again", strike, 1.5)


def _storms(dice: random.Random) -> Fault:
    """Terminals come back again and again, and repeat on either node, while requests to etcd are late."""
    late, storm = _etcd("requests are late")(dice), others.storm(dice)
    times = [0.05 + 0.3 * dice.random() for _ in range(dice.randrange(2, 5))]

    def strike(simulation: Any) -> None:
        late.strike(simulation)
        for time_s in times:
            simulation.world.at(time_s, lambda: storm.strike(simulation))

    return Fault(f"{late.text}, {storm.text} {len(times)} times", strike, 0.6)


def _reload_while_away(dice: random.Random) -> Fault:
    """Rules are read anew while etcd is away."""
    away_s, after_s, reload = 1.0 + dice.random(), 0.5 * dice.random(), others.reload(dice)

    def strike(simulation: Any) -> None:
        simulation.cluster.down(away_s, refusing=True)
        simulation.world.at(after_s, lambda: reload.strike(simulation))

    return Fault(f"etcd: away for {away_s * 1000:.0f} ms; {reload.text}", strike, away_s)


def _refused_and_away(dice: random.Random) -> Fault:
    """The issuer refuses advices for good, and when the world heals etcd has been away for a while."""
    away_s = 0.5 + dice.random()

    def strike(simulation: Any) -> None:
        simulation.issuer.refuse = 1.0
        simulation.world.at(0.5, lambda: simulation.cluster.down(away_s + 1.0, refusing=True))

    return Fault(f"issuer: refuses advices, etcd: away for {away_s * 1000:.0f} ms", strike, away_s + 0.5)


def _away_while_asked(dice: random.Random) -> Fault:
    """A network breaks its connections while the issuer is slow to answer."""
    fault = others.issuer_away(dice, "net")

    def strike(simulation: Any) -> None:
        simulation.issuer.late = 1.0
        simulation.world.at(0.1, lambda: fault.strike(simulation))
        simulation.world.at(0.2, lambda: setattr(simulation.issuer, "late", 0.0))

    return Fault(fault.text, strike, fault.lasts_s + 0.2)


def _issuer_long_away(dice: random.Random) -> Fault:
    """From the begin of the faults to their end."""
    fault = others.issuer_away(dice, "net")

    def strike(simulation: Any) -> None:
        simulation.issuer.away("net")
        simulation.world.at(1.5, simulation.issuer.there)

    return Fault(fault.text, strike, 1.5)


def _creditor(kind: str) -> Maker:
    return lambda dice: others.creditor(dice, kind)


def _silent_and_away(dice: random.Random) -> Fault:
    """The creditor agent answers nothing, and its lines are dead when that is noticed, until it breaks them."""
    away = others.creditor_away(dice)

    def strike(simulation: Any) -> None:
        creditor, world = simulation.creditor, simulation.world
        creditor.loss = 1.0
        world.at(0.2, lambda: creditor.usually("loss"))
        world.at(0.9, lambda: [simulation.network.cut(wire, 1.0) for wire in creditor.wires])
        world.at(1.4, lambda: away.strike(simulation))

    return Fault(f"{away.text}, after silence", strike, away.lasts_s + 1.4)


LATE = Focus((_etcd("requests are late"),))
LATE_DEATH = Focus((_late_opens,), terminals=16, requests=3, alone=True)
AWAY = Focus((others.etcd_away,), terminals=0, alone=True)
CUT_OFF = Focus((others.cut_off,))
# withdrawals alone, over one network: more of them while sessions move
PLAIN = {"habits": Habits(), "alt": False, "mall": False, "partial": 0.0, "window": 1}
AGAIN = Focus((_leaves_again,), terminals=8, requests=4, alone=True, world=PLAIN)
SLOW = Focus((_etcd("slow"),))
KILLS = Focus((nodes.kill,))
QUIET = Focus((nodes.kill,), terminals=0)

OVERTAKING = Focus((nodes.kill,), world={"habits": Habits(overtakes=1.0)})
BLOCKED = Focus((_etcd("requests are late"), others.cut_sessions), world={"habits": Habits(overtakes=1.0)})
OFFLINE = {"habits": Habits(purchases=1.0, offline=1.0)}
TRANSFERS = {"agents": 2, "patient": False}
UNANSWERED = Focus((_creditor("loss"),), terminals=1, world=TRANSFERS)
UNCONFIRMED = Focus((_silent_and_away,), terminals=1, world=TRANSFERS)
INTERIM = Focus((_creditor("pending"),), terminals=1, world=TRANSFERS)
PATIENT = Focus((_creditor("late"),), terminals=1, world={"agents": 2, "patient": True})

TABLE = (
    # the log in etcd
    Ablation("fence guard", "each entry is in the log once, and none of who was fenced", 20, (log.fence_guard,), LATE),
    Ablation("fence sequence", "a late copy of an append is not applied again", 20, (log.fence_sequence,), LATE),
    Ablation("identical bytes on retry", "a node knows its own entry when it sees it", 60, (log.identical_bytes,),
             Focus((_etcd("requests are late"), _etcd("watches lag")))),
    Ablation("settling by an empty entry", "after an outage nothing is forwarded that is too old", 60, (log.settling,), AWAY),
    Ablation("holding", "what waits for etcd is offered anew, with its age", 60, (log.holding,), AWAY),
    Ablation("ages outlive a death", "also where its owner has died meanwhile", 20, (log.ages_of_standby,),
             Focus((others.etcd_away_and_a_death,), alone=True, requests=6)),
    Ablation("gap detection", "no entry is passed over", 20, (log.gap_detection,), Focus((_etcd("a watch loses an event"),))),
    Ablation("sealing", "no card data in clear outside of the process", 20, (log.sealed,)),
    Ablation("snapshot pointer guard", "the newest snapshot stays the newest", 60, (log.snapshot_pointer,), LATE),
    Ablation("truncation below the snapshot", "snapshot and log together hold everything", 60, (log.truncation_snapshot,),
             Focus((nodes.restart, nodes.kill))),
    Ablation("truncation below what all have applied", "who lags reads on", 0, (log.truncation_applied,), CUT_OFF,
             pair="truncation and reload"),
    Ablation("reload of the snapshot", "who lags behind the log goes on from the snapshot", 0, (log.reload,), CUT_OFF,
             pair="truncation and reload"),
    Ablation("truncation and reload", "both", 80, (log.truncation_applied, log.reload), CUT_OFF),
    Ablation("rules outlive a hold", "what an operator has had read becomes active", 20, (log.rules_kept,),
             Focus((_reload_while_away,), terminals=1, requests=3, alone=True)),
    Ablation("an operator's word outlives a hold", "an advice that is to be sent again is", 20, (log.word_kept,),
             Focus((_refused_and_away,), terminals=2, requests=1, alone=True, world=OFFLINE)),
    Ablation("old snapshots go", "etcd holds what is needed, and no more", 20, (log.snapshots_deleted,),
             Focus((nodes.restart,))),
    # takeover
    Ablation("kill before adopt", "a former owner never writes again", 20, (log.kill_first,), Focus((nodes.stop,))),
    Ablation("fence of the dead", "no entry of it after its heir's", 0, (log.rival_fence,), LATE_DEATH,
             pair="entries of the dead"),
    Ablation("rules ask who acts", "an entry of who is over changes nothing", 0, (payments.over_entries,), LATE_DEATH,
             pair="entries of the dead"),
    Ablation("entries of the dead", "both", 80, (log.rival_fence, payments.over_entries), LATE_DEATH),
    Ablation("mute until heir", "nobody acts whom the log does not know as heir", 20, (log.mute_until_heir,),
             Focus((_at("write.before", "consume.before", "apply.after"),))),
    Ablation("socket before entry", "every session of the log survives its node", 60, (log.share_first,),
             Focus((others.storm, nodes.kill_in_a_turn))),
    Ablation("no session while parted", "as before, where both live and one ends the other", 20, (payments.parted,),
             Focus((nodes.cut_handover, others.storm))),
    Ablation("drain before heir", "descriptors under way survive their sender", 20, (log.drain_first,),
             Focus((_dies_sharing,), terminals=8, requests=3, alone=True)),
    Ablation("gather before heir", "sockets of the peer's store are waited for", 60, (log.gather_first,),
             Focus((nodes.kill_in_turn,))),
    Ablation("mute while moving", "a session that is handed over has one owner", 80, (log.moving_mute,),
             Focus((nodes.restart, _lagging))),
    Ablation("leaving, by record", "a node that leaves is not given back what it gave", 80, (log.leaving,),
             Focus((nodes.restart,))),
    Ablation("no move to who leaves", "as before, where both cross", 0, (log.leaving_rule,), AGAIN,
             pair="sessions for who leaves"),
    Ablation("nothing is offered to who leaves", "as before", 0, (log.leaving_offered,), AGAIN,
             pair="sessions for who leaves"),
    Ablation("sessions for who leaves", "both", 20, (log.leaving_rule, log.leaving_offered), AGAIN),
    Ablation("quarantine", "a frame ends two processes at the most", 20, (payments.quarantine,), Focus((others.poison,))),
    # streams
    Ablation("the kernel counts", "a stream goes on at the exact byte", 20, (payments.kernel_counters,), KILLS),
    Ablation("counters that agree", "as before, where data arrives as they are read", 40, (payments.counters_once,),
             Focus((nodes.restart,), world={"meanwhile": 0.5})),
    Ablation("SYN is no output", "as before, where we connected", 20, (payments.syn_counted,), KILLS),
    Ablation("skip of applied input", "input is taken once", 20, (payments.skip_applied,), Focus((_at("consume.before"),))),
    Ablation("consume after apply", "input that no entry has stays in the kernel", 20, (payments.consume_after,)),
    Ablation("write after apply", "nothing is told that the log does not know", 20, (payments.write_after,)),
    Ablation("outbox until acknowledged", "what did not arrive is known not to have", 60, (payments.until_acknowledged,),
             Focus((others.leave,))),
    Ablation("input in order", "no input is taken twice or left out", 0, (payments.order_of_input,), QUIET, pair="input once"),
    Ablation("one offer at a time", "as before; and duplicates in the log's order", 0,
             (payments.one_offer, payments.duplicates_applied), QUIET,
             pair="input once"),
    Ablation("input once", "both", 20, (payments.order_of_input, payments.one_offer, payments.duplicates_applied), QUIET),
    # payments
    Ablation("duplicates", "nothing is forwarded twice", 20, (payments.duplicates,), Focus((others.storm,))),
    Ablation("duplicates in the log's order", "as before, where both nodes read one of them", 60,
             (payments.duplicates_applied,), Focus((_storms,), terminals=8, requests=4)),
    Ablation("STANs by node", "both nodes never give the same", 0, (payments.stan_parity,), SLOW, pair="STANs"),
    Ablation("STANs in the log's order", "one that is pending is not used", 0, (payments.stan_applied,), SLOW, pair="STANs"),
    Ablation("STANs", "both", 20, (payments.stan_parity, payments.stan_applied), SLOW),
    Ablation("undeliverable is undone", "an approval that nobody got does not stand", 20, (payments.undeliverable,),
             Focus((others.leave,))),
    Ablation("delivered is not undone", "an approval that was got stands", 20, (payments.delivered,)),
    Ablation("late answers are absorbed", "a declined request is not approved afterwards", 20, (payments.late_answers,),
             Focus((_issuer("late"),))),
    Ablation("outcomes are kept for the window", "a repeat is not asked for again", 20, (payments.outcomes_kept,),
             Focus((nodes.restart,), world={"forgets": True})),
    Ablation("first decision", "a second answer decides nothing", 60, (payments.first_decision, payments.answered_before),
             Focus((_issuer("twice"), _etcd("slow")))),
    Ablation("advices until acknowledged", "a reversal arrives", 20, (payments.advice_acknowledged,),
             Focus((others.reversals_unheard,))),
    Ablation("log time by the first of two ticks", "no stretch of time counts twice", 60, (payments.first_of_two_ticks,),
             Focus((_etcd("requests are lost"), _etcd("requests are late")))),
    # advices
    Ablation("a reversal replaces the outcome", "what was undone is approved for nobody", 40,
             (advices.outcome_replaced,), OVERTAKING),
    Ablation("a reversal blocks its original", "what was undone before it came is not asked for", 60,
             (advices.original_blocked,),
             BLOCKED),
    Ablation("a reversal waits for its original", "what it undoes is decided there", 20, (advices.original_first,), OVERTAKING),
    Ablation("a reversal in flight decides", "an approval that comes after it is told to nobody", 60,
             (advices.told_as_reversed,),
             Focus((_etcd("slow"),), world={"habits": Habits(overtakes=1.0)})),
    Ablation("reversed once", "its terminal's reversal and the switch's are one", 40, (advices.reversed_once,),
             Focus((_issuer("loss"),), world={"habits": Habits(overtakes=1.0)})),
    Ablation("kept before acknowledged", "no advice is lost", 20, (advices.kept_first,), Focus((nodes.kill,), world=OFFLINE)),
    Ablation("order of each original", "a completion is not booked after its reversal", 40, (advices.order_of_originals,),
             Focus((_issuer("busy"),), world={"window": 4, "habits": Habits(completes=1.0, cancels=1.0)})),
    Ablation("nothing passes a parked advice", "as before, where the first waits for an operator", 20, (advices.parked_first,),
             Focus((_issuer("refuse"),), world={"window": 4, "habits": Habits(completes=1.0, cancels=1.0)})),
    Ablation("one copy at a time", "no two are outstanding", 20, (advices.one_copy,), Focus((_issuer("late"),), world=OFFLINE)),
    Ablation("a passing refusal is no answer", "an advice arrives", 20, (advices.tried_again,),
             Focus((_issuer("busy"),), world=OFFLINE)),
    Ablation("unsent is what was not written", "nothing is asked for twice", 40, (advices.unsent_only,),
             Focus((_away_while_asked,), world={"alt": True})),
    Ablation("stand-in's limits in the log's order", "a card gets no more than its rule allows", 80, (advices.stand_in_limits,),
             Focus((_issuer_long_away, _etcd("slow")), world={"alt": False, "habits": Habits(purchases=1.0)})),
    Ablation("the issuer is told of stand-in", "it books what was approved", 20, (advices.stand_in_told,),
             Focus((_issuer_long_away,), world={"alt": False, "habits": Habits(purchases=1.0)})),
    Ablation("a part that is not taken is undone", "nothing stands that was declined", 20, (advices.part_undone,),
             Focus((_issuer("partial"),), world={"mall": True})),
    # transfers
    Ablation("a rejected transfer is confirmed negatively", "nothing stands that was rejected", 20,
             (transfers.confirmed_negatively,), UNANSWERED),
    Ablation("confirmations until acknowledged", "as before, whatever happens on the way", 20,
             (transfers.confirmed_until_acknowledged,), UNCONFIRMED),
    Ablation("an interim status decides nothing", "a transfer is over when its status is final", 20,
             (transfers.interim_absorbed,), INTERIM),
    Ablation("a pending transfer can be decided", "as before, where its agent was told that it is pending", 20,
             (transfers.pending_for_good,), PATIENT),
)  # fmt: skip
