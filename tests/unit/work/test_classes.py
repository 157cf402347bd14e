"""The rules of numeric classes in verdicts, as tables, and the property that nobody honest is burned."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_protocol.digests import sha256
from pool_server.core.comparison import AgreementGroup, Candidate
from pool_server.core.verification.classes import (
    Ask,
    ClassAuditRule,
    ClassView,
    Scope,
    Weighed,
    entitled,
    next_ask,
    weigh,
)
from pool_server.core.verification.verdict import Accept


def groups_of(*answers: tuple[str, str]) -> tuple[list[AgreementGroup], dict[int, str]]:
    """Groups of results `(class, answer)`, each of an owner of its own, in order."""
    candidates = [
        Candidate(attempt_id=number, owner_id=f"owner_{number}", output_digest=sha256(answer.encode()))
        for number, (_, answer) in enumerate(answers, start=1)
    ]
    classes = {number: name for number, (name, _) in enumerate(answers, start=1)}
    groups = [
        AgreementGroup(tuple(same))
        for _, same in itertools.groupby(
            sorted(candidates, key=lambda c: (c.output_digest, c.attempt_id)), key=lambda c: c.output_digest
        )
    ]
    return sorted(groups, key=lambda group: group.anchor.attempt_id), classes


def view_of(classes: dict[int, str], **more: Any) -> ClassView:
    fields = {"exact": False, "owners": {"a": 90, "b": 40, "f": 10}, **more}
    return ClassView(class_of=classes, **fields)


ACROSS_A = Ask(scope=Scope.ACROSS, numeric_class="a")
ACROSS_F = Ask(scope=Scope.ACROSS, numeric_class="f")
WITHIN_F = Ask(scope=Scope.WITHIN, numeric_class="f")


@pytest.mark.parametrize(
    ("answers", "more", "expected"),
    [
        ([("a", "1"), ("a", "1")], {}, True),
        ([("", "1"), ("f", "1"), ("a", "2")], {}, True),
        ([("f", "1"), ("f", "1")], {"trusted": frozenset({2}), "faulty": frozenset({"f"})}, True),
        ([("f", "1"), ("f", "1"), ("a", "2")], {}, False),
        ([("a", "1"), ("a", "1"), ("f", "2")], {}, True),
        ([("b", "1"), ("f", "1"), ("a", "2")], {}, True),
        ([("a", "1"), ("a", "1"), ("b", "2"), ("f", "2")], {}, True),
        ([("f", "1"), ("f", "1")], {"faulty": frozenset({"f"})}, False),
        ([("f", "1"), ("a", "1")], {"faulty": frozenset({"f"})}, True),
        # A class that is known to be wrong neither decides nor contradicts, however many it is.
        ([("a", "1"), ("a", "1"), ("b", "2")], {"faulty": frozenset({"a"})}, False),
        ([("b", "1"), ("b", "1"), ("a", "2"), ("a", "2")], {"faulty": frozenset({"a"})}, True),
        ([("b", "1"), ("b", "1"), ("a", "2"), ("f", "3")], {"faulty": frozenset({"f"})}, False),
        ([("a", "1"), ("f", "1")], {"faulty": frozenset({"a", "f"})}, False),
        ([("a", "1"), ("a", "1")], {"unconfirmed": frozenset({"a"})}, False),
        ([("a", "1"), ("a", "1")], {"asked": ACROSS_A}, False),
        ([("a", "1"), ("a", "1")], {"asked": ACROSS_A, "lapsed": True}, True),
        ([("f", "1"), ("f", "1")], {"asked": ACROSS_F, "lapsed": True}, False),
        ([("b", "1"), ("b", "1")], {"exact": True, "unconfirmed": frozenset({"b"})}, True),
        # Ten of 140 owners may all be in league.
        ([("f", "1"), ("f", "1")], {"exact": True}, False),
        ([("f", "1"), ("f", "1")], {"exact": True, "owners": {"f": 10}}, True),
        ([("f", "1"), ("f", "1")], {"exact": True, "owners": {"f": 10, "": 90}}, False),
        ([("f", "1"), ("f", "1")], {"exact": True, "comparable": lambda *_: True}, True),
        ([("f", "1"), ("f", "1")], {"exact": True, "faulty": frozenset({"f"})}, False),
        ([("f", "1"), ("f", "1"), ("a", "2")], {"exact": True}, False),
        ([("f", "1"), ("f", "1"), ("a", "2")], {"exact": True, "comparable": lambda *_: True}, True),
    ],
)
def test_who_may_decide(answers: list[tuple[str, str]], more: dict[str, object], *, expected: bool) -> None:
    groups, classes = groups_of(*answers)
    assert entitled(groups[0], groups, view_of(classes, **more)) is expected


def told(answers: list[tuple[str, str]], **more: object) -> Weighed:
    """What becomes of the opponents of the first group."""
    groups, classes = groups_of(*answers)
    wrong = tuple(candidate for group in groups[1:] for candidate in group.members)
    return weigh(Accept(groups[0], wrong, ()), groups, view_of(classes, **more))


A2 = [("a", "1"), ("a", "1")]


@pytest.mark.parametrize(
    ("answers", "more", "expected"),
    [
        # Its own kind contradicts it.
        ([*A2, ("a", "2")], {}, (1, 0, 0, "")),
        ([*A2, ("", "2")], {}, (1, 0, 0, "")),
        ([("a", "1"), ("f", "1"), ("f", "2")], {}, (1, 0, 0, "")),
        # Another class only: a witness, then its answer.
        ([*A2, ("f", "2")], {}, (0, 0, 0, "f")),
        ([*A2, ("f", "2"), ("f", "2")], {}, (0, 0, 2, "")),
        ([*A2, ("f", "2"), ("f", "3")], {}, (2, 0, 0, "")),
        ([*A2, ("f", "2")], {"faulty": frozenset({"f"})}, (0, 0, 1, "")),
        ([*A2, ("f", "2")], {"asked": WITHIN_F, "lapsed": True}, (0, 1, 0, "")),
        # A class of one owner has no other of its kind to appeal to.
        ([*A2, ("own", "2")], {}, (1, 0, 0, "")),
        # Bit by bit, what cannot be compared says nothing.
        ([*A2, ("b", "2")], {"exact": True}, (0, 1, 0, "")),
        ([*A2, ("b", "2")], {"exact": True, "comparable": lambda *_: True}, (1, 0, 0, "")),
        ([*A2, ("a", "2")], {"exact": True}, (1, 0, 0, "")),
    ],
)
def test_what_becomes_of_opponents(
    answers: list[tuple[str, str]], more: dict[str, object], expected: tuple[int, int, int, str]
) -> None:
    found = told(answers, **more)
    assert (len(found.rejected), len(found.unjudged), len(found.faults), found.witness) == expected


@given(
    classes=st.lists(st.sampled_from(["a", "b", "f"]), min_size=2, max_size=8),
    liars=st.sets(st.integers(min_value=0, max_value=7), max_size=3),
    anchor=st.integers(min_value=0, max_value=7),
)
def test_no_honest_vehicle_is_called_a_fraud_for_its_class(
    classes: list[str], liars: set[int], anchor: int
) -> None:
    # Each class rounds in its own way, under `exact`; liars return something else.
    answers = [(name, f"lie {i}" if i in liars else name) for i, name in enumerate(classes)]
    groups, class_of = groups_of(*answers)
    accepted = groups[anchor % len(groups)]
    if any(member.attempt_id - 1 in liars for member in accepted.members):
        return
    wrong = tuple(c for group in groups if group is not accepted for c in group.members)
    found = weigh(Accept(accepted, wrong, ()), groups, view_of(class_of, exact=True))
    assert all(candidate.attempt_id - 1 in liars for candidate in found.rejected)
    assert not found.faults
    assert len(found.rejected) + len(found.unjudged) == len(wrong)


@given(
    honest=st.lists(st.sampled_from(["a", "b"]), min_size=2, max_size=4),
    faulty=st.integers(min_value=1, max_value=4),
    known=st.booleans(),
)
def test_no_vehicle_of_a_faulty_class_is_called_a_fraud(
    honest: list[str], faulty: int, *, known: bool
) -> None:
    answers = [(name, "right") for name in honest] + [("f", "off")] * faulty
    more = {"faulty": frozenset({"f"})} if known else {}
    assert told(answers, **more).rejected == ()


def test_whose_opinion_helps() -> None:
    groups, classes = groups_of(("a", "1"), ("f", "2"))
    assert next_ask(groups, view_of(classes)) == ACROSS_F, "not the smaller class's"
    groups, classes = groups_of(("a", "1"))
    assert next_ask(groups, view_of(classes)) is None
    assert next_ask(groups, view_of(classes, unconfirmed=frozenset({"a"}))) == ACROSS_A
    assert next_ask(groups, view_of(classes, asked=ACROSS_A)) == ACROSS_A
    assert next_ask(groups, view_of(classes, asked=ACROSS_A, lapsed=True)) is None
    assert next_ask(groups, view_of(classes, exact=True, asked=ACROSS_A)) is None


def test_a_class_is_confirmed_as_a_vehicle_is_audited() -> None:
    rule = ClassAuditRule(assumed_faulty_share=0.01)
    assert rule.probability(epsilon=1e-4, work_uwu=10, clean_uwu=0) == 1.0
    assert rule.probability(epsilon=1e-4, work_uwu=10, clean_uwu=1_000) == pytest.approx(0.5)


# --- step programs ------------------------------------------------------------------------------


def test_other_ends_of_step_programs_say_nothing_between_classes() -> None:
    groups, classes = groups_of(("a", "1"), ("a", "1"), ("b", "2"), ("a", "3"))
    view = view_of(classes, per_unit=True)
    weighed = weigh(Accept(groups[0], (*groups[1].members, *groups[2].members), ()), groups, view)
    assert weighed == Weighed(rejected=groups[2].members, unjudged=groups[1].members, faults=())
    assert weigh(Accept(groups[0], groups[1].members, ()), groups, view_of(classes)).witness == "b"


def test_a_refuted_unit_is_evidence_that_its_class_must_answer() -> None:
    groups, classes = groups_of(("a", "1"), ("b", "2"), ("b", "2"))
    one = view_of(classes, per_unit=True, refuted=frozenset({2}))
    alone = [groups[0], AgreementGroup(groups[1].members[:1])]
    assert weigh(Accept(alone[0], alone[1].members, ()), alone, one).witness == "b"
    both = view_of(classes, per_unit=True, refuted=frozenset({2, 3}))
    assert weigh(Accept(groups[0], groups[1].members, ()), groups, both).faults == groups[1].members


def test_what_was_refuted_decides_nothing_and_outvotes_nobody() -> None:
    groups, classes = groups_of(("f", "1"), ("a", "2"), ("a", "2"))
    view = view_of(classes, per_unit=True, refuted=frozenset({2, 3}), unconfirmed=frozenset({"f"}))
    assert not entitled(groups[1], groups, view)
    assert entitled(groups[0], groups, view)
    assert not entitled(groups[0], groups, view_of(classes, per_unit=True))
    # Not for being of an unknown class either; a trusted node's word stands.
    unknown = view_of({1: "f", 2: "", 3: ""}, per_unit=True, refuted=frozenset({2, 3}))
    assert not entitled(groups[1], groups, unknown)
    trusted = view_of(classes, per_unit=True, refuted=frozenset({2, 3}), trusted=frozenset({3}))
    assert entitled(groups[1], groups, trusted)
