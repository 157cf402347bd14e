"""One row per policy and strategy: the figures that `pool-server simulate verification` prints."""

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum, unique
from functools import partial
from pathlib import Path

import numpy as np

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.simulate.verification.peers import run_boinc, run_quorum
from pool_server.simulate.verification.pool import Cheats, Honest, Settings, run_cheats, run_honest
from pool_server.simulate.verification.strategies import STRATEGIES, Strategy

_NORMAL_95 = 1.959964
#: 97.5 % bound on a Poisson mean of which nothing was seen.
_NOTHING_SEEN = 3.689


@unique
class Policy(StrEnum):
    """Whose rule."""

    CHARGEPOOL = "chargepool"
    BOINC = "boinc"
    QUORUM2 = "quorum2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one strategy did to one policy. Work is counted in usual units (weight 1)."""

    policy: str
    strategy: str
    level: str
    units: int
    """Accepted work of the whole pool."""
    wrong_accepted: float
    """Wrong work accepted at once, before any look-back."""
    error: float
    """wrong_accepted / units."""
    error_ci95: tuple[float, float]
    eps: float
    within_eps: bool
    """Whether the interval reaches down to eps or below."""
    error_after_look_back: float
    """What is left once look-backs have revoked what was not final."""
    overhead: float
    """Executions per unit of honest vehicles' work."""
    overhead_formula: float
    attack_overhead: float
    """Executions per unit of the cheats' accepted work; 0 when none was accepted."""
    honest_quarantined: int
    """Honest vehicles' right results that were rejected: each ends a history."""
    detection_delay_units_p50: float | None
    """From the first lie of a burst to being caught; null when nobody was caught."""
    attacker_income_ratio: float
    """What cheats kept, per unit that an honest vehicle would have been paid in their place."""
    money_lost_units: float
    """Wrong work paid for that no look-back found."""
    catches: int
    class_fault_after_units: float | None
    """Units of the class until it was reported as a fault; null where there is no faulty class."""

    def as_json(self) -> dict[str, object]:
        """Return plain values."""
        return {**asdict(self), "error_ci95": list(self.error_ci95)}


def find_strategy(name: str) -> Strategy:
    """Make the strategy of a name, or of a Python path `module:Class`.

    Raises:
        PoolError: INVALID_ARGUMENT when there is none.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]()
    module_name, _, class_name = name.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # as `python -m` would: a reader's file lies beside the shell
    try:
        made = getattr(importlib.import_module(module_name), class_name)() if class_name else None
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise _unknown(name, f": {error}") from error
    if not isinstance(made, Strategy):
        raise _unknown(name, ": it is no subclass of Strategy" if class_name else "")
    return made


def _unknown(name: str, why: str) -> PoolError:
    return PoolError(
        ErrorCode.INVALID_ARGUMENT,
        f"there is no strategy {name!r}{why}",
        advice=f"Give one of {', '.join(STRATEGIES)}, all, or module:Class of a subclass of "
        "pool_server.simulate.verification.strategies.Strategy.",
    )


def simulate(
    settings: Settings,
    *,
    level: str,
    policies: Sequence[Policy],
    strategies: Sequence[Strategy],
    told: Callable[[str, float], None],
) -> list[Row]:
    """Run every strategy against every policy; `told` hears what runs and how far it is, 0 to 1."""
    rows = []
    own = run_honest(settings) if Policy.CHARGEPOOL in policies else None
    for policy in policies:
        for strategy in strategies:
            label = f"{policy.value}: {strategy.name}"
            told(label, 0.0)
            if policy is Policy.CHARGEPOOL and own is not None:
                honest = own
                cheats = run_cheats(settings, strategy, partial(told, label))
            else:
                run = run_boinc if policy is Policy.BOINC else run_quorum
                honest, cheats = run(settings, strategy)
            rows.append(
                _row(settings, level=level, policy=policy, strategy=strategy, honest=honest, cheats=cheats)
            )
    return rows


def _row(
    settings: Settings, *, level: str, policy: Policy, strategy: Strategy, honest: Honest, cheats: Cheats
) -> Row:
    units = honest.units + cheats.accepted
    low, high = _interval(cheats.wrong, cheats.wrong_variance)
    delays = np.concatenate(cheats.delays) if cheats.delays else np.zeros(0)
    return Row(
        policy=policy.value,
        strategy=strategy.name,
        level=level,
        units=round(units),
        wrong_accepted=round(cheats.wrong, 3),
        error=cheats.wrong / units,
        error_ci95=(low / units, high / units),
        eps=settings.epsilon,
        within_eps=low / units <= settings.epsilon,
        error_after_look_back=max(0.0, cheats.wrong - cheats.revoked) / units,
        overhead=1 + (honest.audits / honest.units if honest.units else 0.0),
        overhead_formula=1 + (honest.audits_expected / honest.units if honest.units else 0.0),
        attack_overhead=1 + cheats.audits / cheats.accepted if cheats.accepted > 0 else 0.0,
        honest_quarantined=honest.caught + cheats.honest_outvoted,
        detection_delay_units_p50=float(np.median(delays)) if delays.size else None,
        attacker_income_ratio=(cheats.accepted - min(cheats.wrong, cheats.revoked)) / cheats.attempted
        if cheats.attempted
        else 0.0,
        money_lost_units=max(0.0, cheats.wrong - cheats.revoked),
        catches=round(cheats.catches),
        class_fault_after_units=cheats.class_fault_units or None,
    )


def _interval(wrong: float, variance: float) -> tuple[float, float]:
    """Return a 95 % interval of the wrong work: normal over independent lives or vehicles."""
    if wrong <= 0:
        return 0.0, _NOTHING_SEEN
    half = _NORMAL_95 * math.sqrt(max(variance, wrong))
    return max(0.0, wrong - half), wrong + half
