"""A vehicle's story: every finding has its sentence, in the order of time."""

from dataclasses import replace

import pytest

from pool_server.core.verification.findings import FindingKind, FindingOutcome
from pool_server.core.verification.story import StoryFacts, StoryFinding, tell

WRONG = StoryFinding(
    kind=FindingKind.AUDIT,
    finding=FindingOutcome.WRONG,
    job_id=3,
    task_index=57,
    claimed_digest=b"\xab" * 32,
    accepted_digest=b"\xcd" * 32,
    agreeing_owners=2,
    trusted_node=False,
    unit_index=-1,
    found_at_us=20,
)
HONEST = StoryFacts(
    label="Blue car",
    enrolled_at_us=10,
    verified_attempts=312,
    rejected_attempts=0,
    state="available",
    quarantine_reason="",
    trusted=False,
    findings=(),
    moves=((11, "enrolled", "available", "the vehicle asks for work for the first time"),),
    rechecking_count=0,
    upheld_count=0,
    wrong_count=0,
    questioned_micros=0,
    clawed_back_micros=0,
)


def told(facts: StoryFacts) -> list[str]:
    return tell(facts, time=lambda at_us: f"at {at_us}", money=lambda micros: f"{micros} micros")


def sentence_of(finding: StoryFinding) -> str:
    return told(replace(HONEST, findings=(finding,)))[1]


def test_an_honest_vehicle_has_a_short_story() -> None:
    assert told(HONEST) == [
        "at 10: Blue car was enrolled.",
        "Of its results 312 were verified and 0 rejected.",
    ]


def test_a_caught_sleepers_story_goes_from_the_check_to_the_money() -> None:
    facts = replace(
        HONEST,
        rejected_attempts=4,
        state="quarantined",
        quarantine_reason="WRONG_RESULT",
        findings=(WRONG,),
        moves=((21, "leased", "quarantined", "WRONG_RESULT"),),
        rechecking_count=2,
        upheld_count=38,
        wrong_count=3,
        questioned_micros=50,
        clawed_back_micros=120,
    )
    assert told(facts) == [
        "at 10: Blue car was enrolled.",
        (
            "at 20: A secret check had task 57 of job_3 computed again, and its result is wrong: "
            "it claimed abababab..., 2 other owners agree on cdcdcdcd...."
        ),
        (
            "at 21: It was put in quarantine (WRONG_RESULT), and its history of clean work starts again at "
            "nothing."
        ),
        "Of its results 312 were verified and 4 rejected.",
        (
            "43 earlier results that were not final were looked at again: 38 right, 3 wrong, 2 still being "
            "computed."
        ),
        "50 micros are set aside until they are.",
        "120 micros were taken back for what proved wrong; nothing else was touched.",
        "It is in quarantine (WRONG_RESULT) and gets no work.",
    ]


@pytest.mark.parametrize("kind", list(FindingKind))
@pytest.mark.parametrize("finding", list(FindingOutcome))
def test_every_finding_has_a_sentence_that_names_the_task(kind: FindingKind, finding: FindingOutcome) -> None:
    facts = replace(HONEST, findings=(replace(WRONG, kind=kind, finding=finding),))
    sentences = [line for line in told(facts) if "task 57 of job_3" in line]
    # What a look-back found right is told in sum.
    is_summed_up = kind is FindingKind.LOOK_BACK and finding is not FindingOutcome.WRONG
    assert len(sentences) == (0 if is_summed_up else 1)


def test_who_agreed_and_where_results_part_is_said() -> None:
    assert "another owner's vehicle found cdcdcdcd" in sentence_of(replace(WRONG, agreeing_owners=1))
    assert "the pool's own node found cdcdcdcd" in sentence_of(replace(WRONG, trusted_node=True))
    dispute = sentence_of(replace(WRONG, kind=FindingKind.DISPUTE, unit_index=41))
    assert dispute.endswith("; they part in unit 41.")
    assert "cdcd" not in sentence_of(replace(WRONG, accepted_digest=b""))
    assert "it claimed nothing" in sentence_of(replace(WRONG, claimed_digest=b""))


def test_being_freed_retired_and_trusted_is_told() -> None:
    moves = ((12, "quarantined", "available", "an operator frees it"), (13, "available", "retired", "owner"))
    lines = told(replace(HONEST, moves=moves, trusted=True))
    assert "at 12: An operator freed it." in lines
    assert "at 13: Its owner retired it." in lines
    assert "It is the operator's own: its results are the pool's word." in lines


def test_a_look_back_that_found_nothing_took_no_money() -> None:
    lines = told(replace(HONEST, upheld_count=1))
    assert (
        "1 earlier result that was not final was looked at again: 1 right, 0 wrong, 0 still being computed."
        in lines
    )
    assert lines[-1] == "No money was taken back."
