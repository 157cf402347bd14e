"""What the screens need from the outside, as Protocols.

`grpc_gateway` implements them over real sockets. Every method may raise `GatewayError`, which already says
what a person can do; nothing else is expected to come out.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from tui.facts import (
    AccountFacts,
    AgentFacts,
    BankFacts,
    DeviceFacts,
    OperatorFacts,
    ReceiptPage,
    StatementFacts,
    StopFacts,
)


class GatewayError(Exception):
    """The other side refused, or could not be reached.

    Attributes:
        code: Stable code of the refusal; UNAVAILABLE when there was no answer.
        public: What went wrong, in words for the owner.
        next_step: What to do about it.
        unreachable: True when no answer came: worth trying again by itself.
        detail: What exactly was refused, in the other side's words; empty when it does not say.
        field: The field that was refused; empty when it is not about one.
        proposal: What to send in that field instead; empty when there is none.
    """

    def __init__(
        self,
        *,
        code: str,
        public: str,
        next_step: str,
        unreachable: bool,
        detail: str = "",
        field: str = "",
        proposal: str = "",
    ) -> None:
        super().__init__(f"{code}: {public}")
        self.code = code
        self.public = public
        self.next_step = next_step
        self.unreachable = unreachable
        self.detail = detail
        self.field = field
        self.proposal = proposal


class AgentGateway(Protocol):
    """The agent on this machine, through its socket."""

    @property
    def place(self) -> str:
        """Where it is expected, for messages: a path."""
        ...

    def watch(self) -> AsyncGenerator[AgentFacts, None]:
        """Yield the status at once and after each change, until the stream breaks (then `GatewayError`)."""
        ...

    async def status(self) -> AgentFacts:
        """Ask once; the answer comes within seconds or not at all."""
        ...

    async def set_opt_in(self, *, opted_in: bool) -> StopFacts:
        """Opt in or out; on disk when it returns."""
        ...

    async def pause(self, *, duration_s: int) -> StopFacts:
        """Pause for `duration_s` seconds, 0 until resumed; no worker lives when it returns."""
        ...

    async def resume(self) -> AgentFacts:
        """End a pause."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class AccountGateway(Protocol):
    """The owner's account at the pool."""

    @property
    def place(self) -> str:
        """host:port of the pool."""
        ...

    async def account(self) -> AccountFacts:
        """Money, vehicles and the newest events."""
        ...

    async def receipts(self, *, page_token: str, vehicle_id: str) -> ReceiptPage:
        """One page of receipts, each checked here if a root document is at hand."""
        ...

    async def statement(self, *, month: str) -> StatementFacts:
        """The statement of a month, "2026-11"."""
        ...

    async def device(self, *, user_code: str) -> DeviceFacts:
        """Look at what asks to be enrolled, before approving it."""
        ...

    async def answer_device(self, *, user_code: str, label: str, refuse: bool) -> str:
        """Approve or refuse; return the new vehicle's id, empty when refused."""
        ...

    async def bank(self) -> BankFacts:
        """How the owner is paid."""
        ...

    async def set_bank(self, details: BankFacts) -> BankFacts:
        """Set how the owner is paid; return it as the pool kept it."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class OperatorGateway(Protocol):
    """The pool, for an operator."""

    @property
    def place(self) -> str:
        """host:port of the pool."""
        ...

    async def pool(self) -> OperatorFacts:
        """Figures, fleet, jobs and payout runs."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateways:
    """What this run of the dashboard can reach. `None` was not asked for or not set up."""

    agent: AgentGateway | None = None
    account: AccountGateway | None = None
    operator: OperatorGateway | None = None
