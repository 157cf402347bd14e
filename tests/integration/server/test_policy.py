"""Who may call what, over real sockets and for every RPC there is."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from pool_protocol import v1
from pool_protocol.errors import ErrorCode
from pool_protocol.v1 import admin_service_pb2 as admin_pb
from pool_server.rpc.policy import POLICY, Listener, Who
from tests.support.fake_car import FakeCar, vet_without_jax
from tests.support.pool import PoolHandle, PrincipalHandle, code_of, running_pool

#: Every service that we have but the agent's own, which no pool answers.
FILES = [
    importlib.import_module(f"{v1.__name__}.{module.name}")
    for module in pkgutil.iter_modules(v1.__path__)
    if module.name.endswith("_service_pb2") and module.name != "agent_control_service_pb2"
] + [health_pb2]
SERVICES = [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()] + list(
    reflection_pb2.DESCRIPTOR.services_by_name.values()
)
METHODS = {
    f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods
}
TOKEN_METHODS = sorted(path for path, rule in POLICY.items() if rule.who.role is not None)
MEMBER_METHODS = sorted(path for path, rule in POLICY.items() if rule.who is Who.MEMBER)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolHandle]:
    with running_pool(tmp_path_factory.mktemp("policy"), vet=vet_without_jax) as running:
        yield running


@pytest.fixture(scope="module")
def tokens(pool: PoolHandle) -> dict[str, PrincipalHandle]:
    return {
        "owner": pool.create_principal("owner", "Olga"),
        "buyer": pool.create_principal("buyer", "Bea"),
        "operator": pool.operator,
    }


def call(channel: Any, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
    """Call a method with an empty message, whatever its kind, and read to the end."""
    method = METHODS[path]
    if method.client_streaming and method.server_streaming:
        list(channel.stream_stream(path)(iter([b""]), metadata=metadata, timeout=20))
    elif method.client_streaming:
        channel.stream_unary(path)(iter([b""]), metadata=metadata, timeout=20)
    elif method.server_streaming:
        list(channel.unary_stream(path)(b"", metadata=metadata, timeout=20))
    else:
        channel.unary_unary(path)(b"", metadata=metadata, timeout=20)


def refusal_of(channel: grpc.Channel, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    with pytest.raises(grpc.RpcError) as refusal:
        call(channel, path, metadata)
    return code_of(refusal.value)


def test_every_rpc_has_its_row_and_every_row_its_rpc() -> None:
    assert set(POLICY) == set(METHODS)


def test_only_enrolment_health_and_the_public_root_need_no_credentials() -> None:
    open_to_all = {path.rsplit("/", 1)[1] for path, rule in POLICY.items() if rule.who is Who.ANYONE}
    assert open_to_all == {
        "BeginEnrolment",
        "CompleteEnrolment",
        "GetRoot",
        "Check",
        "Watch",
        "ServerReflectionInfo",
    }


@pytest.mark.parametrize("path", TOKEN_METHODS)
def test_a_token_of_the_wrong_scope_is_refused(
    pool: PoolHandle, tokens: dict[str, PrincipalHandle], path: str
) -> None:
    channel = pool.api_channel()
    right = POLICY[path].who.value
    for role, principal in tokens.items():
        if role != right:
            assert refusal_of(channel, path, principal.metadata) == ErrorCode.PERMISSION_DENIED


@pytest.mark.parametrize("path", TOKEN_METHODS)
def test_no_token_or_a_bad_one_is_refused(pool: PoolHandle, path: str) -> None:
    channel = pool.api_channel()
    unknown = f"cp_{POLICY[path].who.value}_{'a' * 52}"
    for metadata in (
        (),
        (("authorization", "Bearer nonsense"),),
        (("authorization", f"Basic {unknown}"),),
        (("authorization", f"Bearer {unknown}"),),
    ):
        assert refusal_of(channel, path, metadata) == ErrorCode.UNAUTHENTICATED


def test_what_is_for_every_account_is_answered_to_each_of_them_and_to_nobody_else(
    pool: PoolHandle, tokens: dict[str, PrincipalHandle]
) -> None:
    for_all = sorted(path for path, rule in POLICY.items() if rule.who is Who.MEMBER)
    assert {path.split(".")[-1].split("/")[0] for path in for_all} == {"PriceService", "LogService"}
    get_price = "/pool_protocol.v1.PriceService/GetPrice"
    for principal in tokens.values():
        call(pool.api_channel(), get_price, principal.metadata)
    call(pool.fleet_channel(FakeCar(pool).vehicle), get_price)
    for path in for_all:
        assert refusal_of(pool.api_channel(), path) == ErrorCode.UNAUTHENTICATED
        unknown = (("authorization", f"Bearer cp_owner_{'a' * 52}"),)
        assert refusal_of(pool.api_channel(), path, unknown) == ErrorCode.UNAUTHENTICATED


def test_every_member_may_check_the_log_and_a_vehicle_on_its_own_listener_only(
    pool: PoolHandle, tokens: dict[str, PrincipalHandle]
) -> None:
    car = FakeCar(pool)
    for path in MEMBER_METHODS:
        answers = {role: _code(pool.api_channel(), path, one.metadata) for role, one in tokens.items()}
        assert set(answers) == {"owner", "buyer", "operator"}
        assert not {*answers.values()} & {ErrorCode.PERMISSION_DENIED, ErrorCode.UNAUTHENTICATED}
        if Listener.FLEET in POLICY[path].listeners:
            assert _code(pool.fleet_channel(car.vehicle), path) == answers["owner"]


def _code(channel: grpc.Channel, path: str, metadata: tuple[tuple[str, str], ...] = ()) -> str:
    try:
        call(channel, path, metadata)
    except grpc.RpcError as error:
        return code_of(error)
    return ""


def test_vehicle_methods_are_not_answered_by_the_api_listener_even_to_an_operator(pool: PoolHandle) -> None:
    channel = pool.api_channel()
    fleet_only = [path for path, rule in POLICY.items() if Listener.API not in rule.listeners]
    assert fleet_only
    for path in fleet_only:
        assert refusal_of(channel, path, pool.operator.metadata) == ErrorCode.UNIMPLEMENTED


def test_a_vehicle_reaches_nothing_but_fleet_methods(pool: PoolHandle) -> None:
    car = FakeCar(pool)
    channel = pool.fleet_channel(car.vehicle)
    api_only = [
        path for path, rule in POLICY.items() if rule.listeners == {Listener.API} and "reflection" not in path
    ]
    for path in api_only:
        assert refusal_of(channel, path, pool.operator.metadata) == ErrorCode.UNIMPLEMENTED


def test_the_fleet_listener_speaks_to_nobody_without_a_certificate(pool: PoolHandle) -> None:
    channel = grpc.secure_channel(pool.fleet_address, grpc.ssl_channel_credentials(pool.ca_pem))
    with channel, pytest.raises(grpc.RpcError) as refusal:
        call(channel, "/pool_protocol.v1.FleetService/GetRoot")
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_revoked_and_an_expired_token_are_refused(pool: PoolHandle) -> None:
    path = "/pool_protocol.v1.AdminService/GetOverview"
    admin = pool.admin()
    second = pool.create_principal("operator", "Otto")
    call(pool.api_channel(), path, second.metadata)
    admin.RevokeToken(admin_pb.RevokeTokenRequest(token_id=second.token_id), metadata=pool.operator.metadata)
    assert refusal_of(pool.api_channel(), path, second.metadata) == ErrorCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as past:
        admin.CreatePrincipal(
            admin_pb.CreatePrincipalRequest(role="buyer", name="Past", expires_at_us=1),
            metadata=pool.operator.metadata,
        )
    assert code_of(past.value) == ErrorCode.INVALID_ARGUMENT


def test_health_says_serving_and_reflection_is_off_unless_switched_on(
    pool: PoolHandle, tmp_path: Path
) -> None:
    check: Any = pool.api_channel().unary_unary(
        "/grpc.health.v1.Health/Check", response_deserializer=health_pb2.HealthCheckResponse.FromString
    )
    assert check(b"").status == health_pb2.HealthCheckResponse.SERVING
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert refusal_of(pool.api_channel(), path) == ErrorCode.UNIMPLEMENTED
    with running_pool(tmp_path, vet=vet_without_jax, reflection=True) as reflecting:
        ask = reflecting.api_channel().stream_stream(
            path,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        [answer] = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        names = {service.name for service in answer.list_services_response.service}
        assert "pool_protocol.v1.MarketService" in names
