"""What workers and widgets tell the app. Messages go up, data goes down; a message carries values only."""

from textual.message import Message

from tui.facts import (
    AccountFacts,
    AgentFacts,
    BankFacts,
    DeviceFacts,
    OperatorFacts,
    ReceiptPage,
    StatementFacts,
)
from tui.gateway import GatewayError


class AgentHeard(Message):
    """The agent told how it stands."""

    def __init__(self, agent: AgentFacts) -> None:
        super().__init__()
        self.agent = agent


class AgentLost(Message):
    """The agent does not answer, or its stream broke."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__()
        self.error = error


class AccountHeard(Message):
    """The pool told how the account stands."""

    def __init__(self, account: AccountFacts) -> None:
        super().__init__()
        self.account = account


class AccountLost(Message):
    """The pool does not answer, or refuses."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__()
        self.error = error


class BankHeard(Message):
    """The pool told how the owner is paid."""

    def __init__(self, bank: BankFacts) -> None:
        super().__init__()
        self.bank = bank


class PoolHeard(Message):
    """The pool told an operator how it stands."""

    def __init__(self, pool: OperatorFacts) -> None:
        super().__init__()
        self.pool = pool


class PoolLost(Message):
    """The pool does not answer the operator, or refuses."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__()
        self.error = error


class OptInWanted(Message):
    """The owner touched the box."""

    def __init__(self, *, opted_in: bool) -> None:
        super().__init__()
        self.opted_in = opted_in


class ChangeDone(Message):
    """A switch was thrown: the agent answered, it is on its disk."""

    def __init__(self, *, agent: AgentFacts, notice: str) -> None:
        super().__init__()
        self.agent = agent
        self.notice = notice


class ChangeFailed(Message):
    """A switch was refused, or nobody answered whether it was thrown."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__()
        self.error = error


class ReceiptsLoaded(Message):
    """A page of receipts came."""

    def __init__(self, page: ReceiptPage, *, first: bool) -> None:
        super().__init__()
        self.page = page
        self.first = first
        """True when it replaces what is shown, False when it goes below."""


class StatementLoaded(Message):
    """A statement came."""

    def __init__(self, statement: StatementFacts) -> None:
        super().__init__()
        self.statement = statement


class DeviceFound(Message):
    """A code stands for this device."""

    def __init__(self, device: DeviceFacts) -> None:
        super().__init__()
        self.device = device


class DeviceAnswered(Message):
    """A device was approved or refused."""

    def __init__(self, *, vehicle_id: str, label: str) -> None:
        super().__init__()
        self.vehicle_id = vehicle_id
        """Empty when it was refused."""
        self.label = label


class ScreenReady(Message):
    """A screen's widgets stand, and it wants the state."""


class LoadFailed(Message):
    """What a screen asked for did not come."""

    def __init__(self, error: GatewayError) -> None:
        super().__init__()
        self.error = error
