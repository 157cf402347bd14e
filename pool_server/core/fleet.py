"""The lifecycle of a vehicle as the pool sees it, and when a silent one counts as lost.

Identity, keys and certificates are not decided here; nor is trust (`core.trust`).
"""

from enum import StrEnum, unique

from pool_server.core.lifecycle import Lifecycle, from_each


@unique
class VehicleState(StrEnum):
    """Where a vehicle is in its life with the pool."""

    ENROLLED = "enrolled"
    AVAILABLE = "available"
    LEASED = "leased"
    DRAINING = "draining"
    LOST = "lost"
    QUARANTINED = "quarantined"
    RETIRED = "retired"


_V = VehicleState

VEHICLE_LIFECYCLE: Lifecycle[VehicleState] = Lifecycle(
    name="vehicle",
    initial=_V.ENROLLED,
    transitions={
        (_V.ENROLLED, _V.AVAILABLE): "the vehicle asks for work for the first time",
        (_V.LOST, _V.AVAILABLE): "the vehicle is heard of again",
        (_V.AVAILABLE, _V.LEASED): "a lease is granted",
        (_V.LEASED, _V.AVAILABLE): "its last live lease ends",
        (_V.AVAILABLE, _V.LOST): "the sweep has not heard of it for the silence limit",
        **from_each((_V.ENROLLED, _V.AVAILABLE, _V.LEASED, _V.LOST), _V.DRAINING, "an operator drains it"),
        (_V.DRAINING, _V.AVAILABLE): "an operator ends the draining",
        **from_each(
            (_V.ENROLLED, _V.AVAILABLE, _V.LEASED, _V.DRAINING, _V.LOST),
            _V.QUARANTINED,
            "verification rejects a result of it, or an operator says so",
        ),
        (_V.QUARANTINED, _V.AVAILABLE): "an operator frees it, or its owner's appeal is granted",
        **from_each(
            (_V.ENROLLED, _V.AVAILABLE, _V.LEASED, _V.DRAINING, _V.LOST, _V.QUARANTINED),
            _V.RETIRED,
            "its owner retires it",
        ),
    },
)

#: States in which a vehicle is given leases (a first contact and a return from silence lead to AVAILABLE).
LEASABLE_STATES = frozenset({_V.AVAILABLE, _V.LEASED})
#: States counted when work is spread over the fleet.
ACTIVE_STATES = (_V.AVAILABLE, _V.LEASED)


def state_on_contact(state: VehicleState) -> VehicleState:
    """Say which state a vehicle is in once it has called: a new or lost one becomes available."""
    return _V.AVAILABLE if state in {_V.ENROLLED, _V.LOST} else state
