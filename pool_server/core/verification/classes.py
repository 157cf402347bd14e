"""Numeric classes in verdicts: whose results may be compared, who may outvote whom, what is a class's fault.

A class is what probes found (`pool_protocol.numeric`): vehicles of one class return equal bits. Under `exact`
a difference between classes that are not comparable on a program says nothing about either vehicle. Under a
comparator with a tolerance all classes must agree; where one does not, it may be one vehicle or all of its
kind. So nobody is called a fraud before somebody of the same class has contradicted: the pool asks for such a
*witness*, and where the witness repeats the wrong answer the fault is the class's.

Vehicles without a probe (class "") are compared with everybody, as if there were no classes. What a class
says of itself is a claim; docs/explanation/numeric-classes.md says what that leaves open.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, unique

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.comparison import AgreementGroup, Candidate
from pool_server.core.verification.verdict import Accept

#: Owners whose equal wrong answers make a class fault.
CLASS_FAULT_OWNERS = 2
UNKNOWN_CLASS = ""


@unique
class Scope(StrEnum):
    """Which vehicles a task asks for an opinion."""

    ACROSS = "across"
    """Any but those of the class named."""
    WITHIN = "within"
    """Those of the class named: a witness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A task's next opinion shall come from these vehicles."""

    scope: Scope
    numeric_class: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassView:
    """What the pool knows of classes when it judges one task."""

    exact: bool
    """Whether the job compares bit by bit."""
    class_of: Mapping[int, str]
    """Class by attempt; "" is unknown."""
    trusted: frozenset[int] = frozenset()
    """Attempts of the pool's trusted nodes."""
    comparable: Callable[[str, str], bool] = lambda one, other: one == other
    """Whether two known classes must return equal bits for this program."""
    owners: Mapping[str, int] = field(default_factory=dict)
    """Owners with a vehicle at work, by class; the unknown one included."""
    faulty_share: float = 0.2
    """The share of owners that may be in league: a class no larger than that may be theirs altogether."""
    faulty: frozenset[str] = frozenset()
    """Classes that are known to be wrong on this program."""
    unconfirmed: frozenset[str] = frozenset()
    """Classes that no other has confirmed on this program yet, though another could."""
    asked: Ask | None = None
    """What the task asks for now."""
    lapsed: bool = False
    """Whether nobody came in time for what was asked."""
    per_unit: bool = False
    """Whether classes that are not comparable may rightly come to different ends: a step program, of which
    results are held against each other unit by unit before."""
    refuted: frozenset[int] = frozenset()
    """Attempts of which a unit was found outside of the tolerance: they decide nothing, whoever agrees."""

    def kin(self, one: str, other: str) -> bool:
        """Say whether results of two classes are evidence against each other, bit by bit or at all."""
        if UNKNOWN_CLASS in {one, other} or one == other:
            return True
        return (self.exact or self.per_unit) and self.comparable(one, other)

    def is_refuted(self, group: AgreementGroup) -> bool:
        """Say whether a group stands for a result that was refuted unit by unit."""
        return any(member.attempt_id in self.refuted for member in group.members)

    def classes(self, group: AgreementGroup) -> set[str]:
        """Return the classes in a group, the unknown one included."""
        return {self.class_of.get(member.attempt_id, UNKNOWN_CLASS) for member in group.members}

    def is_largest(self, numeric_class: str) -> bool:
        """Say whether no other class has more owners at work."""
        mine = self.owners.get(numeric_class, 0)
        return all(count <= mine for name, count in self.owners.items() if name != UNKNOWN_CLASS)

    def needs_another(self, numeric_class: str) -> bool:
        """Say whether a class that agrees with itself must still be confirmed by another."""
        asked = self.asked == Ask(scope=Scope.ACROSS, numeric_class=numeric_class)
        if asked and self.lapsed:
            return not self.is_largest(numeric_class)
        if self.exact:
            return not may_check_itself(
                numeric_class, self.owners, alike=self.comparable, faulty_share=self.faulty_share
            )
        return asked or numeric_class in self.unconfirmed

    def weight(self, classes: set[str]) -> int:
        """Return the owners at work in these classes."""
        return sum(self.owners.get(name, 0) for name in classes)


def may_check_itself(
    numeric_class: str,
    owners: Mapping[str, int],
    *,
    alike: Callable[[str, str], bool],
    faulty_share: float,
) -> bool:
    """Say whether a class is large enough that its vehicles may vouch for each other under `exact`.

    What a vehicle says of its class is a claim. If checks stayed within every class claimed, a few in league
    could claim one of their own and check each other. So a class vouches for itself only where it has two
    owners, and more of the owners at work than are assumed to be in league; or where there is no other.
    Classes that are comparable on the program at hand count as one.
    """
    everybody = sum(owners.values())
    mine = sum(
        count
        for name, count in owners.items()
        if name == numeric_class or (name != UNKNOWN_CLASS and alike(numeric_class, name))
    )
    return mine == everybody or (mine >= CLASS_FAULT_OWNERS and mine > faulty_share * everybody)


def entitled(group: AgreementGroup, groups: Sequence[AgreementGroup], view: ClassView) -> bool:
    """Say whether enough agreeing owners may decide a task, in the order of these rules.

    1. A group with a trusted node: yes. Refuted unit by unit: no. With a vehicle of unknown class: yes.
    2. All its classes are known to be wrong on this program: no. Nor do such classes contradict others.
    3. Contradicted by another class: only a group of several classes against one of a single class, or one
       whose classes have more owners at work than those of every rival. Refuted rivals do not count.
    4. Alone, of several classes: yes. Of one: where it was never confirmed on the program, or another class
       is asked: only the largest class, and only after none came in time. Under `exact` a class that may
       check itself suffices.
    """
    classes = view.classes(group)
    if any(member.attempt_id in view.trusted for member in group.members):
        return True
    if view.is_refuted(group):
        return False
    if UNKNOWN_CLASS in classes:
        return True
    if classes <= view.faulty:
        return False
    strange = [
        (other, _strange(view.classes(other) - view.faulty, classes, view))
        for other in groups
        if other is not group
    ]
    if any(names for _, names in strange):
        rivals = [names for other, names in strange if names and not view.is_refuted(other)]
        spans = len(classes) > 1 and all(len(rival) == 1 for rival in rivals)
        return spans or all(view.weight(classes) > view.weight(rival) for rival in rivals)
    if len(classes) > 1:
        return True
    [numeric_class] = classes
    return not view.needs_another(numeric_class)


def _strange(others: set[str], classes: set[str], view: ClassView) -> set[str]:
    """Return the known classes among `others` that are kin to none of `classes`."""
    return {name for name in others if not any(view.kin(name, mine) for mine in classes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """An accepted group's opponents, told apart."""

    rejected: tuple[Candidate, ...]
    """Contradicted by their own kind: wrong, and theirs to answer for."""
    unjudged: tuple[Candidate, ...]
    """Unpaid, no blame: between tolerances, or of a class that the others say nothing about."""
    faults: tuple[Candidate, ...]
    """Wrong together with their class: unpaid, no blame."""
    witness: str = ""
    """The class that must be heard first; nothing is decided while this is set."""


def weigh(verdict: Accept, groups: Sequence[AgreementGroup], view: ClassView) -> Weighed:
    """Tell apart what disagrees with an accepted group.

    Under `exact`, and for a step program: who is kin to nobody in the group is unjudged, unless a unit of it
    was refuted. Otherwise, for each that is wrong, in this
    order: the group holds one of its class, or one of unknown class: rejected. Its class is known to be wrong
    on this program, or another owner of its class gave the same answer: the class's fault. Another owner of
    its class gave another answer: rejected. Its class has other owners at work: a witness is asked, and where
    none came in time it is unjudged. Its class is its own alone: rejected.
    """
    known = view.classes(verdict.group)
    rejected: list[Candidate] = []
    unjudged = list(verdict.unjudged)
    faults: list[Candidate] = []
    witness = ""
    for candidate in verdict.rejected:
        name = view.class_of.get(candidate.attempt_id, UNKNOWN_CLASS)
        if any(view.kin(name, mine) for mine in known):
            rejected.append(candidate)
            continue
        if view.exact or (view.per_unit and candidate.attempt_id not in view.refuted):
            unjudged.append(candidate)
            continue
        fellows = _fellows(candidate, name, verdict.rejected, view)
        if name in view.faulty or any(_same_answer(candidate, fellow, groups) for fellow in fellows):
            faults.append(candidate)
        elif fellows or view.owners.get(name, 0) < CLASS_FAULT_OWNERS:
            rejected.append(candidate)
        elif view.lapsed and view.asked == Ask(scope=Scope.WITHIN, numeric_class=name):
            unjudged.append(candidate)
        else:
            witness = witness or name
    return Weighed(rejected=tuple(rejected), unjudged=tuple(unjudged), faults=tuple(faults), witness=witness)


def _fellows(candidate: Candidate, name: str, wrong: Sequence[Candidate], view: ClassView) -> list[Candidate]:
    return [
        other
        for other in wrong
        if other.owner_id != candidate.owner_id and view.class_of.get(other.attempt_id) == name
    ]


def _same_answer(one: Candidate, other: Candidate, groups: Sequence[AgreementGroup]) -> bool:
    return any(one in group.members and other in group.members for group in groups)


def next_ask(groups: Sequence[AgreementGroup], view: ClassView) -> Ask | None:
    """Return whose opinion helps a task on which classes contradict each other: not the smaller one's.

    None where nothing asks for a class: then everybody may come, as far as `exact` lets them.
    """
    classes = {name for group in groups for name in view.classes(group)} - {UNKNOWN_CLASS}
    if len(groups) > 1 and len(classes) > 1 and not view.exact:
        smallest = min(classes, key=lambda name: (view.owners.get(name, 0), name))
        return Ask(scope=Scope.ACROSS, numeric_class=smallest)
    if len(classes) == 1:
        [only] = classes
        ask = Ask(scope=Scope.ACROSS, numeric_class=only)
        if only in view.faulty or view.needs_another(only):
            return ask
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassAuditRule:
    """How often a class must be confirmed by another one: the audit rule, with the class as the identity."""

    assumed_faulty_share: float = 0.01
    """Share of work of (class, program) pairs that are wrong as a whole, above 0 and at most 1."""
    cross_class_share: float = 0.05
    """Share of audits that go to another class in any case, 0 to 1."""
    league_share: float = 0.2
    """Share of owners that may be in league, 0 to 1: see `may_check_itself`."""

    def __post_init__(self) -> None:
        shares = (self.cross_class_share, self.league_share)
        if not (0 < self.assumed_faulty_share <= 1 and all(0 <= share <= 1 for share in shares)):
            raise PoolError(ErrorCode.INVALID_ARGUMENT, "a share of the class rule is out of bounds")

    def probability(self, *, epsilon: float, work_uwu: int, clean_uwu: int) -> float:
        """Return how likely a result of a class must be confirmed by another class.

        Args:
            epsilon: The level's error target.
            work_uwu: Work of the attempt, micro-WU.
            clean_uwu: Work of the class on this program that was accepted since it last was wrong.
        """
        if clean_uwu <= 0:
            return 1.0
        weighted = max(1.0, self.assumed_faulty_share / epsilon) * work_uwu
        return weighted / (clean_uwu + weighted)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFault:
    """A class that is wrong on a program as a whole."""

    numeric_class: str
    program_sha256: str
    vehicle_count: int
    task_count: int
    found_at_us: int

    @property
    def summary(self) -> str:
        """What was seen and what the pool did, in a plain sentence."""
        vehicles = "1 vehicle" if self.vehicle_count == 1 else f"{self.vehicle_count} vehicles"
        tasks = "1 task" if self.task_count == 1 else f"{self.task_count} tasks"
        return (
            f"{vehicles} of class {self.numeric_class} gave wrong answers alike on {tasks} of program "
            f"{self.program_sha256[:12]}, contradicted by other classes: a fault of a driver, a library or a "
            "model, not fraud. Their results were not accepted and not paid, nobody was put in quarantine, "
            "and the class gets no more of this program."
        )
