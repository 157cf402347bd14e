"""Enrolment as devices and owners call it: codes are drawn, guesses are counted, secrets are hashed."""

import contextlib
from collections import OrderedDict, deque
from collections.abc import Iterator

from pool_protocol import limits
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import VerifyingKey
from pool_protocol.system import IdSource
from pool_server.app.enrolment import (
    ApproveDevice,
    BeginEnrolment,
    EnrolmentBegun,
    approve_device,
    begin_enrolment,
    complete_enrolment,
    look_at_device,
    renew_certificate,
)
from pool_server.identity.tokens import new_device_code, new_user_code, normalize_user_code, secret_sha256
from pool_server.ports.shell import CertificateIssuer, Enrolment, IssuedCertificate
from pool_server.rpc.store_access import StoreAccess

#: Codes drawn per request: a code that is on another screen is passed over.
_CODES_DRAWN = 3
_MINUTE_NS = 60 * 1_000_000_000
_CALLERS_MAX = 10_000
#: Strangers may begin so many enrolments a minute, all together: each one costs a row.
BEGUN_PER_MINUTE_MAX = 600
#: A device may ask so often in a minute whether it was approved.
POLLS_PER_MINUTE_MAX = 240


class RateLimit:
    """So many events a minute for each key. In memory: a restart forgives."""

    def __init__(self, *, per_minute_max: int, clock: Clock) -> None:
        self._per_minute_max = per_minute_max
        self._clock = clock
        self._events: OrderedDict[str, deque[int]] = OrderedDict()

    def require_room(self, key: str) -> None:
        """Refuse a key that has used up its minute.

        Raises:
            PoolError: RATE_LIMITED with the delay until there is room.
        """
        events = self._recent(key)
        if len(events) >= self._per_minute_max:
            wait_ms = (events[0] + _MINUTE_NS - self._clock.monotonic_ns()) // 1_000_000 + 1
            raise PoolError(
                ErrorCode.RATE_LIMITED, f"{self._per_minute_max} a minute", retry_after_ms=wait_ms
            )

    def count(self, key: str) -> None:
        """Note an event."""
        self._recent(key).append(self._clock.monotonic_ns())

    def forgive(self, key: str) -> None:
        """Take the latest event back."""
        events = self._recent(key)
        if events:
            events.pop()

    def _recent(self, key: str) -> deque[int]:
        events = self._events.setdefault(key, deque())
        self._events.move_to_end(key)
        if len(self._events) > _CALLERS_MAX:
            self._events.popitem(last=False)
        oldest_ns = self._clock.monotonic_ns() - _MINUTE_NS
        while events and events[0] <= oldest_ns:
            events.popleft()
        return events


class EnrolmentDesk:
    """Enrols devices."""

    def __init__(self, *, store: StoreAccess, issuer: CertificateIssuer, id_source: IdSource) -> None:
        self._store = store
        self._issuer = issuer
        self._ids = id_source
        self._begun = RateLimit(per_minute_max=BEGUN_PER_MINUTE_MAX, clock=store.clock)
        self._polls = RateLimit(per_minute_max=POLLS_PER_MINUTE_MAX, clock=store.clock)
        self._wrong_guesses = RateLimit(
            per_minute_max=limits.DEVICE_CODE_GUESSES_PER_MINUTE_MAX, clock=store.clock
        )

    async def begin(
        self, *, csr_pem: bytes, envelope_public_key: bytes, agent_version: str
    ) -> tuple[str, EnrolmentBegun]:
        """Return the device's secret and what it shows.

        Raises:
            PoolError: RATE_LIMITED; KEY_INVALID; what `begin_enrolment` raises.
        """
        self._begun.require_room("")
        self._begun.count("")
        VerifyingKey(envelope_public_key)
        device_code = new_device_code(self._ids)
        command = BeginEnrolment(
            device_code_sha256=secret_sha256(device_code),
            user_codes=[new_user_code(self._ids) for _ in range(_CODES_DRAWN)],
            csr_pem=csr_pem,
            envelope_public_key=envelope_public_key,
            agent_version=agent_version,
        )
        now_us = self._store.now_us()
        begun = await self._store.write(
            lambda uow: begin_enrolment(uow, command, issuer=self._issuer, now_us=now_us)
        )
        return device_code, begun

    async def complete(self, device_code: str) -> Enrolment:
        """Return the approved enrolment.

        Raises:
            PoolError: RATE_LIMITED; what `complete_enrolment` raises.
        """
        device_code_sha256 = secret_sha256(device_code[:200])
        key = device_code_sha256.hex()
        self._polls.require_room(key)
        self._polls.count(key)
        now_us = self._store.now_us()
        return await self._store.read(lambda uow: complete_enrolment(uow, device_code_sha256, now_us=now_us))

    async def look(self, user_code: str, *, owner_id: str) -> Enrolment:
        """Return the device that shows a code.

        Raises:
            PoolError: RATE_LIMITED after too many wrong codes; DEVICE_CODE_UNKNOWN; DEVICE_CODE_EXPIRED.
        """
        now_us = self._store.now_us()
        with self._guess(owner_id):
            code = normalize_user_code(user_code)
            return await self._store.read(lambda uow: look_at_device(uow, code, now_us=now_us))

    async def approve(self, *, user_code: str, label: str, refuse: bool, owner_id: str) -> str:
        """Answer a device; return the vehicle's id, empty when refused.

        Raises:
            PoolError: RATE_LIMITED after too many wrong codes; what `approve_device` raises.
        """
        now_us = self._store.now_us()
        with self._guess(owner_id):
            command = ApproveDevice(
                owner_id=owner_id,
                user_code=normalize_user_code(user_code),
                label=label,
                refuse=refuse,
                new_vehicle_id=self._ids.new_vehicle_id(),
            )
            return await self._store.write(
                lambda uow: approve_device(uow, command, issuer=self._issuer, now_us=now_us)
            )

    async def renew(self, *, vehicle_id: str, csr_pem: bytes) -> IssuedCertificate:
        """Make a new certificate for a vehicle.

        Raises:
            PoolError: INVALID_ARGUMENT.
        """
        now_us = self._store.now_us()
        return await self._store.write(
            lambda uow: renew_certificate(
                uow, vehicle_id=vehicle_id, csr_pem=csr_pem, issuer=self._issuer, now_us=now_us
            )
        )

    @contextlib.contextmanager
    def _guess(self, owner_id: str) -> Iterator[None]:
        """Count a guess before it is tried, so that many at once do not all find room; a wrong one stays.

        Raises:
            PoolError: RATE_LIMITED.
        """
        self._wrong_guesses.require_room(owner_id)
        self._wrong_guesses.count(owner_id)
        was_wrong = False
        try:
            yield
        except PoolError as error:
            was_wrong = error.code is ErrorCode.DEVICE_CODE_UNKNOWN
            raise
        finally:
            if not was_wrong:
                self._wrong_guesses.forgive(owner_id)
