from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import VehicleId
from pool_protocol.keys import SigningKey
from pool_protocol.roots import Role as KeyRole
from pool_protocol.roots import open_first_root, open_root
from pool_server.identity.directory import PoolDirectory, make_folder, write_file
from pool_server.identity.pki import Authority, make_authority, read_peer_certificate, vehicle_uri
from pool_server.identity.signing import PoolKeys, SecretDraws, Sequence64, first_root, rotated_root
from pool_server.identity.tokens import (
    USER_CODE_DIGITS,
    USER_CODE_LETTERS,
    new_device_code,
    new_token,
    new_user_code,
    normalize_user_code,
    parse_bearer,
    secret_sha256,
)
from pool_server.ports.shell import Role
from tests.support.clock import START_US, ManualClock
from tests.support.ids import SeededIds
from tests.support.pool import signing_request

POOL_ID = "test-pool"
VEHICLE_ID: VehicleId = SeededIds(1).new_vehicle_id()


def refused(code: ErrorCode, call: object, *arguments: object, **keywords: object) -> None:
    assert callable(call)
    with pytest.raises(PoolError) as refusal:
        call(*arguments, **keywords)
    assert refusal.value.code is code


# --- tokens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
def test_a_token_says_its_role_and_is_read_back_as_its_hash(role: Role) -> None:
    token = new_token(role, SeededIds())
    assert token.text.startswith(f"cp_{role.value}_")
    assert parse_bearer(f"Bearer {token.text}") == token.token_sha256 == secret_sha256(token.text)
    assert token.text not in repr(token)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer cp_owner_short", "Basic x", "Bearer cp_admin_" + "a" * 52]
)
def test_what_is_no_token_is_refused_before_any_look_up(header: str) -> None:
    refused(ErrorCode.UNAUTHENTICATED, parse_bearer, header)


def test_user_codes_are_easy_to_read_and_hard_to_mistype() -> None:
    ids = SeededIds(7)
    codes = {new_user_code(ids) for _ in range(500)}
    assert len(codes) > 495
    used = set("".join(codes)) - {"-"}
    assert used == set(USER_CODE_LETTERS) | set(USER_CODE_DIGITS)
    assert not used & set("AEIOULS0158Y")
    for code in list(codes)[:20]:
        assert normalize_user_code(f" {code.lower().replace('-', ' ')} ") == code
    assert new_device_code(ids) != new_device_code(ids)


@pytest.mark.parametrize(
    "text", ["", "KXRT", "KXRT-49271", "AXRT-4927", "4927-KXRT", "KXRT-0000", "x" * 10_000]
)
def test_what_cannot_be_a_code_is_unknown(text: str) -> None:
    refused(ErrorCode.DEVICE_CODE_UNKNOWN, normalize_user_code, text)


# --- certificates -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority(make_authority(pool_id=POOL_ID, now_us=START_US), pool_id=POOL_ID)


def test_a_vehicles_certificate_names_it_and_nothing_else(authority: Authority) -> None:
    csr = signing_request(ec.generate_private_key(ec.SECP256R1()))
    issued = authority.issue_vehicle(csr, vehicle_id=VEHICLE_ID, now_us=START_US)
    peer = read_peer_certificate(issued.certificate_pem, pool_id=POOL_ID)
    assert (peer.vehicle_id, peer.serial_hex) == (VEHICLE_ID, issued.serial_hex)
    certificate = x509.load_pem_x509_certificate(issued.certificate_pem)
    assert not list(certificate.subject)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert dt.timedelta(days=60) <= life <= dt.timedelta(days=61)


def test_two_certificates_never_share_a_serial(authority: Authority) -> None:
    csr = signing_request(ec.generate_private_key(ec.SECP256R1()))
    serials = {
        authority.issue_vehicle(csr, vehicle_id=VEHICLE_ID, now_us=START_US).serial_hex for _ in range(20)
    }
    assert len(serials) == 20


def test_a_certificate_of_another_pool_or_of_a_server_names_no_vehicle(authority: Authority) -> None:
    csr = signing_request(ec.generate_private_key(ec.SECP256R1()))
    issued = authority.issue_vehicle(csr, vehicle_id=VEHICLE_ID, now_us=START_US)
    refused(
        ErrorCode.CERTIFICATE_INVALID, read_peer_certificate, issued.certificate_pem, pool_id="other-pool"
    )
    server = authority.issue_server(["localhost", "127.0.0.1"], now_us=START_US)
    refused(ErrorCode.CERTIFICATE_INVALID, read_peer_certificate, server.certificate_pem, pool_id=POOL_ID)
    refused(ErrorCode.CERTIFICATE_INVALID, read_peer_certificate, b"no certificate", pool_id=POOL_ID)
    assert vehicle_uri(pool_id=POOL_ID, vehicle_id=VEHICLE_ID) == f"spiffe://{POOL_ID}/vehicle/{VEHICLE_ID}"


def test_a_ca_key_of_another_ca_is_refused(authority: Authority) -> None:
    one, two = (make_authority(pool_id=POOL_ID, now_us=START_US) for _ in range(2))
    mixed = type(one)(certificate_pem=one.certificate_pem, private_key_pem=two.private_key_pem)
    refused(ErrorCode.KEY_INVALID, Authority, mixed, pool_id=POOL_ID)


# --- keys and signatures ------------------------------------------------------------------------


def keys_of(seed: int) -> PoolKeys:
    ids = SeededIds(seed)
    program, lease, receipt = (SigningKey.generate(ids) for _ in range(3))
    return PoolKeys(program=program, lease=lease, receipt=receipt)


def test_a_new_lease_key_replaces_the_old_and_a_new_receipt_key_joins_it() -> None:
    root_key, keys = SigningKey.generate(SeededIds(2)), keys_of(3)
    first = open_first_root(
        first_root(pool_id=POOL_ID, root_keys=[root_key], keys=keys, now_us=START_US).signed_root,
        now_us=START_US,
    )
    new_key = SigningKey.generate(SeededIds(4))
    lease = rotated_root(first, role=KeyRole.LEASE, new_key=new_key, root_keys=[root_key], now_us=START_US)
    second = open_root(lease.signed_root, first, now_us=START_US)
    assert second.keys_for(KeyRole.LEASE).key_ids == {new_key.key_id}
    assert second.keys_for(KeyRole.RECEIPT).key_ids == first.keys_for(KeyRole.RECEIPT).key_ids
    receipt = rotated_root(
        second, role=KeyRole.RECEIPT, new_key=new_key, root_keys=[root_key], now_us=START_US
    )
    third = open_root(receipt.signed_root, second, now_us=START_US)
    assert third.keys_for(KeyRole.RECEIPT).key_ids == {
        new_key.key_id,
        keys.key(KeyRole.RECEIPT).key_id,
    }
    refused(
        ErrorCode.INVALID_ARGUMENT,
        rotated_root,
        first,
        role=KeyRole.PROGRAM,
        new_key=new_key,
        root_keys=[root_key],
        now_us=START_US,
    )


def test_sequences_grow_though_the_clock_stands_or_goes_back() -> None:
    clock = ManualClock()
    sequence = Sequence64(clock)
    drawn = [sequence.next(), sequence.next()]
    clock.step_wall(us=-1_000_000)
    drawn.append(sequence.next())
    clock.advance(seconds=10)
    drawn.append(sequence.next())
    assert drawn == sorted(set(drawn))


def test_draws_repeat_for_the_same_commitment_and_are_spread_evenly() -> None:
    draws = SecretDraws(b"secret")
    one = draws.uniform(attempt_id=1, output_digest=bytes(32))
    assert one == draws.uniform(attempt_id=1, output_digest=bytes(32))
    assert one != draws.uniform(attempt_id=2, output_digest=bytes(32))
    assert one != SecretDraws(b"other").uniform(attempt_id=1, output_digest=bytes(32))
    many = [draws.uniform(attempt_id=number, output_digest=bytes(32)) for number in range(4_000)]
    assert all(0 <= number < 1 for number in many)
    assert 0.48 < sum(many) / len(many) < 0.52


# --- files --------------------------------------------------------------------------------------


def test_secrets_are_for_their_owner_only_and_written_whole(tmp_path: Path) -> None:
    directory = PoolDirectory(tmp_path / "pool")
    make_folder(directory.keys)
    assert directory.keys.stat().st_mode & 0o077 == 0
    write_file(directory.audit_secret, b"one", secret=True)
    write_file(directory.audit_secret, b"two", secret=True)
    assert directory.audit_secret.read_bytes() == b"two"
    assert directory.audit_secret.stat().st_mode & 0o777 == 0o600
    write_file(directory.ca_certificate, b"public", secret=False)
    assert directory.ca_certificate.stat().st_mode & 0o777 == 0o644
    assert not list(tmp_path.rglob("*.new"))


def test_a_key_under_the_wrong_name_or_none_at_all_is_refused(tmp_path: Path) -> None:
    directory = PoolDirectory(tmp_path / "pool")
    make_folder(directory.keys)
    refused(ErrorCode.NOT_FOUND, directory.require_made)
    key, other = (SigningKey.generate(SeededIds(seed)) for seed in (5, 6))
    directory.save_signing_key("lease", key)
    assert directory.load_signing_key("lease", key.key_id).key_id == key.key_id
    refused(ErrorCode.KEY_INVALID, directory.load_signing_key, "lease", other.key_id)
    directory.signing_key("lease", key.key_id).rename(directory.signing_key("lease", other.key_id))
    refused(ErrorCode.KEY_INVALID, directory.load_signing_key, "lease", other.key_id)
