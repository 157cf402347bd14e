"""What the use cases need of a store about numeric classes: `uow.classes`.

Manners as in `ports.work`. The class "" is the unknown one and never among the answers.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from pool_server.core.trust import TrustRecord
from pool_server.core.verification.classes import Ask, ClassFault
from pool_server.core.verification.findings import FindingKind


class ClassAskRow(NamedTuple):
    """An undecided task that asks for an opinion of some classes."""

    task_id: int
    ask: Ask
    until_us: int
    """From then on everybody may come."""


class FaultFindingRow(NamedTuple):
    """A result that was wrong together with its class."""

    attempt_id: int
    task_id: int
    job_id: int
    task_index: int
    vehicle_id: str
    owner_id: str
    claimed_digest: bytes
    accepted_digest: bytes
    agreeing_owners: int
    trusted_node: bool
    numeric_class: str
    program_sha256: str
    kind: FindingKind = FindingKind.AUDIT
    clawed_back_micros: int = 0


class ClassFigures(NamedTuple):
    """A class in figures, for operators."""

    numeric_class: str
    """Empty for vehicles without a probe."""
    vehicle_count: int
    agreed_within: int
    agreed_across: int
    disagreed_across: int


class VehicleClass(NamedTuple):
    """What a vehicle's row says of its class."""

    numeric_class: str
    trusted: bool


class ClassGuest(NamedTuple):
    """A vehicle of a known numeric class, as it asks for tasks."""

    numeric_class: str
    trusted: bool
    unlike: tuple[str, ...]
    """Classes whose results it cannot be compared with on the job's program."""
    now_us: int
    ended_after_us: int
    """Results of such classes keep it away that are not older than this."""


class ClassRepository(Protocol):
    """Numeric classes: `uow.classes`."""

    def of_vehicle(self, vehicle_id: str) -> VehicleClass:
        """A vehicle's class; unknown for a vehicle that is not there."""
        ...

    def of_attempts(self, attempt_ids: Sequence[int]) -> dict[int, VehicleClass]:
        """The classes under which attempts were leased; the vehicle's own where none was known then."""
        ...

    def set_class(self, vehicle_id: str, *, numeric_class: str, probe_json: str) -> None:
        """Note a vehicle's class and what it follows from."""
        ...

    def histories(self, vehicle_id: str) -> dict[str, TrustRecord]:
        """All histories of a vehicle, by trust class."""
        ...

    def probe_json(self, numeric_class: str) -> str | None:
        """What a class follows from; None when no vehicle has it any more."""
        ...

    def owners(self, *, at_most: int) -> dict[str, int]:
        """Owners with a vehicle at work by class, the unknown one included, each counted to `at_most`."""
        ...

    def has_other(self, numeric_class: str, *, owner_id: str, but: Collection[str] = ()) -> bool:
        """Whether another owner has a vehicle at work of another class, or of none that is known.

        Classes in `but` do not count.
        """
        ...

    # --- asks

    def asks(self, task_ids: Sequence[int]) -> dict[int, ClassAskRow]:
        """What tasks ask for."""
        ...

    def put_asks(self, rows: Sequence[ClassAskRow]) -> None:
        """Write what tasks ask for, over what they asked before."""
        ...

    def drop_asks(self, task_ids: Sequence[int]) -> None:
        """Forget what tasks asked for."""
        ...

    def lapsed(self, *, now_us: int, limit: int) -> list[int]:
        """Tasks whose ask has ended, the oldest first."""
        ...

    def end_asks(self, numeric_class: str, *, now_us: int) -> None:
        """Let every ask that names a class end now."""
        ...

    def job_asks(self, job_id: int) -> dict[Ask, int]:
        """How many ready tasks of a job ask for what."""
        ...

    # --- faults

    def faulty_programs(self, numeric_class: str) -> frozenset[str]:
        """Programs that a class is known to be wrong on."""
        ...

    def faulty_classes(self, program_sha256: str) -> frozenset[str]:
        """Classes that are known to be wrong on a program."""
        ...

    def add_fault_findings(self, rows: Sequence[FaultFindingRow], *, now_us: int) -> Mapping[str, int]:
        """Write findings and bring the class faults up to date; return the new ones by class."""
        ...

    def faults(self) -> list[ClassFault]:
        """All class faults, newest first."""
        ...

    def figures(self) -> list[ClassFigures]:
        """All classes in figures, the largest first; reads every attempt that was checked."""
        ...
