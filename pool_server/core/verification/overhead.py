"""What audits cost: re-executions per unit of work, expected, by closed formulas.

With trusted auditors an identity of n units, all of one weight, has sum of p = k (psi(k + n) - psi(k))
audits, close to k ln(1 + n / k): an overhead of 1 + ln(1 + x) / x at x = n / k. Where auditors may be in
league, units of little history are audited by m of them; m is constant between the histories at which 1 - p
passes a power of f_a, so that the sum splits into a few ranges of the same formula.

Not decided here: what an audit is paid, or who pays it.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.verification.audit import AUDITORS_MAX, HistoryAuditRule

_ASYMPTOTIC_FROM = 20.0


class AuditRange(NamedTuple):
    """Histories, in units of one weight, over which the number of auditors is the same."""

    from_units: int
    until_units: int
    auditors: int
    draw_factor: float
    """q / p; infinite where every result is drawn."""


def audit_ranges(rule: HistoryAuditRule, *, epsilon: float, units: int) -> Iterator[AuditRange]:
    """Split the histories 0 to `units` by the number of auditors that the rule asks for, in order."""
    begin = 0
    while begin < units:
        plan = _plan(rule, epsilon, begin)
        low, high = begin, units
        while low + 1 < high:
            middle = (low + high) // 2
            if _same(_plan(rule, epsilon, middle), plan):
                low = middle
            else:
                high = middle
        end = high if high < units or not _same(_plan(rule, epsilon, units - 1), plan) else units
        factor = math.inf if plan[1] else 1 / (1 - rule.colluding_auditor_share ** plan[0])
        yield AuditRange(begin, end, plan[0], factor)
        begin = end


def _plan(rule: HistoryAuditRule, epsilon: float, history_units: int) -> tuple[int, bool]:
    plan = rule.plan(epsilon=epsilon, work_uwu=1, clean_uwu=history_units)
    return plan.auditors, plan.needs_trusted


def _same(plan: tuple[int, bool], other: tuple[int, bool]) -> bool:
    return plan == other


def expected_audits(rule: HistoryAuditRule, *, epsilon: float, units: int, prior_units: int = 0) -> float:
    """Return the re-executions expected over `units` results of one weight by a new identity.

    Args:
        rule: The pool's rule.
        epsilon: The level's error target.
        units: Results.
        prior_units: Prior credit, in units of the same weight.
    """
    return _sum_until(rule, epsilon, prior_units + units) - _sum_until(rule, epsilon, prior_units)


def _sum_until(rule: HistoryAuditRule, epsilon: float, units: int) -> float:
    k = rule.scale(epsilon)
    total = 0.0
    for part in audit_ranges(rule, epsilon=epsilon, units=units):
        if math.isinf(part.draw_factor):
            total += (part.until_units - part.from_units) * part.auditors
            continue
        drawn = k * (digamma(k + part.until_units) - digamma(k + part.from_units))
        total += part.auditors * part.draw_factor * drawn
    return total


def expected_overhead(rule: HistoryAuditRule, *, epsilon: float, units: int, prior_units: int = 0) -> float:
    """Return executions per unit of work, 1 and more, of an identity's first `units` results.

    Raises:
        PoolError: INVALID_ARGUMENT when there are no units.
    """
    if units < 1:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"an overhead is of at least one unit, not {units}")
    return 1 + expected_audits(rule, epsilon=epsilon, units=units, prior_units=prior_units) / units


def simple_overhead(x: float) -> float:
    """Return 1 + ln(1 + x) / x: trusted auditors, history n = x k, no prior credit; 2 at x = 0."""
    return 2.0 if x <= 0 else 1 + math.log1p(x) / x


def next_audits(rule: HistoryAuditRule, *, epsilon: float, work_uwu: int, clean_uwu: int) -> float:
    """Return the re-executions expected of the next result of a vehicle with this history."""
    plan = rule.plan(epsilon=epsilon, work_uwu=work_uwu, clean_uwu=clean_uwu)
    return plan.draw_probability * min(plan.auditors, AUDITORS_MAX)


def fleet_overhead(
    histories_uwu: Iterable[int], work_uwu: int, epsilon: float, rule: HistoryAuditRule
) -> float:
    """Return the re-executions per result that a job would cost now, every vehicle taking the same share.

    Args:
        histories_uwu: Clean work of each vehicle that could take the job, in the job's class, micro-WU.
        work_uwu: Work of one task, micro-WU.
        epsilon: The level's error target.
        rule: The pool's rule.

    Returns:
        0.05 for one audit in twenty results; that of a newcomer where there is no vehicle.
    """
    audits = [
        next_audits(rule, epsilon=epsilon, work_uwu=work_uwu, clean_uwu=clean_uwu)
        for clean_uwu in histories_uwu
    ]
    if not audits:
        return next_audits(rule, epsilon=epsilon, work_uwu=work_uwu, clean_uwu=0)
    return math.fsum(audits) / len(audits)


def digamma(x: float) -> float:
    """Return psi(x), x > 0, to about 1e-14: recurrence, then the series of Abramowitz and Stegun 6.3.18."""
    shift = 0.0
    while x < _ASYMPTOTIC_FROM:
        shift -= 1 / x
        x += 1
    square = 1 / (x * x)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132))))
    return shift + math.log(x) - 0.5 / x - series
