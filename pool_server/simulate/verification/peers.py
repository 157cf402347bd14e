"""Other systems' rules against the same cheats, unit by unit: BOINC's, and a quorum of two.

BOINC (sched_send.cpp: CONS_VALID_UNREPLICATED 10): a host's results are replicated until ten in a row were
valid, from then on with probability 1 / (valid ones in a row), counted over replicated results; an invalid
one starts the count again. The replica goes to any host, which is in league with a cheat of a group as often
as such hosts are there. Results that contradict each other are decided by a third host, under both rules.
"""

import numpy as np

from pool_server.simulate.verification.contradictions import Contradictions, lie_passes, truth_fails
from pool_server.simulate.verification.pool import Cheats, Honest, Settings, generator
from pool_server.simulate.verification.strategies import Strategy, World

#: Units per vehicle that are simulated one by one; these rules' errors do not shrink with more.
UNITS_MAX = 10_000
_VALID_UNREPLICATED = 10


def peer_settings_units(settings: Settings) -> int:
    """Return how many units per vehicle a peer's rule is simulated for."""
    return min(settings.units_per_vehicle, UNITS_MAX)


def run_boinc(settings: Settings, strategy: Strategy) -> tuple[Honest, Cheats]:
    """Simulate adaptive replication."""
    units = peer_settings_units(settings)
    chance = generator(settings.seed, "boinc", strategy.name)
    honest_audits = 0.0
    sample = min(settings.honest_vehicles, 200)
    valid = np.zeros(sample)
    for _ in range(units if sample else 0):
        drawn = (valid < _VALID_UNREPLICATED) | (chance.random(sample) * np.maximum(valid, 1) < 1)
        honest_audits += float(drawn.sum())
        valid = np.where(drawn, valid + 1, valid)
    scale = settings.honest_vehicles / sample if sample else 0.0
    honest = Honest(
        units=float(units * settings.honest_vehicles),
        audits=honest_audits * scale,
        audits_expected=honest_audits * scale,
        caught=0,
    )
    cheats = _boinc_cheats(settings, strategy, units, chance)
    return honest, _accused(settings, strategy, honest, cheats, chance)


def _boinc_cheats(settings: Settings, strategy: Strategy, units: int, chance: np.random.Generator) -> Cheats:
    count = settings.faulty_vehicles
    plan = strategy.plan(_peer_world(settings, units)).first(units)
    rate, weight = plan.wrong_rate, plan.weight
    passes = _passes(settings, strategy)
    place = np.zeros(count, dtype=np.intp)
    valid, wrong_work = np.zeros(count), np.zeros(count)
    cheats = Cheats()
    began = np.full(count, -1.0)
    for _ in range(units if count else 0):
        work = weight[np.minimum(place, units - 1)]
        wrong = chance.random(count) < rate[np.minimum(place, units - 1)]
        began = np.where(wrong & (began < 0), place, began)
        drawn = (valid < _VALID_UNREPLICATED) | (chance.random(count) * np.maximum(valid, 1) < 1)
        caught = wrong & drawn & (chance.random(count) >= passes)
        wrong_work += np.where(wrong & ~caught, work, 0.0)
        cheats.attempted += float(work.sum())
        cheats.accepted += float(work[~caught].sum())
        cheats.audits += float(work[drawn].sum())
        cheats.catches += float(caught.sum())
        if caught.any():
            cheats.delays.append((place - began)[caught] + 1.0)
        valid = np.where(caught, 0.0, np.where(drawn, valid + 1, valid))
        place = np.where(caught, 0, place + 1)
        began = np.where(caught, -1.0, began)
    cheats.wrong = float(wrong_work.sum())
    cheats.wrong_variance = float(count * wrong_work.var(ddof=1)) if count > 1 else cheats.wrong**2
    return cheats


def run_quorum(settings: Settings, strategy: Strategy) -> tuple[Honest, Cheats]:
    """Simulate a quorum of two: every unit twice, accepted when both agree, decided by a third otherwise."""
    units = peer_settings_units(settings)
    chance = generator(settings.seed, "quorum2", strategy.name)
    honest_units = float(units * settings.honest_vehicles)
    honest = Honest(units=honest_units, audits=honest_units, audits_expected=honest_units, caught=0)
    plan = strategy.plan(_peer_world(settings, units)).first(units)
    count = settings.faulty_vehicles
    lied = chance.binomial(count, plan.wrong_rate)
    passed = chance.binomial(lied, _passes(settings, strategy))
    attempted = float(count * plan.weight.sum())
    cheats = Cheats(
        attempted=attempted,
        accepted=attempted - float(((lied - passed) * plan.weight).sum()),
        wrong=float((passed * plan.weight).sum()),
        audits=attempted,
        catches=float((lied - passed).sum()),
    )
    cheats.wrong_variance = float((passed * plan.weight**2).sum())
    return honest, _accused(settings, strategy, honest, cheats, chance)


def _passes(settings: Settings, strategy: Strategy) -> float:
    """Return how likely a wrong result passes once a second host has computed it, and a third if need be."""
    in_league = strategy.in_league or strategy.class_fault
    return lie_passes(1, settings.league_share if in_league else 0.0, Contradictions.OWNERS)


def _accused(
    settings: Settings, strategy: Strategy, honest: Honest, cheats: Cheats, chance: np.random.Generator
) -> Cheats:
    """Add the honest results that are outvoted, and the wrong ones accepted in their place."""
    if strategy.accuses:
        fails = truth_fails(1, settings.league_share, Contradictions.OWNERS)
        cheats.honest_outvoted = int(chance.binomial(round(honest.audits), fails))
        cheats.wrong += cheats.honest_outvoted
        cheats.wrong_variance += cheats.honest_outvoted
    return cheats


def _peer_world(settings: Settings, units: int) -> World:
    # A cheat fits its habits to the rule it is up against and to the time that there is.
    return World(
        scale=max(1.0, units / 50),
        epsilon=settings.epsilon,
        units_per_vehicle=units,
        faulty_share=settings.faulty_share,
    )
