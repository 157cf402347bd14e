"""Who may call what: one row for every RPC that a listener answers. What has no row is refused.

A test compares this table with the services' descriptors in both directions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType

from pool_server.ports.shell import Role


@unique
class Listener(StrEnum):
    """A port and its kind of TLS."""

    API = "api"
    """Server TLS; callers bring tokens, or nothing."""
    FLEET = "fleet"
    """Mutual TLS; callers are vehicles."""


@unique
class Who(StrEnum):
    """What a caller must be."""

    ANYONE = "anyone"
    OWNER = "owner"
    BUYER = "buyer"
    OPERATOR = "operator"
    VEHICLE = "vehicle"
    MEMBER = "member"
    """An owner, buyer or operator on the API listener, a vehicle on the fleet's."""

    @property
    def role(self) -> Role | None:
        """The role a token must have; None where no token is asked for, or one of any role will do."""
        return None if self in {Who.ANYONE, Who.VEHICLE, Who.MEMBER} else Role(self.value)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row."""

    listeners: frozenset[Listener]
    who: Who


_PACKAGE = "pool_protocol.v1"
_API = frozenset({Listener.API})
_FLEET = frozenset({Listener.FLEET})
_BOTH = _API | _FLEET

_SERVICES: dict[str, dict[str, Rule]] = {
    f"{_PACKAGE}.FleetService": {
        # A device that enrols has no certificate yet; the root document is public and signed.
        "BeginEnrolment": Rule(_API, Who.ANYONE),
        "CompleteEnrolment": Rule(_API, Who.ANYONE),
        "GetRoot": Rule(_BOTH, Who.ANYONE),
        "RenewCertificate": Rule(_FLEET, Who.VEHICLE),
        "GetProgram": Rule(_FLEET, Who.VEHICLE),
        "GetBlob": Rule(_FLEET, Who.VEHICLE),
        "PutBlob": Rule(_FLEET, Who.VEHICLE),
        "Exchange": Rule(_FLEET, Who.VEHICLE),
        "LeaseWork": Rule(_FLEET, Who.VEHICLE),
        "SubmitResults": Rule(_FLEET, Who.VEHICLE),
        "GetVehicleEarnings": Rule(_FLEET, Who.VEHICLE),
    },
    f"{_PACKAGE}.MarketService": dict.fromkeys(
        (
            "AdmitProgram",
            "PutBlob",
            "GetBlob",
            "GetQuote",
            "CreateJob",
            "AddTasks",
            "CloseJob",
            "GetJob",
            "ListJobs",
            "WatchJob",
            "GetResults",
            "CancelJob",
            "GetBalance",
            "GetPoolRoot",
        ),
        Rule(_API, Who.BUYER),
    ),
    f"{_PACKAGE}.AccountService": dict.fromkeys(
        (
            "GetDeviceCode",
            "ApproveDevice",
            "ListVehicles",
            "RetireVehicle",
            "GetEarnings",
            "ListReceipts",
            "GetStatement",
            "GetPayoutDetails",
            "SetPayoutDetails",
            "ListEvents",
            "GetVehicleEvidence",
            "Appeal",
        ),
        Rule(_API, Who.OWNER),
    ),
    f"{_PACKAGE}.AdminService": dict.fromkeys(
        (
            "GetOverview",
            "ListFleet",
            "ListAllJobs",
            "SetQuarantine",
            "SetTrusted",
            "CreatePrincipal",
            "RevokeToken",
            "RecordDeposit",
            "PlanPayout",
            "GetPayout",
            "ListPayouts",
            "ApprovePayout",
            "CancelPayout",
            "ExportPayout",
            "GetReport",
            "CheckLedger",
            "ListAccounts",
            "GetKeys",
            "RotateKey",
            "SetPostedPrice",
            "ListClasses",
            "GetEvidence",
        ),
        Rule(_API, Who.OPERATOR),
    ),
    f"{_PACKAGE}.BooksService": dict.fromkeys(
        (
            "CheckBooks",
            "StreamAccounts",
            "GetAccountAt",
            "GetAccountHistory",
            "ExportBooks",
            "ProposeEntry",
            "ApproveEntry",
            "WithdrawEntry",
            "ListEntries",
        ),
        Rule(_API, Who.OPERATOR),
    ),
    f"{_PACKAGE}.PayoutService": dict.fromkeys(
        ("ReviewPayout", "ImportBankStatus", "ListBankReports", "CloseOut", "ListCloseOuts"),
        Rule(_API, Who.OPERATOR),
    )
    | {"CloseAccount": Rule(_API, Who.OWNER)},
    f"{_PACKAGE}.PriceService": {
        "GetPrice": Rule(_BOTH, Who.MEMBER),
        "ListPriceEpochs": Rule(_BOTH, Who.MEMBER),
        "GetOrderBook": Rule(_BOTH, Who.MEMBER),
        "FollowAuction": Rule(_API, Who.OPERATOR),
    },
    f"{_PACKAGE}.ParticularsService": {
        "GetOwnerParticulars": Rule(_API, Who.OWNER),
        "SetOwnerParticulars": Rule(_API, Who.OWNER),
        "GetBuyerParticulars": Rule(_API, Who.BUYER),
        "SetBuyerParticulars": Rule(_API, Who.BUYER),
        "GetAccountParticulars": Rule(_API, Who.OPERATOR),
        "SetAccountParticulars": Rule(_API, Who.OPERATOR),
    },
    f"{_PACKAGE}.ReportService": {
        "GetOwnerStatement": Rule(_API, Who.OWNER),
        "GetBuyerInvoice": Rule(_API, Who.BUYER),
        "GetBuyerUsage": Rule(_API, Who.BUYER),
        **dict.fromkeys(
            ("ExportStatements", "ExportInvoices", "ExportReport", "ExportYearly"), Rule(_API, Who.OPERATOR)
        ),
    },
    f"{_PACKAGE}.CapsService": dict.fromkeys(("ListCaps", "SetCap"), Rule(_API, Who.OPERATOR)),
    f"{_PACKAGE}.LogService": {
        # Hashes and sums: what a member may check of the pool, and nothing of another member's.
        "GetTreeHead": Rule(_BOTH, Who.MEMBER),
        "ListTreeHeads": Rule(_BOTH, Who.MEMBER),
        "GetInclusionProofs": Rule(_BOTH, Who.MEMBER),
        "GetConsistencyProof": Rule(_BOTH, Who.MEMBER),
        "ListLoggedReceipts": Rule(_FLEET, Who.VEHICLE),
        "GetSolvency": Rule(_BOTH, Who.MEMBER),
        "ListSolvency": Rule(_BOTH, Who.MEMBER),
        "GetLiabilityProofs": Rule(_API, Who.MEMBER),
        "EnterBankBalance": Rule(_API, Who.OPERATOR),
    },
    "grpc.health.v1.Health": {
        "Check": Rule(_BOTH, Who.ANYONE),
        "Watch": Rule(_BOTH, Who.ANYONE),
    },
    # Registered only where the operator switched it on.
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": Rule(_API, Who.ANYONE)},
}

#: The whole table, by gRPC's full method name, for example "/pool_protocol.v1.FleetService/Exchange".
POLICY: Mapping[str, Rule] = MappingProxyType(
    {
        f"/{service}/{method}": rule
        for service, methods in _SERVICES.items()
        for method, rule in methods.items()
    }
)
