"""What goes to the worker and what comes back: plain values between session and runner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Protocol

from car_agent.core.energy import AttemptEnergy
from pool_protocol.program.manifest import ProgramManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptWork:
    """One attempt, with everything that it needs here and verified."""

    lease_id: str
    attempt_id: int
    inputs: bytes
    """safetensors; for step programs the names of the initial state start with "state/"."""
    steps: int
    unit_steps: int
    first_unit: int = 0
    """Units that are made already: of a state that the pool asks for after another one."""
    start: bytes = b""
    """safetensors: the state after those, in the place of the initial one."""
    work_uwu: int = 0
    """Metered work, as the lease says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseWork:
    """The attempts of a lease that are still to be made, of one admitted program."""

    lease_id: str
    program_sha256: str
    artifact: bytes
    manifest_json: bytes
    manifest: ProgramManifest
    constants_sha256: str
    """Names the constants in the worker's cache; empty when there are none."""
    constants: bytes
    attempts: Sequence[AttemptWork]
    expires_at_us: int


@unique
class Outcome(StrEnum):
    """How an attempt ended in this vehicle."""

    COMPLETED = "completed"
    PROGRAM_FAILED = "program_failed"
    WORKER_FAILED = "worker_failed"
    ABANDONED = "abandoned"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptOutcome:
    """How one attempt ended."""

    lease_id: str
    attempt_id: int
    outcome: Outcome
    outputs: bytes = b""
    """safetensors, when completed."""
    output_digest: bytes = b""
    unit_root: bytes = b""
    """Step programs: RFC 9162 root over the digests of the state after each unit; when completed."""
    unit_count: int = 0
    """Whole units: all of them when completed, fewer when it was stopped."""
    unit_digests: tuple[bytes, ...] = ()
    """The leaves of that tree, kept for the pool's questions."""
    run_time_us: int = 0
    reason: str = ""
    detail: str = ""
    work_uwu: int = 0
    """Metered work that it brought; 0 when it brought none."""
    energy: AttemptEnergy | None = None
    """What it took; None when it never ran."""


class ProbeDesk(Protocol):
    """Who decides about the numeric probe. Called on the event loop; must not block for long."""

    def wants(self, jaxlib_version: str) -> bool:
        """Say whether a worker that just came up should run the probe before anything else."""
        ...

    def lost(self, *, killed: bool) -> None:
        """The worker that should run it ended, killed or by itself."""
        ...

    def took(self, jaxlib_version: str, families: Mapping[str, bytes]) -> None:
        """Take the digests that the worker found, by family; none when it could not."""
        ...
