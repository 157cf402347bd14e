"""What is asked of the referee's child, and what it answers: plain values."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from pool_protocol.program.manifest import ProgramManifest

Arrays = Mapping[str, NDArray[Any]]
#: Pieces of a request to the child, in order, each behind its length.
PIECES = ("head", "manifest", "artifact", "state", "inputs", "constants")
LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCall:
    """One call of a step program."""

    artifact: bytes
    manifest: ProgramManifest
    steps: int
    state: Arrays
    inputs: Arrays
    constants: Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramAnswer:
    """What it returned."""

    state: Arrays
    numeric_class: str
    """Of the machine that ran it; empty where unknown."""


class RunProgram(Protocol):
    """Runs an admitted program in a sandboxed process."""

    async def __call__(self, call: ProgramCall, /) -> ProgramAnswer:
        """Run it.

        Raises:
            PoolError: PROGRAM_FAILED when the program fails on these arrays; any other code when it was not
                run.
        """
        ...
