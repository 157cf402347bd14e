"""The words of findings: what kind of check found something, and what it found. Stored; never renamed."""

from enum import StrEnum, unique


@unique
class FindingKind(StrEnum):
    """Which check looked."""

    AUDIT = "AUDIT"
    """A secret draw, or a disagreement that it brought to light."""
    QUORUM = "QUORUM"
    """The level asks for agreeing owners from the start."""
    LOOK_BACK = "LOOK_BACK"
    """Accepted work looked at again after its vehicle was caught."""
    CERTIFICATE = "CERTIFICATE"
    """The job's own check."""
    DISPUTE = "DISPUTE"
    """A step task bisected to one unit."""
    APPEAL = "APPEAL"
    """A trusted re-execution that an owner asked for."""
    CLASS_FAULT = "CLASS_FAULT"
    """A whole numeric class is wrong on a program."""


@unique
class FindingOutcome(StrEnum):
    """What it found."""

    WRONG = "WRONG"
    UPHELD = "UPHELD"
    """Right after all: looked at again and confirmed."""
    OPEN = "OPEN"
    """Looked at again, and nobody could tell: it stands."""
    WITHHELD = "WITHHELD"
    """The vehicle did not show what it had committed to."""
    CLASS_FAULT = "CLASS_FAULT"
