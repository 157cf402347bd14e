"""What is asked of the referee: one run of an admitted program on given arrays, on the pool's machine."""

from enum import StrEnum, unique
from typing import NamedTuple, Protocol


class RefereeOrder(NamedTuple):
    """One run."""

    program_sha256: str
    artifact: bytes
    manifest_json: bytes
    constants: bytes | None
    """safetensors; None for a program without constants."""
    inputs: bytes
    """safetensors; for a step program, names behind "state/" are the state it starts from."""
    steps: int = 0
    """Steps to make in all; 0 for a map program."""
    unit_steps: int = 0
    """Steps of one unit; 0 for a map program."""
    first_unit: int = 0
    """Index of the first unit that is run, as vehicles count them: it goes into the units' digests."""
    timeout_s: float = 60.0
    """How long the run may take, once the program is loaded."""


class RefereeAnswer(NamedTuple):
    """What came out."""

    outputs: bytes
    """safetensors."""
    output_digest: bytes
    unit_digests: tuple[bytes, ...]
    """Of the state after each unit, as a vehicle commits to them; empty for map programs."""
    run_time_us: int


@unique
class RefereeReason(StrEnum):
    """Why a run has no outputs."""

    PROGRAM = "PROGRAM"
    """It does not load, or fails by itself."""
    INPUT = "INPUT"
    """Inputs or constants do not fit it."""
    MEMORY = "MEMORY"
    """It wants more memory than it may use."""
    TIMEOUT = "TIMEOUT"
    """It was stopped at its deadline."""
    CRASH = "CRASH"
    """Its process died, or spoke nonsense."""
    BUSY = "BUSY"
    """Too many runs wait: nothing was tried."""


class RefereeError(Exception):
    """A run without outputs."""

    def __init__(self, reason: RefereeReason, detail: str) -> None:
        """Say what happened."""
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Referee(Protocol):
    """Runs programs, one at a time."""

    async def run(self, order: RefereeOrder) -> RefereeAnswer:
        """Run one order.

        Raises:
            RefereeError: there are no outputs.
        """
        ...

    async def numeric_class(self) -> str:
        """Return the numeric class of the machine it runs on; empty where unknown."""
        ...
