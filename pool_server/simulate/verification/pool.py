"""Adds up a pool of vehicles: honest ones by formula-sized draws, those that play a strategy life by life.

What is drawn: the audits of correct results (they pass, and change nothing), the lives of cheats. Lives of
one strategy are independent and alike, so that many short ones are drawn at once, by their number at each
length; a vehicle's few long ones are drawn one after the other until its time is over.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pool_server.core.verification.audit import AUDITORS_MAX, HistoryAuditRule
from pool_server.core.verification.finality import LAG_GAPS, LAG_UNITS_MIN
from pool_server.core.verification.overhead import audit_ranges, expected_overhead
from pool_server.simulate.verification.contradictions import Contradictions, lie_passes, truth_fails
from pool_server.simulate.verification.lives import SHORT_UNITS, CatchLaw, LifeTable, draw_weight
from pool_server.simulate.verification.plan import Floats, Plan
from pool_server.simulate.verification.strategies import Strategy, World

#: Units looked at one by one in lives that are drawn in bulk.
_TABLE_UNITS = 1 << 16
#: Lives of one vehicle above which they are drawn in bulk: cutting the last one short matters little then.
_BULK_LIVES = 500.0
_PILOT_LIVES = 2_000
#: Neighbouring histories whose audit probabilities differ by less than this are drawn together.
_STEP = 1.005
#: Vehicles of a class, by different owners, whose same wrong answer makes a class fault.
CLASS_FAULT_VEHICLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is simulated."""

    vehicles: int
    units_per_vehicle: int
    faulty_share: float
    epsilon: float
    rule: HistoryAuditRule
    league_share: float
    """Share of auditors that are in league with cheats of a group."""
    cross_class_share: float = 0.05
    """Share of audits that go to another numeric class."""
    settled: Contradictions = Contradictions.POOL
    """Who settles contradictions."""
    seed: int = 0

    @property
    def faulty_vehicles(self) -> int:
        """Vehicles that play the strategy."""
        return round(self.vehicles * self.faulty_share)

    @property
    def honest_vehicles(self) -> int:
        """The others."""
        return self.vehicles - self.faulty_vehicles


@dataclass(slots=True, kw_only=True)
class Cheats:
    """What the vehicles of a strategy did together, in work (1 is a usual unit)."""

    attempted: float = 0.0
    accepted: float = 0.0
    wrong: float = 0.0
    """Accepted and wrong, before any look-back."""
    revoked: float = 0.0
    """Of it, found by look-backs."""
    wrong_variance: float = 0.0
    """Of `wrong`, estimated from independent lives or vehicles."""
    audits: float = 0.0
    """Re-executions."""
    catches: float = 0.0
    delays: list[Floats] = field(default_factory=list)
    """Units from the beginning of lying to being caught, in samples."""
    honest_outvoted: int = 0
    """Right results of honest vehicles that a league had rejected."""
    class_fault_units: float = 0.0
    """Units of the class until the fault was known; 0 where none was looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Honest:
    """What the honest vehicles did together."""

    units: float
    audits: float
    audits_expected: float
    caught: int


Progress = Callable[[float], None]


def generator(seed: int, *path: str) -> np.random.Generator:
    """Make a source of chance for one part of one run."""
    return np.random.default_rng([seed, *(int.from_bytes(part.encode()[:8], "big") for part in path)])


def catch_law(settings: Settings, league_share: float) -> CatchLaw:
    """Return how wrong results are caught when a share of the auditors is in league with the cheat.

    m auditors are enough from the history n / v on at which 1 - p = f_a^m: k f_a^m / (1 - f_a^m).
    """
    k, assumed = settings.rule.scale(settings.epsilon), settings.rule.colluding_auditor_share
    # Below the first border the pool itself is the auditor, where it settles contradictions at all:
    # (from, factor, m, q / p).
    newcomers = 1.0
    if settings.settled is Contradictions.OWNERS:
        newcomers -= lie_passes(AUDITORS_MAX, league_share, settings.settled)
    ranges = [(0.0, newcomers, AUDITORS_MAX, np.inf)] if assumed > 0 else []
    for auditors in range(AUDITORS_MAX if assumed > 0 else 1, 0, -1):
        in_league = assumed**auditors
        draw = 1 / (1 - in_league)
        passes = lie_passes(auditors, league_share, settings.settled)
        ranges.append((k * in_league * draw, (1 - passes) * draw, auditors, draw))
    begins, factors, asked, draws = (
        np.array(column, dtype=np.float64) for column in zip(*ranges, strict=True)
    )
    return CatchLaw(scale=k, from_history=begins, factor=factors, auditors=asked, draw_factor=draws)


def run_honest(settings: Settings) -> Honest:
    """Draw the audits of vehicles that never err. None of them fails."""
    chance = generator(settings.seed, "honest")
    units = settings.units_per_vehicle
    audits = 0.0
    for part in audit_ranges(settings.rule, epsilon=settings.epsilon, units=units):
        edges = _edges(part.from_units, min(units, part.until_units), settings)
        for begin, end in pairwise(edges):
            q = settings.rule.plan(
                epsilon=settings.epsilon, work_uwu=2, clean_uwu=begin + end - 1
            ).draw_probability
            drawn = chance.binomial((end - begin) * settings.honest_vehicles, min(1.0, q))
            audits += float(drawn) * part.auditors
    total = float(units * settings.honest_vehicles)
    expected = expected_overhead(settings.rule, epsilon=settings.epsilon, units=units) - 1
    table = LifeTable(Strategy().plan(world_of(settings)), catch_law(settings, 0.0))
    lengths = table.lengths(chance.uniform(size=settings.honest_vehicles))
    return Honest(
        units=total,
        audits=audits,
        audits_expected=expected * total,
        caught=int(np.count_nonzero(lengths <= units)),
    )


def _edges(begin: int, end: int, settings: Settings) -> list[int]:
    """Cut histories so finely that the audit probability hardly changes within a piece."""
    k = settings.rule.scale(settings.epsilon)
    edges = [begin]
    while edges[-1] < end:
        edges.append(min(end, max(edges[-1] + 1, int((edges[-1] + k) * _STEP - k))))
    return edges


def world_of(settings: Settings) -> World:
    """Return what a strategy may know."""
    return World(
        scale=settings.rule.scale(settings.epsilon),
        epsilon=settings.epsilon,
        units_per_vehicle=settings.units_per_vehicle,
        faulty_share=settings.faulty_share,
    )


def run_cheats(settings: Settings, strategy: Strategy, progress: Progress) -> Cheats:
    """Draw all lives of the vehicles that play a strategy, for as long as the simulation lasts."""
    chance = generator(settings.seed, "cheats", strategy.name)
    if settings.faulty_vehicles == 0:
        return Cheats()
    plan = strategy.plan(world_of(settings))
    if strategy.accuses:
        return run_accusers(settings)
    if strategy.class_fault:
        return _class_fault(settings, plan, chance)
    law = catch_law(settings, settings.league_share if strategy.in_league else 0.0)
    table = LifeTable(plan, law)
    limit = min(table.units_of_work(float(settings.units_per_vehicle)), float(table.begin[-1]))
    pilot = np.minimum(table.lengths(chance.uniform(size=_PILOT_LIVES)), limit)
    if limit / float(pilot.mean()) > _BULK_LIVES:
        return _in_bulk(settings, plan, table, chance, progress)
    return _one_after_another(settings, table, limit, chance, progress)


def run_accusers(settings: Settings) -> Cheats:
    """Let vehicles do their own work right, and contradict every honest result that they audit, all alike."""
    chance = generator(settings.seed, "accusers")
    units, share, settled = settings.units_per_vehicle, settings.league_share, settings.settled
    cheats = Cheats(
        attempted=float(units) * settings.faulty_vehicles, accepted=float(units) * settings.faulty_vehicles
    )
    for part in audit_ranges(settings.rule, epsilon=settings.epsilon, units=units):
        # Of newcomers the pool itself is the auditor, where it settles contradictions at all.
        by_pool = part.auditors == AUDITORS_MAX and settled is Contradictions.POOL
        for begin, end in pairwise(_edges(part.from_units, min(units, part.until_units), settings)):
            plan = settings.rule.plan(epsilon=settings.epsilon, work_uwu=2, clean_uwu=begin + end - 1)
            count = (end - begin) * settings.honest_vehicles
            drawn = int(chance.binomial(count, min(1.0, plan.draw_probability)))
            if by_pool:
                continue
            outvoted = int(chance.binomial(drawn, truth_fails(part.auditors, share, settled)))
            accused = int(chance.binomial(drawn, 1 - (1 - share) ** part.auditors))
            cheats.honest_outvoted += outvoted
            cheats.catches += max(0, accused - outvoted)
    # Where the honest result is outvoted, a wrong one is accepted in its place.
    cheats.wrong = cheats.wrong_variance = float(cheats.honest_outvoted)
    return cheats


def _one_after_another(
    settings: Settings, table: LifeTable, limit: float, chance: np.random.Generator, progress: Progress
) -> Cheats:
    """Draw each vehicle's lives in turn, all vehicles at once, until every vehicle's time is over."""
    count = settings.faulty_vehicles
    left = np.full(count, limit)
    wrong = np.zeros(count)
    cheats = Cheats()
    heaviest = float(table.weight[table.rate > 0].max(initial=0.0)) or 1.0
    while (alive := np.flatnonzero(left > 0)).size:
        lengths = table.lengths(chance.uniform(size=alive.size))
        caught = lengths <= left[alive]
        accepted = np.where(caught, lengths - 1, left[alive])
        mean, variance = table.wrong_until(accepted)
        work = table.work_until(accepted)
        lies = draw_weight(chance, mean, variance, work, heaviest)
        lies = np.where(accepted <= SHORT_UNITS, table.draw_short(chance, accepted), lies)
        wrong[alive] += lies
        cheats.accepted += float(work.sum())
        cheats.attempted += float(work.sum() + np.where(caught, heaviest, 0.0).sum())
        cheats.audits += float(table.audits_until(np.where(caught, lengths, left[alive])).sum())
        cheats.revoked += float(np.where(caught, _revoked(table, accepted, lies, mean), 0.0).sum())
        cheats.catches += int(caught.sum())
        cheats.delays.append((lengths - table.lying_from(lengths))[caught])
        left[alive] = np.where(caught, left[alive] - lengths, 0.0)
        progress(1 - float(left.sum()) / (limit * count))
    cheats.wrong = float(wrong.sum())
    cheats.wrong_variance = float(count * wrong.var(ddof=1)) if count > 1 else cheats.wrong**2
    return cheats


def _revoked(table: LifeTable, accepted: Floats, lies: Floats, mean: Floats) -> Floats:
    """Return the wrong weight in what was not final yet when a life was caught."""
    lag = np.maximum(LAG_UNITS_MIN, LAG_GAPS * accepted / table.scale)
    before, _ = table.wrong_until(np.maximum(accepted - lag, 0.0))
    share = np.divide(mean - before, mean, out=np.zeros_like(mean), where=mean > 0)
    revoked: Floats = lies * np.clip(share, 0.0, 1.0)
    return revoked


def _in_bulk(
    settings: Settings, plan: Plan, table: LifeTable, chance: np.random.Generator, progress: Progress
) -> Cheats:
    """Draw how many lives end at each unit; those longer than the table one by one."""
    steps = LifeTable(plan.first(_TABLE_UNITS), table.law)
    survival = np.exp(steps.log_survival)
    ends = np.append(survival[:-1] - survival[1:], survival[-1])
    ends = np.clip(ends, 0.0, None) / ends.clip(0.0, None).sum()
    accepted_units = np.arange(len(ends), dtype=np.float64)
    accepted_units[-1] = len(ends) - 1
    x = np.diff(steps.wrong_mean) / steps.weight
    budget = float(settings.faulty_vehicles) * settings.units_per_vehicle
    cheats = Cheats()
    tail_unit = float(len(ends) - 1)
    heaviest = float(table.weight[table.rate > 0].max(initial=0.0)) or 1.0
    mean_work = float((ends[:-1] * (steps.work[:-1] + steps.weight)).sum() + ends[-1] * steps.work[-1])
    second = _second_moment(ends, steps)
    total_lives = 0
    while cheats.attempted < budget * 0.999:
        lives = max(1, int(0.98 * (budget - cheats.attempted) / mean_work))
        counts = chance.multinomial(lives, ends)
        survivors = lives - np.cumsum(counts)[:-1]
        # `survivors[j]` lives had unit j accepted; each was wrong with probability x[j].
        wrong = chance.binomial(survivors, np.clip(x, 0.0, 1.0)) * steps.weight
        lies = float(wrong.sum())
        accepted = float((survivors * steps.weight).sum())
        caught = float((counts[:-1] * steps.weight).sum())
        cheats.audits += float(((survivors + counts[:-1]) * np.diff(steps.audits)).sum())
        revoked = _revoked_in_bulk(counts, steps)
        cheats.catches += float(counts[:-1].sum())
        if counts[-1]:
            floor = float(steps.log_survival[-1])
            lengths = table.lengths(chance.uniform(size=int(counts[-1])), log_floor=floor)
            ended = np.isfinite(lengths)
            upto = np.where(ended, lengths - 1, table.begin[-1])
            mean, variance = table.wrong_until(upto)
            before_mean, before_variance = table.wrong_until(np.full_like(upto, tail_unit))
            work = table.work_until(upto)
            tail = draw_weight(
                chance, mean - before_mean, variance - before_variance, work - steps.work[-1], heaviest
            )
            lies += float(tail.sum())
            accepted += float((work - steps.work[-1]).sum())
            spent = table.audits_until(np.where(ended, lengths, table.begin[-1]))
            cheats.audits += float((spent - steps.audits[-1]).sum())
            caught += float(ended.sum()) * heaviest
            cheats.catches += float(ended.sum())
            revoked += float(np.where(ended, _revoked(table, upto, tail, mean), 0.0).sum())
            cheats.delays.append((lengths - table.lying_from(lengths))[ended][:10_000])
        cheats.delays.append(_delay_sample(chance, counts[:-1], steps))
        cheats.wrong += lies
        cheats.revoked += min(lies, revoked)
        cheats.accepted += accepted
        cheats.attempted += accepted + caught
        total_lives += lives
        progress(min(1.0, cheats.attempted / budget))
    cheats.wrong_variance = total_lives * second
    return cheats


def _second_moment(ends: Floats, steps: LifeTable) -> float:
    """Return the variance of a life's wrong weight less its share of the life's work (renewal reward)."""
    mean, variance = steps.wrong_mean[:-1], steps.wrong_variance[:-1]
    work = steps.work[:-1] + steps.weight
    weights = ends[:-1]
    rate = float((weights * mean).sum() / max(1e-300, float((weights * work).sum())))
    return float((weights * (variance + (mean - rate * work) ** 2)).sum())


def _revoked_in_bulk(counts: NDArray[np.int64], steps: LifeTable) -> float:
    """Return the wrong weight expected in what was not final when lives of the table's lengths ended."""
    accepted = np.arange(len(counts) - 1, dtype=np.float64)
    lag = np.maximum(LAG_UNITS_MIN, np.ceil(LAG_GAPS * accepted / steps.scale))
    before = np.maximum(accepted - lag, 0.0).astype(np.intp)
    return float((counts[:-1] * (steps.wrong_mean[:-1] - steps.wrong_mean[before])).sum())


def _delay_sample(chance: np.random.Generator, counts: NDArray[np.int64], steps: LifeTable) -> Floats:
    ended = np.flatnonzero(counts)
    if not len(ended):
        return np.zeros(0)
    picked = chance.choice(ended, size=10_000, p=counts[ended] / counts[ended].sum()) + 1.0
    return picked - steps.lying_from(picked)


def _class_fault(settings: Settings, plan: Plan, chance: np.random.Generator) -> Cheats:
    """Draw a faulty class until it is known; from then on nothing of it is accepted alone.

    Audits inside the class agree with the wrong answer; only the share that goes to another class finds it.
    Once the fault is known, the class's results need agreement from outside: wrong ones are not accepted any
    more.
    """
    count, rate = settings.faulty_vehicles, float(plan.wrong_rate[0])
    cheats = Cheats()
    contradicted = 0
    needed = min(CLASS_FAULT_VEHICLES, count)
    for unit in range(settings.units_per_vehicle):
        audit = settings.rule.plan(epsilon=settings.epsilon, work_uwu=1, clean_uwu=unit)
        wrong = int(chance.binomial(count, rate))
        found = int(chance.binomial(wrong, audit.draw_probability * settings.cross_class_share))
        cheats.attempted += count
        cheats.accepted += count - found
        cheats.wrong += wrong - found
        cheats.audits += count * audit.draw_probability * audit.auditors
        contradicted += found
        if contradicted >= needed:
            cheats.class_fault_units = cheats.attempted
            break
    rest = float(count) * settings.units_per_vehicle - cheats.attempted
    lied = float(chance.binomial(int(rest), rate))
    cheats.attempted += rest
    cheats.accepted += rest - lied
    cheats.audits += rest
    cheats.wrong_variance = max(1.0, cheats.wrong) * max(1.0, cheats.wrong / max(1, needed))
    return cheats
