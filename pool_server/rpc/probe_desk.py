"""Takes the numeric probes that vehicles send with their wishes for work, and shows classes to operators."""

from collections import OrderedDict

from pool_protocol.numeric import PROBE_VERSION, Family, Probe
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_protocol.v1 import fleet_service_pb2 as fleet_pb
from pool_server.app.classes import ClassList, note_probe
from pool_server.rpc.convert_work import invalid
from pool_server.rpc.store_access import StoreAccess

#: Vehicles whose last probe is remembered, so that the same again costs no write.
_REMEMBERED_MAX = 10_000
UNKNOWN = "unknown"


def probe_of(agent: fleet_pb.AgentInfo) -> Probe | None:
    """Read a probe; None where there is none, or one of a version that this server does not know yet.

    Raises:
        PoolError: INVALID_ARGUMENT.
    """
    numeric = agent.numeric
    if not agent.HasField("numeric") or numeric.probe_version > PROBE_VERSION:
        return None
    if len(numeric.families) > len(Family):
        raise invalid("numeric", f"{len(numeric.families)} families, known are {len(Family)}")
    families = {entry.family: entry.digest for entry in numeric.families}
    if len(families) != len(numeric.families):
        raise invalid("numeric", "a family stands there twice")
    if len(agent.platforms) != 1:
        raise invalid("platforms", "a probe is of one platform")
    return Probe(
        probe_version=numeric.probe_version,
        jaxlib_version=agent.jaxlib_version,
        platform=agent.platforms[0],
        profile=numeric.profile,
        families=families,
    )


class ProbeDesk:
    """Notes probes of vehicles where they changed."""

    def __init__(self, store: StoreAccess) -> None:
        self._store = store
        self._noted: OrderedDict[str, str] = OrderedDict()

    async def note(self, vehicle_id: str, agent: fleet_pb.AgentInfo) -> None:
        """Note what a vehicle's probe says.

        Raises:
            PoolError: INVALID_ARGUMENT; nothing was changed then.
        """
        probe = probe_of(agent)
        if probe is None or self._noted.get(vehicle_id) == probe.class_id:
            return
        now_us = self._store.now_us()
        noted = await self._store.write(
            lambda uow: note_probe(uow, vehicle_id=vehicle_id, probe=probe, now_us=now_us)
        )
        self._noted[vehicle_id] = noted
        self._noted.move_to_end(vehicle_id)
        while len(self._noted) > _REMEMBERED_MAX:
            self._noted.popitem(last=False)


def classes_response(found: ClassList) -> admin_pb.ListClassesResponse:
    """Write the operator's list."""
    return admin_pb.ListClassesResponse(
        classes=[
            admin_pb.NumericClassView(
                class_id=item.numeric_class or UNKNOWN,
                vehicle_count=item.vehicle_count,
                agreed_within=item.agreed_within,
                agreed_across=item.agreed_across,
                disagreed_across=item.disagreed_across,
            )
            for item in found.classes
        ],
        faults=[
            admin_pb.ClassFaultView(
                class_id=fault.numeric_class,
                program_sha256=fault.program_sha256,
                vehicle_count=fault.vehicle_count,
                task_count=fault.task_count,
                found_at_us=fault.found_at_us,
                summary=fault.summary,
            )
            for fault in found.faults
        ],
    )
