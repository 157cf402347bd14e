"""The words of evidence and findings: why a result is believed, what checks found. Stored as they are."""

from enum import StrEnum, unique


@unique
class Evidence(StrEnum):
    """Why an accepted result is believed. A level without verification has none."""

    HISTORY = "HISTORY"
    """A single result of a vehicle with a history, for which no audit was drawn."""
    AUDITED = "AUDITED"
    """An audit was drawn, and other owners agreed."""
    AGREEMENT = "AGREEMENT"
    """The level asks for agreeing owners."""
    TRUSTED_NODE = "TRUSTED_NODE"
    """The pool's own machine computed it."""
    CERTIFICATE = "CERTIFICATE"
    """The job's own check proved it."""
    RISK = "RISK"
    """Nobody could check it in time: accepted at the pool's risk."""


#: Evidence that no look-back questions: it does not rest on the word of untrusted vehicles.
PROVED = frozenset({Evidence.TRUSTED_NODE, Evidence.CERTIFICATE})


#: Evidence of work that counts as history. What a buyer's own check proves is true for that buyer alone: a
#: check that always says yes would make a history of work that nobody did.
BUILD_HISTORY = frozenset({Evidence.HISTORY, Evidence.AUDITED, Evidence.AGREEMENT, Evidence.TRUSTED_NODE})


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
    PREFIX = "PREFIX"
    """What a stopped step task claims, held against what others computed."""
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
