"""Enrolment by device code: lost replies, refusals, guesses, certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import CertificateSigningRequestBuilder, Name

from pool_protocol.errors import ErrorCode
from pool_protocol.keys import SigningKey
from pool_protocol.system import SystemClock, SystemIds
from pool_protocol.v1 import account_service_pb2 as account_pb
from pool_protocol.v1 import fleet_service_pb2 as pb
from pool_protocol.v1 import fleet_service_pb2_grpc
from tests.support.clock import ManualClock
from tests.support.fake_car import FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, PrincipalHandle, code_of, key_pem, running_pool, signing_request


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(SystemClock().now_us())


@pytest.fixture
def pool(tmp_path: Path, clock: ManualClock) -> Iterator[PoolHandle]:
    with running_pool(tmp_path, vet=vet_without_jax, clock=clock) as running:
        yield running


@pytest.fixture
def owner(pool: PoolHandle) -> PrincipalHandle:
    return pool.create_principal("owner", "Olga")


def begin(
    pool: PoolHandle, key: SigningKey | None = None, csr: bytes | None = None
) -> pb.BeginEnrolmentResponse:
    envelope_key = key if key is not None else SigningKey.generate(SystemIds())
    answer: pb.BeginEnrolmentResponse = pool.enrolment().BeginEnrolment(
        pb.BeginEnrolmentRequest(
            csr_pem=csr if csr is not None else signing_request(ec.generate_private_key(ec.SECP256R1())),
            envelope_public_key=envelope_key.public_bytes,
            agent=pb.AgentInfo(agent_version="1.2.3"),
        )
    )
    return answer


def approve(pool: PoolHandle, owner: PrincipalHandle, user_code: str, *, refuse: bool = False) -> str:
    return str(
        pool.account()
        .ApproveDevice(
            account_pb.ApproveDeviceRequest(user_code=user_code, label="Zoe", refuse=refuse),
            metadata=owner.metadata,
        )
        .vehicle_id
    )


def complete(pool: PoolHandle, device_code: str) -> pb.CompleteEnrolmentResponse:
    answer: pb.CompleteEnrolmentResponse = pool.enrolment().CompleteEnrolment(
        pb.CompleteEnrolmentRequest(device_code=device_code)
    )
    return answer


def refused(call: object, code: ErrorCode) -> None:
    assert callable(call)
    with pytest.raises(grpc.RpcError) as refusal:
        call()
    assert code_of(refusal.value) == code.value


def test_the_code_reads_as_people_say_it_and_shows_what_asks(
    pool: PoolHandle, owner: PrincipalHandle
) -> None:
    key = SigningKey.generate(SystemIds())
    begun = begin(pool, key)
    typed = begun.user_code.lower().replace("-", " ")
    seen = pool.account().GetDeviceCode(
        account_pb.GetDeviceCodeRequest(user_code=typed), metadata=owner.metadata
    )
    assert (seen.agent_version, seen.key_fingerprint) == ("1.2.3", key.key_id)


def test_every_reply_may_be_lost_once(pool: PoolHandle, owner: PrincipalHandle) -> None:
    key = SigningKey.generate(SystemIds())
    lost, begun = begin(pool, key), begin(pool, key)
    refused(lambda: complete(pool, lost.device_code), ErrorCode.DEVICE_CODE_UNKNOWN)
    refused(lambda: complete(pool, begun.device_code), ErrorCode.DEVICE_CODE_PENDING)
    first = approve(pool, owner, begun.user_code)
    assert approve(pool, owner, begun.user_code) == first
    done = complete(pool, begun.device_code)
    assert complete(pool, begun.device_code) == done
    assert done.vehicle_id == first
    assert (done.owner_id, done.pool_id) == (owner.principal_id, pool.pool_id)


def test_a_used_certificate_is_not_handed_out_again(pool: PoolHandle, owner: PrincipalHandle) -> None:
    car = FakeCar(pool, owner=owner)
    assert complete(pool, car.vehicle.device_code).vehicle_id == car.vehicle.vehicle_id
    car.lease()
    refused(lambda: complete(pool, car.vehicle.device_code), ErrorCode.DEVICE_CODE_UNKNOWN)


def test_a_refused_device_is_told_so(pool: PoolHandle, owner: PrincipalHandle) -> None:
    begun = begin(pool)
    assert approve(pool, owner, begun.user_code, refuse=True) == ""
    assert approve(pool, owner, begun.user_code, refuse=True) == ""
    refused(lambda: complete(pool, begun.device_code), ErrorCode.DEVICE_CODE_DENIED)


def test_codes_end(pool: PoolHandle, owner: PrincipalHandle, clock: ManualClock) -> None:
    begun = begin(pool)
    clock.advance(seconds=15 * 60)
    refused(lambda: approve(pool, owner, begun.user_code), ErrorCode.DEVICE_CODE_EXPIRED)
    refused(lambda: complete(pool, begun.device_code), ErrorCode.DEVICE_CODE_EXPIRED)


def test_another_owner_cannot_take_an_approved_device(pool: PoolHandle, owner: PrincipalHandle) -> None:
    begun = begin(pool)
    approve(pool, owner, begun.user_code)
    thief = pool.create_principal("owner", "Theo")
    refused(lambda: approve(pool, thief, begun.user_code), ErrorCode.DEVICE_CODE_UNKNOWN)


def test_guessing_codes_is_slowed_down_per_owner(
    pool: PoolHandle, owner: PrincipalHandle, clock: ManualClock
) -> None:
    begun = begin(pool)
    for _ in range(10):
        refused(lambda: approve(pool, owner, "BBBB-2222"), ErrorCode.DEVICE_CODE_UNKNOWN)
    refused(lambda: approve(pool, owner, begun.user_code), ErrorCode.RATE_LIMITED)
    other = pool.create_principal("owner", "Otto")
    seen = pool.account().GetDeviceCode(
        account_pb.GetDeviceCodeRequest(user_code=begun.user_code), metadata=other.metadata
    )
    assert seen.expires_at_us == begun.expires_at_us
    clock.advance(seconds=61)
    assert approve(pool, owner, begun.user_code).startswith("vehicle_")


def test_only_p256_requests_signed_by_their_own_key_are_taken(pool: PoolHandle) -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    rsa_request = CertificateSigningRequestBuilder().subject_name(Name([])).sign(rsa_key, hashes.SHA256())
    good = signing_request(ec.generate_private_key(ec.SECP256R1()))
    for csr in (
        b"",
        b"not a request",
        good + b"x" * 9_000,
        signing_request(ec.generate_private_key(ec.SECP384R1())),
        rsa_request.public_bytes(serialization.Encoding.PEM),
    ):
        refused(lambda c=csr: begin(pool, csr=c), ErrorCode.INVALID_ARGUMENT)


def test_an_envelope_key_names_one_vehicle(pool: PoolHandle, owner: PrincipalHandle) -> None:
    key = SigningKey.generate(SystemIds())
    approve(pool, owner, begin(pool, key).user_code)
    refused(lambda: begin(pool, key), ErrorCode.ALREADY_EXISTS)


def test_a_renewed_certificate_works_and_so_does_the_old_one(
    pool: PoolHandle, owner: PrincipalHandle
) -> None:
    car = FakeCar(pool, owner=owner)
    new_key = ec.generate_private_key(ec.SECP256R1())
    renewed = car.stub.RenewCertificate(pb.RenewCertificateRequest(csr_pem=signing_request(new_key)))
    credentials = grpc.ssl_channel_credentials(
        pool.ca_pem, private_key=key_pem(new_key), certificate_chain=renewed.certificate_pem
    )
    with grpc.secure_channel(pool.fleet_address, credentials) as channel:
        answer = fleet_service_pb2_grpc.FleetServiceStub(channel).GetVehicleEarnings(
            pb.GetVehicleEarningsRequest()
        )
    assert answer.currency == "EUR"
    assert car.earnings().currency == "EUR"


def test_a_certificate_of_another_pool_does_not_connect(pool: PoolHandle, tmp_path: Path) -> None:
    with running_pool(tmp_path / "other", vet=vet_without_jax) as other:
        stranger = FakeCar(other)
        credentials = grpc.ssl_channel_credentials(
            pool.ca_pem,
            private_key=stranger.vehicle.tls_key_pem,
            certificate_chain=stranger.vehicle.certificate_pem,
        )
        with grpc.secure_channel(pool.fleet_address, credentials) as channel:
            with pytest.raises(grpc.RpcError) as refusal:
                fleet_service_pb2_grpc.FleetServiceStub(channel).GetVehicleEarnings(
                    pb.GetVehicleEarningsRequest(), timeout=10
                )
            assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
