"""What a committed command asks the shell to do next: a closed union of facts, in the past tense.

Use cases append them to the unit of work; the shell dispatches them after the commit and matches them to
`assert_never`. Losing one is harmless: every effect only wakes somebody who would look anyway.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgressed:
    """Tasks of a job were decided or the job changed its state: its watchers look again."""

    job_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkAvailable:
    """Tasks became ready: vehicles that wait for work may ask again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptsCancelled:
    """A vehicle should stop these attempts; they will not be paid from now on."""

    vehicle_id: str
    attempt_ids: tuple[int, ...]
    reason: str
    """Reason code: JOB_CANCELLED, TASK_DECIDED, DEADLINE_EXCEEDED, QUARANTINED, VEHICLE_RETIRED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VehicleQuarantined:
    """A vehicle gets no more leases until an operator frees it."""

    vehicle_id: str
    owner_id: str
    reason: str
    """Reason code, for example WRONG_RESULT, or the operator's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitQuestion:
    """A question about a state that an attempt has committed to."""

    query_id: int
    attempt_id: int
    unit_index: int
    want_state: bool
    """Whether the state is asked for, beside its digest."""
    expires_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitsAsked:
    """A vehicle is asked about committed states; questions not heard are sent again on its next stream."""

    vehicle_id: str
    questions: tuple[UnitQuestion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefereeWanted:
    """The referee should run something: the unit of a dispute, or a whole task."""

    dispute_id: int = 0
    task_id: int = 0


Effect = JobProgressed | WorkAvailable | AttemptsCancelled | VehicleQuarantined | UnitsAsked | RefereeWanted
