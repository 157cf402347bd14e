"""The same simulation unit by unit: commit, draw, auditors, verdict. Slow; it keeps `pool` honest."""

import numpy as np

from pool_server.simulate.verification.pool import Cheats, Settings, generator, world_of
from pool_server.simulate.verification.strategies import Strategy

#: Work of a usual unit in the rule's integers: weights are kept to a thousandth.
_UNIT_UWU = 1_000


def run_one_by_one(settings: Settings, strategy: Strategy) -> Cheats:
    """Let the vehicles of a strategy work, one unit after the other, against the production rule.

    Every unit: the vehicle decides whether it lies (its commitment), then the audit is drawn, then each
    auditor is in league or not; a lie is caught when one that is not, or a trusted node, looks at it.
    """
    chance = generator(settings.seed, "one by one", strategy.name)
    league_share = settings.league_share if strategy.in_league else 0.0
    plan = strategy.plan(world_of(settings)).first(4 * settings.units_per_vehicle)
    wrong_work = np.zeros(settings.faulty_vehicles)
    cheats = Cheats()
    for vehicle in range(settings.faulty_vehicles):
        worked, place, clean_uwu = 0.0, 0, 0
        while worked < settings.units_per_vehicle:
            weight = float(plan.weight[place])
            work_uwu = round(weight * _UNIT_UWU)
            is_wrong = chance.random() < plan.wrong_rate[place]
            audit = settings.rule.plan(epsilon=settings.epsilon, work_uwu=work_uwu, clean_uwu=clean_uwu)
            drawn = chance.random() < audit.draw_probability
            honest_auditor = audit.needs_trusted or bool(
                (chance.random(audit.auditors) >= league_share).any()
            )
            worked += weight
            cheats.audits += audit.auditors * weight * drawn
            if is_wrong and drawn and honest_auditor:
                cheats.catches += 1
                place, clean_uwu = 0, 0
                continue
            wrong_work[vehicle] += weight * is_wrong
            cheats.accepted += weight
            place, clean_uwu = place + 1, clean_uwu + work_uwu
        cheats.attempted += worked
    cheats.wrong = float(wrong_work.sum())
    cheats.wrong_variance = float(len(wrong_work) * wrong_work.var(ddof=1))
    return cheats
