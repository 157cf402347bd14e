"""The levels of verification that a job can buy, and what each means."""

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class VerificationLevel(StrEnum):
    """How much verification a job buys."""

    SPOT = "spot"
    STANDARD = "standard"
    CAREFUL = "careful"
    STRICT = "strict"
    FULL = "full"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelTerms:
    """What a level means."""

    quorum: int
    """Agreeing attempts of different owners that the job pays for."""
    epsilon: float | None
    """The error target that audits keep; None where nothing is drawn."""
    builds_trust: bool
    """Whether accepted work that was paid counts as clean history: only where a check could have found it
    wrong."""


LEVELS: dict[VerificationLevel, LevelTerms] = {
    VerificationLevel.SPOT: LevelTerms(quorum=1, epsilon=1e-2, builds_trust=True),
    VerificationLevel.STANDARD: LevelTerms(quorum=1, epsilon=1e-3, builds_trust=True),
    VerificationLevel.CAREFUL: LevelTerms(quorum=1, epsilon=1e-4, builds_trust=True),
    VerificationLevel.STRICT: LevelTerms(quorum=1, epsilon=1e-6, builds_trust=True),
    VerificationLevel.FULL: LevelTerms(quorum=2, epsilon=None, builds_trust=True),
    VerificationLevel.NONE: LevelTerms(quorum=1, epsilon=None, builds_trust=False),
}
