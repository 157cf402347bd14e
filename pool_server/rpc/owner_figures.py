"""Figures of vehicles and owners that more than one service shows."""

from collections.abc import Sequence

from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_server.app.earnings import owner_earnings, vehicle_earnings
from pool_server.app.fleet import get_vehicle
from pool_server.app.pricing import posted_price
from pool_server.app.work_commands import VehicleViewValue
from pool_server.ports.shell import VehicleIdentity
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc.convert_account import vehicle_view
from pool_server.rpc.store_access import StoreAccess


def vehicle_messages(uow: UnitOfWork, vehicles: Sequence[VehicleViewValue]) -> list[account_pb.VehicleView]:
    """Write vehicles with what they earned."""
    messages = []
    for vehicle in vehicles:
        identity = uow.identity.vehicle(vehicle.vehicle_id)
        earnings = vehicle_earnings(uow, owner_id=vehicle.owner_id, vehicle_id=vehicle.vehicle_id)
        version = identity.agent_version if identity is not None else ""
        messages.append(vehicle_view(vehicle, earnings, agent_version=version))
    return messages


class OwnerFigures:
    """Reads them."""

    def __init__(self, *, store: StoreAccess) -> None:
        self._store = store

    async def of_vehicle(self, vehicle: VehicleIdentity) -> fleet_pb.GetVehicleEarningsResponse:
        """Return the money of a vehicle's owner and the vehicle's own counts."""
        now_us = self._store.now_us()

        def read(uow: UnitOfWork) -> fleet_pb.GetVehicleEarningsResponse:
            money = owner_earnings(uow, owner_id=vehicle.owner_id, now_us=now_us)
            own = vehicle_earnings(uow, owner_id=vehicle.owner_id, vehicle_id=vehicle.vehicle_id)
            view = get_vehicle(uow, vehicle_id=vehicle.vehicle_id)
            return fleet_pb.GetVehicleEarningsResponse(
                currency=money.currency,
                held_micros=money.held_micros,
                available_micros=money.available_micros,
                paid_micros=money.paid_micros,
                verified_attempts=view.verified_attempts,
                rejected_attempts=view.rejected_attempts,
                vehicle_net_micros=own.net_micros,
                quarantine_reason=view.quarantine_reason,
                posted_price_micros_per_wu=posted_price(uow),
                fee_ppm=uow.terms.fee_ppm,
            )

        return await self._store.read(read)
