"""Verdicts over a task's results, the audit rule, trust: tables in order of precedence, then properties."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import ATTEMPTS_PER_TASK_MAX, ERRORS_PER_TASK_MAX
from pool_server.core.comparison import Candidate, Comparator, ComparatorKind, Tensors
from pool_server.core.jobs import RetryBounds, TaskFailure, retry_bounds
from pool_server.core.trust import QuarantineReason, QuarantineRule, TrustRecord, trust_class
from pool_server.core.verification import (
    LEVELS,
    Accept,
    GiveUp,
    HistoryAuditRule,
    TaskStanding,
    Verdict,
    VerificationLevel,
    Wait,
    judge,
)

EXACT = Comparator()


def never_read(attempt_id: int) -> Tensors:
    raise AssertionError(f"outputs of {attempt_id} were read")


def result(attempt_id: int, answer: str, *, owner: str = "") -> Candidate:
    return Candidate(
        attempt_id=attempt_id,
        owner_id=owner or f"owner_{attempt_id}",
        output_digest=hashlib.sha256(answer.encode()).digest(),
    )


def standing(
    *returned: Candidate,
    needed: int = 1,
    live: int = 0,
    attempts: int | None = None,
    failures: int = 0,
    program_failed: int = 0,
    bounds: RetryBounds | None = None,
) -> TaskStanding:
    return TaskStanding(
        agreement_needed=needed,
        returned=returned,
        live_count=live,
        attempt_count=len(returned) + live + failures if attempts is None else attempts,
        failure_count=failures,
        program_failed_owners=program_failed,
        bounds=bounds or RetryBounds(),
    )


def verdict(of: TaskStanding) -> Verdict:
    return judge(of, EXACT, never_read)


def accepted(of: TaskStanding) -> tuple[list[int], list[int]]:
    """Attempts accepted and rejected."""
    found = verdict(of)
    assert isinstance(found, Accept), found
    assert found.unjudged == ()
    return [one.attempt_id for one in found.group.members], [one.attempt_id for one in found.rejected]


@pytest.mark.parametrize(
    ("case", "members", "rejected"),
    [
        pytest.param(standing(result(5, "a")), [5], [], id="one result where one is enough"),
        pytest.param(standing(result(5, "a"), result(3, "a"), needed=2), [3, 5], [], id="two that agree"),
        pytest.param(
            standing(result(1, "wrong"), result(2, "a"), result(3, "a"), needed=2),
            [2, 3],
            [1],
            id="two against one",
        ),
        pytest.param(
            standing(result(1, "x"), result(2, "y"), result(3, "a"), result(4, "a"), needed=2),
            [3, 4],
            [1, 2],
            id="two against two alone",
        ),
        pytest.param(
            standing(
                result(1, "a"), result(2, "a"), result(3, "b"), result(4, "b"), result(5, "b"), needed=2
            ),
            [3, 4, 5],
            [1, 2],
            id="the larger group",
        ),
        pytest.param(
            standing(result(4, "b"), result(5, "b"), result(1, "a"), result(9, "a"), needed=2),
            [1, 9],
            [4, 5],
            id="of equal groups the lower anchor",
        ),
        pytest.param(
            standing(result(1, "a"), result(2, "a"), needed=2, failures=99, program_failed=9),
            [1, 2],
            [],
            id="agreement goes before every bound",
        ),
    ],
)
def test_enough_agreeing_owners_decide(case: TaskStanding, members: list[int], rejected: list[int]) -> None:
    assert accepted(case) == (members, rejected)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        pytest.param(standing(), Wait(1), id="nothing yet"),
        pytest.param(standing(needed=2), Wait(2), id="nothing yet of two"),
        pytest.param(standing(live=1), Wait(0), id="one is under way"),
        pytest.param(standing(live=1, needed=2), Wait(1), id="one of two is under way"),
        pytest.param(standing(result(1, "a"), needed=2), Wait(1), id="a second opinion is wanted"),
        pytest.param(standing(result(1, "a"), needed=2, live=1), Wait(0), id="it is under way"),
        pytest.param(standing(result(1, "a"), result(2, "b"), needed=2), Wait(1), id="a tie-break is wanted"),
        pytest.param(
            standing(result(1, "a", owner="o"), result(2, "a", owner="o"), needed=2),
            Wait(1),
            id="one owner agreeing with itself is one opinion",
        ),
        pytest.param(
            standing(failures=1, program_failed=1), Wait(1), id="one owner's word against a program"
        ),
        pytest.param(
            standing(failures=2, program_failed=2, live=1),
            GiveUp(TaskFailure.PROGRAM_FAILED),
            id="two owners' word",
        ),
        pytest.param(
            standing(failures=ERRORS_PER_TASK_MAX),
            GiveUp(TaskFailure.TASK_ATTEMPTS_EXHAUSTED),
            id="too many failures",
        ),
        pytest.param(standing(failures=ERRORS_PER_TASK_MAX - 1), Wait(1), id="one failure fewer"),
        pytest.param(
            standing(failures=ERRORS_PER_TASK_MAX, live=1), Wait(0), id="what is under way may still save it"
        ),
        pytest.param(
            standing(attempts=ATTEMPTS_PER_TASK_MAX),
            GiveUp(TaskFailure.TASK_ATTEMPTS_EXHAUSTED),
            id="no attempts left",
        ),
        pytest.param(standing(needed=2, attempts=ATTEMPTS_PER_TASK_MAX - 1), Wait(1), id="one attempt left"),
        pytest.param(
            standing(result(1, "a"), result(2, "b"), needed=2, attempts=ATTEMPTS_PER_TASK_MAX),
            GiveUp(TaskFailure.VERIFICATION_UNDECIDED),
            id="no attempts left to settle a disagreement",
        ),
        pytest.param(
            standing(result(1, "a"), needed=2, attempts=ATTEMPTS_PER_TASK_MAX),
            GiveUp(TaskFailure.TASK_ATTEMPTS_EXHAUSTED),
            id="no attempts left for a second opinion",
        ),
    ],
)
def test_without_agreement_a_task_waits_or_is_given_up(case: TaskStanding, expected: Verdict) -> None:
    assert verdict(case) == expected


def test_a_result_between_the_tolerances_is_not_blamed() -> None:
    # 1 and 2 agree, 3 agrees with 2 but not with the anchor 1; 4 is simply wrong.
    values: Mapping[int, float] = {1: 0.0, 2: 0.9, 3: 1.8, 4: 50.0}
    found = judge(
        standing(*(result(attempt_id, str(value)) for attempt_id, value in values.items()), needed=2),
        Comparator(kind=ComparatorKind.CLOSE, atol=1.0),
        lambda attempt_id: {"y": np.array([values[attempt_id]])},
    )
    assert isinstance(found, Accept)
    assert [one.attempt_id for one in found.group.members] == [1, 2]
    assert [one.attempt_id for one in found.unjudged] == [3]
    assert [one.attempt_id for one in found.rejected] == [4]


standings = st.builds(
    lambda answers, needed, live, extra, failures, program_failed: standing(
        *(result(index + 1, answer) for index, answer in enumerate(answers)),
        needed=needed,
        live=live,
        attempts=len(answers) + live + extra,
        failures=failures,
        program_failed=program_failed,
    ),
    st.lists(st.sampled_from("abc"), max_size=6),
    st.integers(1, 3),
    st.integers(0, 3),
    st.integers(0, 8),
    st.integers(0, 6),
    st.integers(0, 3),
)


@given(standings)
def test_verdicts_are_sound(case: TaskStanding) -> None:
    found = verdict(case)
    answers: dict[bytes, int] = {}
    for one in case.returned:
        answers[one.output_digest] = answers.get(one.output_digest, 0) + 1
    if isinstance(found, Accept):
        members = {one.attempt_id for one in found.group.members}
        assert len(members) >= case.agreement_needed
        assert len({one.output_digest for one in found.group.members}) == 1
        assert len(members) == max(answers.values())
        others = {one.attempt_id for one in (*found.rejected, *found.unjudged)}
        assert members | others == {one.attempt_id for one in case.returned}
        assert not members & others
        return
    assert max(answers.values(), default=0) < case.agreement_needed
    if isinstance(found, Wait):
        assert case.live_count + found.wanted > 0, "an undecided task must have something to wait for"
        assert case.attempt_count + found.wanted <= max(case.bounds.attempts_max, case.attempt_count)


@given(standings, st.randoms(use_true_random=False))
def test_verdicts_do_not_depend_on_the_order_of_results(case: TaskStanding, chance: object) -> None:
    reordered = TaskStanding(
        agreement_needed=case.agreement_needed,
        returned=tuple(reversed(case.returned)),
        live_count=case.live_count,
        attempt_count=case.attempt_count,
        failure_count=case.failure_count,
        program_failed_owners=case.program_failed_owners,
        bounds=case.bounds,
    )
    assert verdict(reordered) == verdict(case)


# --- the audit rule -----------------------------------------------------------------------------

RULE = HistoryAuditRule()


def test_newcomers_are_always_audited() -> None:
    assert RULE.probability(epsilon=1e-2, work_uwu=1, clean_uwu=0) == 1.0


@pytest.mark.parametrize(
    ("epsilon", "clean_units", "expected"),
    [(1e-3, 200, 1 / 2), (1e-3, 18_000, 200 / 18_200), (1e-2, 20, 1 / 2)],
)
def test_history_makes_audits_rare(epsilon: float, clean_units: int, expected: float) -> None:
    unit_uwu = 5_000_000
    p = RULE.probability(epsilon=epsilon, work_uwu=unit_uwu, clean_uwu=clean_units * unit_uwu)
    assert p == pytest.approx(expected)


@given(
    epsilon=st.sampled_from([level.epsilon for level in LEVELS.values() if level.epsilon is not None]),
    work_uwu=st.integers(1, 10**9),
    clean_uwu=st.integers(0, 10**15),
    share=st.floats(0.01, 1),
)
def test_the_audit_probability_keeps_the_promise(
    epsilon: float, work_uwu: int, clean_uwu: int, share: float
) -> None:
    """The step of the proof: what a wrong unit is expected to win is not more than what it risks."""
    rule = HistoryAuditRule(assumed_faulty_share=share)
    p = rule.probability(epsilon=epsilon, work_uwu=work_uwu, clean_uwu=clean_uwu)
    assert 0 < p <= 1
    k = max(1.0, share / epsilon)
    # Accepted with 1 - p: gains work + work / (k - 1); caught with p: loses clean / (k - 1).
    gained, lost = (1 - p) * work_uwu * k, p * clean_uwu
    assert gained <= lost * (1 + 1e-6) + 1e-6
    stricter = rule.probability(epsilon=epsilon / 10, work_uwu=work_uwu, clean_uwu=clean_uwu)
    assert stricter >= p
    assert rule.probability(epsilon=epsilon, work_uwu=work_uwu, clean_uwu=clean_uwu + work_uwu) <= p


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_an_assumed_share_is_above_nothing_and_at_most_all(share: float) -> None:
    with pytest.raises(PoolError) as refusal:
        HistoryAuditRule(assumed_faulty_share=share)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENT


def test_levels_mean_what_the_wire_says() -> None:
    targets = {level: terms.epsilon for level, terms in LEVELS.items()}
    assert targets == {
        VerificationLevel.SPOT: 1e-2,
        VerificationLevel.STANDARD: 1e-3,
        VerificationLevel.CAREFUL: 1e-4,
        VerificationLevel.STRICT: 1e-6,
        VerificationLevel.FULL: None,
        VerificationLevel.NONE: None,
    }
    assert {level for level, terms in LEVELS.items() if terms.quorum == 2} == {VerificationLevel.FULL}
    assert {level for level, terms in LEVELS.items() if not terms.builds_trust} == {VerificationLevel.NONE}


# --- trust and quarantine -----------------------------------------------------------------------


def test_history_grows_by_work_and_starts_again_after_a_failed_check() -> None:
    record = TrustRecord().accepted(5).accepted(7)
    assert (record.clean_uwu, record.accepted_attempts, record.rejected_attempts) == (12, 2, 0)
    burned = record.rejected()
    assert (burned.clean_uwu, burned.accepted_attempts, burned.rejected_attempts) == (0, 2, 1)


def test_histories_of_kinds_and_levels_are_apart() -> None:
    names = {trust_class(kind, level) for kind in ("map", "step") for level in VerificationLevel}
    assert len(names) == 2 * len(VerificationLevel)


@pytest.mark.parametrize(("rejections", "quarantined"), [(0, False), (1, False), (2, True), (3, True)])
def test_quarantine_falls_at_the_limit(rejections: int, *, quarantined: bool) -> None:
    reason = QuarantineRule(rejections_max=2).reason(rejections)
    assert reason == (QuarantineReason.WRONG_RESULT if quarantined else None)


def test_a_limit_of_no_rejections_is_refused() -> None:
    with pytest.raises(PoolError):
        QuarantineRule(rejections_max=0)


@pytest.mark.parametrize(
    ("wish", "failures_max"), [(0, ERRORS_PER_TASK_MAX), (1, 1), (7, 7), (10**6, ATTEMPTS_PER_TASK_MAX)]
)
def test_a_job_may_ask_for_fewer_failures_but_not_beyond_the_pools_bound(
    wish: int, failures_max: int
) -> None:
    assert retry_bounds(wish) == RetryBounds(failures_max=failures_max, attempts_max=ATTEMPTS_PER_TASK_MAX)
