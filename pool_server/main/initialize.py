"""Makes a new pool: keys, certificate authority, root document, database, settings, first operator.

Everything is made in a folder beside the data directory and renamed into place at the end: an interruption
leaves no half-made pool, and an existing one is never touched.
"""

import base64
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.keys import SigningKey
from pool_protocol.roots import Role as KeyRole
from pool_protocol.system import IdSource
from pool_server.app.keys import publish_root
from pool_server.app.principals import CreatePrincipal, create_principal
from pool_server.config import ServerConfig, render_config
from pool_server.identity.directory import PoolDirectory, flush_folder, make_folder, write_file
from pool_server.identity.pki import make_authority
from pool_server.identity.signing import NextRoot, PoolKeys, PoolSigner, first_root
from pool_server.identity.tokens import NewToken, new_token
from pool_server.main.wiring import open_store
from pool_server.ports.shell import SETTING_CURRENCY, SETTING_POOL_ID, Role
from pool_server.ports.unit_of_work import UnitOfWork

_POOL_ID_RANDOM_BYTES = 5
_POOL_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_AUDIT_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMade:
    """What was made, for the operator to read."""

    data: Path
    pool_id: str
    currency: str
    operator_id: str
    operator_token_file: Path
    ca_file: Path
    config_file: Path
    root_key_file: Path
    key_ids: dict[str, str]
    """Key ids by role."""


def initialize_pool(
    data: Path,
    *,
    pool_name: str,
    currency: str,
    config: ServerConfig,
    clock: Clock,
    id_source: IdSource,
    write_database_url: bool = True,
) -> PoolMade:
    """Make a pool in `data`, which must not exist or be empty.

    Args:
        data: The data directory.
        pool_name: Lower-case letters, digits and dashes; the pool's id begins with it.
        currency: ISO 4217 code.
        config: Settings to write into `pool.toml`.
        clock: Wall time.
        id_source: Randomness for ids, keys and the first token.
        write_database_url: Whether `pool.toml` says where the database is; not where the environment does,
            which may hold a password.

    Raises:
        PoolError: INVALID_ARGUMENT for name or currency; ALREADY_EXISTS when there is something in `data`, or
            a pool in the database; UNAVAILABLE and others when the database cannot be opened.
    """
    if _POOL_NAME.fullmatch(pool_name) is None:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a pool's name is lower-case letters, digits and dashes, not {pool_name!r}",
            context={"field": "pool_name"},
        )
    if _CURRENCY.fullmatch(currency) is None:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"a currency is an ISO 4217 code like EUR, not {currency!r}",
            context={"field": "currency"},
        )
    if data.exists() and any(data.iterdir()):
        raise PoolError(
            ErrorCode.ALREADY_EXISTS,
            f"{data} is not empty; a pool is never overwritten.",
            advice=f"Name another directory, or serve the pool that is there: pool-server run --data {data}",
        )
    random_part = base64.b32encode(id_source.random_bytes(_POOL_ID_RANDOM_BYTES)).decode().lower()
    pool_id = f"{pool_name}-{random_part}"
    data.parent.mkdir(parents=True, exist_ok=True)
    making = data.with_name(f".{data.name}.{random_part}.making")
    make_folder(making)
    try:
        made = _make_in(
            PoolDirectory(making),
            pool_id=pool_id,
            currency=currency,
            config=config,
            clock=clock,
            id_source=id_source,
            write_database_url=write_database_url,
        )
        if data.exists():
            data.rmdir()
        making.rename(data)
        flush_folder(data.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    final = PoolDirectory(data)
    return replace(
        made,
        data=data,
        operator_token_file=final.operator_token,
        ca_file=final.ca_certificate,
        config_file=final.config,
        root_key_file=final.signing_key(KeyRole.ROOT.value, made.key_ids[KeyRole.ROOT.value]),
    )


def _make_in(
    directory: PoolDirectory,
    *,
    pool_id: str,
    currency: str,
    config: ServerConfig,
    clock: Clock,
    id_source: IdSource,
    write_database_url: bool,
) -> PoolMade:
    now_us = clock.now_us()
    make_folder(directory.keys)
    make_folder(directory.blobs)
    make_folder(directory.run)
    authority = make_authority(pool_id=pool_id, now_us=now_us)
    write_file(directory.ca_certificate, authority.certificate_pem, secret=False)
    write_file(directory.ca_key, authority.private_key_pem, secret=True)
    write_file(directory.audit_secret, id_source.random_bytes(_AUDIT_SECRET_BYTES), secret=True)
    written = config if write_database_url else replace(config, database_url="")
    # A URL may hold a password.
    is_secret = bool(written.database_url)
    write_file(directory.config, render_config(written).encode("utf-8"), secret=is_secret)
    by_role = {role: SigningKey.generate(id_source) for role in KeyRole}
    for role, key in by_role.items():
        directory.save_signing_key(role.value, key)
    keys = PoolKeys(
        program=by_role[KeyRole.PROGRAM], lease=by_role[KeyRole.LEASE], receipt=by_role[KeyRole.RECEIPT]
    )
    root = first_root(pool_id=pool_id, root_keys=[by_role[KeyRole.ROOT]], keys=keys, now_us=now_us)
    key_ids = {role.value: str(key.key_id) for role, key in by_role.items()}
    token = new_token(Role.OPERATOR, id_source)
    signer = PoolSigner(pool_id=pool_id, keys=keys, id_source=id_source, clock=clock)
    store = open_store(
        directory, config=config, pool_id=pool_id, currency=currency, signer=signer, on_committed=None
    )
    try:
        store.writer.start()
        operator_id = id_source.new_operator_id()
        store.writer.submit(
            lambda uow: _fill(
                uow,
                pool_id=pool_id,
                currency=currency,
                root=root,
                key_ids=key_ids,
                operator_id=operator_id,
                token=token,
                now_us=now_us,
            )
        ).result()
    finally:
        store.close()
    write_file(directory.operator_token, f"{token.text}\n".encode("ascii"), secret=True)
    return PoolMade(
        data=directory.path,
        pool_id=pool_id,
        currency=currency,
        operator_id=operator_id,
        operator_token_file=directory.operator_token,
        ca_file=directory.ca_certificate,
        config_file=directory.config,
        root_key_file=directory.signing_key(KeyRole.ROOT.value, key_ids[KeyRole.ROOT.value]),
        key_ids=key_ids,
    )


def _fill(
    uow: UnitOfWork,
    *,
    pool_id: str,
    currency: str,
    root: NextRoot,
    key_ids: dict[str, str],
    operator_id: str,
    token: NewToken,
    now_us: int,
) -> None:
    before = uow.settings.get(SETTING_POOL_ID)
    if before is not None:
        raise PoolError(
            ErrorCode.ALREADY_EXISTS,
            f"the database holds the pool {before} already; a pool is never overwritten.",
            advice="Name an empty database.",
        )
    uow.settings.put(SETTING_POOL_ID, pool_id)
    uow.settings.put(SETTING_CURRENCY, currency)
    signing = {role: key_id for role, key_id in key_ids.items() if role != KeyRole.ROOT.value}
    publish_root(uow, version=root.version, signed_root=root.signed_root, signing_keys=signing, now_us=now_us)
    create_principal(
        uow,
        CreatePrincipal(
            role=Role.OPERATOR,
            name="first operator",
            principal_id="",
            new_principal_id=operator_id,
            token_id=token.token_id,
            token_sha256=token.token_sha256,
            token_expires_at_us=0,
        ),
        now_us=now_us,
    )
