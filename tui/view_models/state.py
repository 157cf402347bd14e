"""What the dashboard knows at a moment, and how fresh that is. Pure values; the app replaces them.

A link is one source of facts, with what was last heard, when, and what is wrong now. Facts outlive the link:
they are then shown as stale, with their age.
"""

from dataclasses import dataclass, field, replace
from datetime import tzinfo
from enum import StrEnum
from typing import Generic, TypeVar

from tui.facts import AccountFacts, AgentFacts, BankFacts

Facts = TypeVar("Facts")

NANOSECONDS_PER_MICROSECOND = 1_000


class Phase(StrEnum):
    """How a link stands."""

    UNSET = "not set up"
    CONNECTING = "connecting"
    LIVE = "live"
    LOST = "no answer"
    REFUSED = "refused"
    """It answers, but says no: waiting will not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a link does not work, in words for the owner."""

    code: str
    public: str
    next_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Generic[Facts]):
    """One source of facts."""

    phase: Phase = Phase.UNSET
    place: str = ""
    facts: Facts | None = None
    heard_ns: int = 0
    """Monotonic time when `facts` came."""
    trouble: Trouble | None = None

    def connecting(self, place: str) -> "Link[Facts]":
        """Return the link at its beginning."""
        return replace(self, phase=Phase.CONNECTING, place=place)

    def heard(self, facts: Facts, *, monotonic_ns: int) -> "Link[Facts]":
        """Return the link with new facts."""
        return replace(self, phase=Phase.LIVE, facts=facts, heard_ns=monotonic_ns, trouble=None)

    def lost(self, trouble: Trouble, *, refused: bool) -> "Link[Facts]":
        """Return the link after a failure; facts stay, to be shown as stale."""
        return replace(self, phase=Phase.REFUSED if refused else Phase.LOST, trouble=trouble)

    @property
    def live(self) -> bool:
        """True when the facts are as fresh as they get."""
        return self.phase is Phase.LIVE

    def age_us(self, moment: "Moment") -> int:
        """Return how long ago the facts came."""
        return max(0, moment.monotonic_ns - self.heard_ns) // NANOSECONDS_PER_MICROSECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Now, and where the reader lives. Wall time dates things, monotonic time ages them."""

    now_us: int
    monotonic_ns: int
    zone: tzinfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """All that the first screen is made from."""

    agent: Link[AgentFacts] = field(default_factory=Link)
    account: Link[AccountFacts] = field(default_factory=Link)
    bank: BankFacts | None = None
    """How the owner is paid; None until asked."""
    busy: str = ""
    """What was asked of the agent and is not answered yet, for example "pausing"."""
