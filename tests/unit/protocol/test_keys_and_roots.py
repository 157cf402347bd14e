"""Keys on disk, and roots: rotation works; rollback, freeze and a minority of keys do not."""

import json
from pathlib import Path
from typing import Any

import pytest

from pool_protocol import limits, roots
from pool_protocol.envelope import PayloadType
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey, TrustedKeys, VerifyingKey
from pool_protocol.roots import (
    Role,
    RootDocument,
    TrustedRoot,
    build_root,
    open_first_root,
    open_root,
    open_root_chain,
)
from pool_protocol.v1 import common_pb2
from tests.support.clock import START_US
from tests.support.ids import SeededIds

YEAR_US = 365 * limits.DAY_US
NOW_US = START_US + 1


def key(number: int) -> SigningKey:
    return SigningKey.from_seed(number.to_bytes(32, "big"))


ROOT_KEYS = [key(1), key(2), key(3)]
PROGRAM, LEASE, RECEIPT = key(10), key(11), key(12)


def document(
    version: int = 1,
    root_keys: list[SigningKey] = ROOT_KEYS,
    *,
    threshold: int = 2,
    pool_id: str = "pool_a",
    issued_at_us: int = START_US,
    lease: SigningKey = LEASE,
) -> RootDocument:
    return RootDocument(
        pool_id=pool_id,
        version=version,
        issued_at_us=issued_at_us,
        expires_at_us=issued_at_us + YEAR_US,
        keys={
            Role.ROOT: tuple(k.verifying_key for k in root_keys),
            Role.PROGRAM: (PROGRAM.verifying_key,),
            Role.LEASE: (lease.verifying_key,),
            Role.RECEIPT: (RECEIPT.verifying_key,),
        },
        root_threshold=threshold,
    )


def first() -> TrustedRoot:
    return open_first_root(build_root(document(), ROOT_KEYS[:2]), now_us=NOW_US)


def refusal(root_bytes: bytes, *, now_us: int = NOW_US) -> ErrorCode:
    with pytest.raises(PoolError) as raised:
        open_root(root_bytes, first(), now_us=now_us)
    return raised.value.code


def test_a_key_comes_back_from_disk_and_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "lease.pem"
    made = SigningKey.generate(SeededIds(7))
    made.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = SigningKey.load(path)
    assert loaded.key_id == made.key_id
    assert loaded.sign("t", b"", b"x") == made.sign("t", b"", b"x")
    with pytest.raises(PoolError) as raised:
        made.save(path)
    assert raised.value.code is ErrorCode.ALREADY_EXISTS
    assert made.key_id in repr(made)
    path.chmod(0o640)
    with pytest.raises(PoolError, match="open to others"):
        SigningKey.load(path)


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.touch(mode=0o600)
    for content in (b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n"):
        path.write_bytes(content)
        with pytest.raises(PoolError) as raised:
            SigningKey.load(path)
        assert raised.value.code is ErrorCode.KEY_INVALID
    for make in (
        lambda: SigningKey.load(tmp_path / "missing.pem"),
        lambda: SigningKey.from_seed(b"short"),
        lambda: VerifyingKey(b"short"),
        lambda: VerifyingKey.from_hex("zz"),
    ):
        with pytest.raises(PoolError) as raised:
            make()
        assert raised.value.code is ErrorCode.KEY_INVALID


def test_roles_keep_their_keys_apart() -> None:
    root = first()
    assert root.keys_for(Role.LEASE).key_ids == {LEASE.key_id}
    signature = PROGRAM.sign(PayloadType.LEASE, b"h", b"b")
    with pytest.raises(PoolError) as raised:
        root.keys_for(Role.LEASE).verify(
            PROGRAM.key_id, signature, payload_type=PayloadType.LEASE, header=b"h", body=b"b"
        )
    assert raised.value.code is ErrorCode.KEY_UNKNOWN


def test_a_root_rotates_when_old_and_new_keys_agree() -> None:
    new_keys = [key(3), key(4), key(5)]
    root_bytes = build_root(document(2, new_keys, lease=key(20)), [key(1), key(3), key(4)])
    rotated = open_root(root_bytes, first(), now_us=NOW_US)
    assert rotated.document.version == 2
    assert rotated.keys_for(Role.LEASE).key_ids == {key(20).key_id}
    assert rotated.root_bytes == root_bytes


def test_the_same_root_again_changes_nothing() -> None:
    trusted = first()
    assert open_root(build_root(document(), ROOT_KEYS), trusted, now_us=NOW_US) is trusted


def test_attack_below_threshold_of_the_old_root() -> None:
    own = [key(7), key(8)]
    assert refusal(build_root(document(2, own), [*own, ROOT_KEYS[0]])) is ErrorCode.ROOT_THRESHOLD_NOT_MET


def test_attack_below_threshold_of_the_new_root() -> None:
    new_keys = [key(7), key(8)]
    assert (
        refusal(build_root(document(2, new_keys), [*ROOT_KEYS, key(7)])) is ErrorCode.ROOT_THRESHOLD_NOT_MET
    )


def test_attack_one_signature_counted_twice() -> None:
    root_bytes = build_root(document(2), [ROOT_KEYS[0], ROOT_KEYS[0], ROOT_KEYS[0]])
    assert refusal(root_bytes) is ErrorCode.ROOT_THRESHOLD_NOT_MET


def test_attack_threshold_lowered_by_the_new_root_itself() -> None:
    assert refusal(build_root(document(2, threshold=1), ROOT_KEYS[:1])) is ErrorCode.ROOT_THRESHOLD_NOT_MET


def test_attack_rollback_to_an_older_root() -> None:
    second = open_root(build_root(document(2), ROOT_KEYS), first(), now_us=NOW_US)
    with pytest.raises(PoolError) as raised:
        open_root(build_root(document(1), ROOT_KEYS), second, now_us=NOW_US)
    assert raised.value.code is ErrorCode.ROOT_ROLLBACK


def test_attack_another_root_under_the_same_version() -> None:
    assert refusal(build_root(document(1, lease=key(66)), ROOT_KEYS)) is ErrorCode.ROOT_ROLLBACK


def test_attack_frozen_on_an_expired_root() -> None:
    expired_at_us = START_US + YEAR_US
    with pytest.raises(PoolError) as raised:
        open_first_root(build_root(document(), ROOT_KEYS), now_us=expired_at_us)
    assert raised.value.code is ErrorCode.ROOT_EXPIRED
    assert refusal(build_root(document(2), ROOT_KEYS), now_us=expired_at_us) is ErrorCode.ROOT_EXPIRED


def test_a_car_that_slept_walks_over_expired_roots_to_the_present_one() -> None:
    later_us = START_US + 2 * YEAR_US
    chain = [
        build_root(document(2), ROOT_KEYS),
        build_root(document(3, issued_at_us=later_us), ROOT_KEYS),
    ]
    assert open_root_chain(chain, first(), now_us=later_us).document.version == 3
    with pytest.raises(PoolError) as raised:
        open_root_chain(chain[:1], first(), now_us=later_us)
    assert raised.value.code is ErrorCode.ROOT_EXPIRED


def test_attack_another_pools_root() -> None:
    assert refusal(build_root(document(2, pool_id="pool_b"), ROOT_KEYS)) is ErrorCode.ROOT_INVALID


def test_attack_first_root_swapped_at_pairing() -> None:
    honest = build_root(document(), ROOT_KEYS)
    fingerprint = open_first_root(honest, now_us=NOW_US).fingerprint
    assert open_first_root(honest, now_us=NOW_US, fingerprint=fingerprint).document == document()
    swapped = build_root(document(lease=key(66)), ROOT_KEYS)
    with pytest.raises(PoolError) as raised:
        open_first_root(swapped, now_us=NOW_US, fingerprint=fingerprint)
    assert raised.value.code is ErrorCode.ROOT_INVALID


def _signed(content: Any) -> bytes:
    document_bytes = content if isinstance(content, bytes) else json.dumps(content).encode()
    return common_pb2.SignedRoot(
        document=document_bytes,
        signatures=[
            common_pb2.RootSignature(key_id=k.key_id, signature=k.sign(PayloadType.ROOT, b"", document_bytes))
            for k in ROOT_KEYS
        ],
    ).SerializeToString()


def test_malformed_roots_are_refused_even_when_signed() -> None:
    good = json.loads(document(2).canonical_bytes())
    spaced = json.dumps(good, sort_keys=True).encode()
    broken: list[Any] = [
        b"",
        b"[" * 100_000,
        b"[]",
        {},
        spaced,
        good | {"format": 2},
        good | {"extra": 1},
        good | {"version": "2"},
        good | {"version": True},
        good | {"version": 0},
        good | {"pool_id": 3},
        good | {"keys": []},
        good | {"keys": {"a": "zz"}},
        good | {"roles": {**good["roles"], "lease": ["feedfeedfeedfeed"]}},
        good | {"roles": {**good["roles"], "lease": []}},
        good | {"roles": {**good["roles"], "lease": good["roles"]["root"][:1]}},
        good | {"root_threshold": 0},
        good | {"root_threshold": 4},
        good | {"expires_at_us": good["issued_at_us"]},
        good | {"expires_at_us": good["issued_at_us"] + 500 * limits.DAY_US},
    ]
    for content in broken:
        with pytest.raises(PoolError) as raised:
            open_root(_signed(content), first(), now_us=NOW_US)
        assert raised.value.code in {ErrorCode.ROOT_INVALID, ErrorCode.KEY_INVALID}, content
    for root_bytes in (b"\xff", b"x" * (limits.ROOT_BYTES_MAX + 1)):
        assert refusal(root_bytes) is ErrorCode.ROOT_INVALID


def test_roles_are_listed_once_and_for_all() -> None:
    assert {role.value for role in Role} == {"root", "program", "lease", "receipt"}
    assert isinstance(first().keys_for(Role.ROOT), TrustedKeys)
    assert roots.Role.ROOT in first().document.keys
