"""Claims of a prefix: what a stopped step task says of itself, what others say of it, when it is paid.

A car that is stopped after i whole units hands in no result: it commits to its i states. The claim waits
until others have computed the task. Then both sides show the digest of the state after unit i - 1, each under
the root that it signed: the claimant, and every other owner whose result was accepted (the witnesses). All
later states follow from this one, so one question settles the whole prefix.

- Equal to a witness's, and no witness of the claimant's numeric class contradicts: proved.
- Different from what enough owners show who would have convicted in an audit (`CONVICTING_OWNERS` of the
  claimant's class that show the same, or a trusted node of it): wrong. An accepted result proves only the
  last state of its vehicle; what it says of a state in between is its word alone, and nobody is convicted by
  one word. Other classes may differ in their bits, and convict nobody either.
- A digest that is not under the claimant's own root: wrong, since nobody else could have signed it.
- Otherwise unproved: unpaid, without blame.

A prefix is never history. What the audit rule promises is a share of *accepted results*, and a prefix is
none: a car that always unplugs could build a history without giving the pool one result, and spend it on
wrong ones.

What a proved prefix cannot show is who computed it. Two cars in league compute a task once: one stops before
the end, the other "goes on" and hands in the whole. So prefixes are bounded: `CLAIMS_PER_TASK_MAX` on a task,
one per owner, none of an owner who is judged by a result on that task, and over a vehicle's life no more than
one part in `PREFIX_SHARE_DIVISOR` of the work in its histories. Only work that the pool may have checked is
in those: a buyer in league could make any amount of other results. A newcomer's prefix waits until it has
made that room; a car that joins again and again never does. And where the accepted result was not checked
itself, the prefix waits until it is final.

Not decided here: how long anybody waits, whose money it is (`app.prefix_claims`).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, unique

from pool_protocol.digests import DIGEST_BYTES
from pool_server.core.lifecycle import Lifecycle, from_each
from pool_server.core.verification.findings import Evidence

#: Claims on one task that are open or paid: more prefixes of the same states are worth nothing to anybody.
CLAIMS_PER_TASK_MAX = 2
#: Open claims of one vehicle: it is stopped in one task at a time.
CLAIMS_PER_VEHICLE_MAX = 8
#: Paid prefixes are at most this part of a vehicle's clean work: one task stopped in five loses nothing, and
#: two cars in league gain a quarter at most.
PREFIX_SHARE_DIVISOR = 4
#: Owners that must show the same digest to convict: as many as in an audit.
CONVICTING_OWNERS = 2
#: An accepted result of this evidence was checked: what agrees with it is paid at once.
CHECKED = frozenset({Evidence.AUDITED, Evidence.AGREEMENT, Evidence.TRUSTED_NODE, Evidence.CERTIFICATE})


@unique
class PrefixState(StrEnum):
    """Where a claim of a prefix is."""

    WAITING = "waiting"
    ASKING = "asking"
    STANDING = "standing"
    PAID = "paid"
    WRONG = "wrong"
    UNPAID = "unpaid"


_OPEN = (PrefixState.WAITING, PrefixState.ASKING, PrefixState.STANDING)
OPEN_CLAIMS = frozenset(_OPEN)

PREFIX_LIFECYCLE: Lifecycle[PrefixState] = Lifecycle(
    name="prefix claim",
    initial=PrefixState.WAITING,
    transitions={
        **from_each(
            (PrefixState.WAITING, PrefixState.STANDING),
            PrefixState.ASKING,
            "its task is accepted, and not all have shown their digest of its last unit",
        ),
        **from_each(
            (PrefixState.WAITING, PrefixState.ASKING),
            PrefixState.STANDING,
            "it is proved, and waits until it may be paid",
        ),
        **from_each(_OPEN, PrefixState.PAID, "it is proved, and there is room for it"),
        **from_each(_OPEN, PrefixState.WRONG, "enough others show another digest, or it is not as signed"),
        **from_each(
            _OPEN, PrefixState.UNPAID, "its task is not accepted, it is not proved, or its time is over"
        ),
    },
)


def is_prefix(*, unit_root: bytes, unit_count: int, units_of_task: int) -> bool:
    """Say whether a report without a result commits to a part of its task."""
    return len(unit_root) == DIGEST_BYTES and 1 <= unit_count < units_of_task


def may_claim(*, owner_id: str, owners_on_task: Sequence[str], open_of_vehicle: int) -> bool:
    """Say whether one more claim is within its bounds.

    Args:
        owner_id: Who would be paid.
        owners_on_task: Of the claims on its task that are open or paid.
        open_of_vehicle: Open claims of the vehicle.
    """
    within = len(owners_on_task) < CLAIMS_PER_TASK_MAX and open_of_vehicle < CLAIMS_PER_VEHICLE_MAX
    return within and owner_id not in owners_on_task


def room_uwu(*, clean_uwu: int, prefixes_uwu: int) -> int:
    """Return for how much more work a vehicle may be paid in prefixes, 0 or above.

    Args:
        clean_uwu: Of all its histories.
        prefixes_uwu: What it was paid for in prefixes so far.
    """
    return max(0, clean_uwu // PREFIX_SHARE_DIVISOR - prefixes_uwu)


# --- what the digests say -----------------------------------------------------------------------


@unique
class Answer(StrEnum):
    """How far one side's question has come."""

    NOT_ASKED = "not_asked"
    ASKED = "asked"
    SHOWN = "shown"
    NONE = "none"
    """Not in time, or it has it no more."""
    FALSE = "false"
    """What it showed is not under the root that it signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixSide:
    """What one side says of the state after the last unit of a prefix."""

    attempt_id: int
    owner_id: str
    numeric_class: str
    """Empty where unknown: a class of its own."""
    trusted: bool
    answer: Answer
    digest: bytes = b""
    """Where shown."""


@dataclass(frozen=True, slots=True)
class AskThese:
    """These attempts were not asked yet."""

    attempt_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AwaitAnswers:
    """Somebody may still answer."""


@dataclass(frozen=True, slots=True)
class Proved:
    """The prefix is right."""

    digest: bytes


@dataclass(frozen=True, slots=True)
class Refuted:
    """The prefix is wrong."""

    claimed_digest: bytes
    """Empty where what was shown was not what was signed."""
    witness_digest: bytes
    owners: int
    """Owners that show the witnesses' digest."""
    trusted: bool


@dataclass(frozen=True, slots=True)
class Unproved:
    """Nobody can tell."""

    reason: str


UNANSWERED = "UNANSWERED"
CONTRADICTED = "CONTRADICTED"
OTHER_CLASS = "OTHER_CLASS"

PrefixMove = AskThese | AwaitAnswers | Proved | Refuted | Unproved


def judge_prefix(claim: PrefixSide, witnesses: Sequence[PrefixSide]) -> PrefixMove:
    """Return what a claim needs next, or what the answers mean; see the module for the rule.

    Args:
        claim: The claimant's side.
        witnesses: Accepted results of the task by other owners.
    """
    sides = (claim, *witnesses)
    if claim.answer is Answer.FALSE:
        return Refuted(b"", b"", 0, False)
    if claim.answer is Answer.NONE or not witnesses:
        return Unproved(UNANSWERED)
    if new := tuple(side.attempt_id for side in sides if side.answer is Answer.NOT_ASKED):
        return AskThese(new)
    if claim.answer is not Answer.SHOWN:
        return AwaitAnswers()
    shown = [witness for witness in witnesses if witness.answer is Answer.SHOWN]
    against = [
        witness
        for witness in shown
        if witness.digest != claim.digest and witness.numeric_class == claim.numeric_class
    ]
    refuted = _refuted(claim, against)
    if any(witness.answer is Answer.ASKED for witness in witnesses):
        return refuted if refuted is not None and refuted.trusted else AwaitAnswers()
    if any(witness.digest == claim.digest for witness in shown):
        return Unproved(CONTRADICTED) if against else Proved(claim.digest)
    if refuted is not None:
        return refuted
    if not shown:
        return Unproved(UNANSWERED)
    return Unproved(CONTRADICTED if against else OTHER_CLASS)


def _refuted(claim: PrefixSide, against: Sequence[PrefixSide]) -> Refuted | None:
    owners: dict[bytes, set[str]] = defaultdict(set)
    for witness in against:
        owners[witness.digest].add(witness.owner_id)
    trusted = {witness.digest for witness in against if witness.trusted}
    ranked = sorted(owners, key=lambda digest: (digest not in trusted, -len(owners[digest]), digest))
    for digest in ranked[:1]:
        if digest in trusted or len(owners[digest]) >= CONVICTING_OWNERS:
            return Refuted(claim.digest, digest, len(owners[digest]), digest in trusted)
    return None
