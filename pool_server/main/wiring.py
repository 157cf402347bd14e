"""Opens the parts that every way of starting needs: the store with its writer, the keys, the CA."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.limits import HOUR_US, SECOND_US
from pool_protocol.money import UWU_PER_WU
from pool_protocol.roots import Role as KeyRole
from pool_server.app.market_policy import MarketPolicy
from pool_server.app.work_policy import WorkPolicy
from pool_server.config import ServerConfig
from pool_server.core.effects import Effect
from pool_server.core.pricing.epoch import PriceRules
from pool_server.core.pricing.history import PostingMode
from pool_server.core.settlement import MoneyTerms
from pool_server.core.trust import QuarantineRule
from pool_server.core.verification import HistoryAuditRule
from pool_server.core.verification.classes import ClassAuditRule
from pool_server.identity.directory import PoolDirectory
from pool_server.identity.pki import Authority, KeyPair
from pool_server.identity.signing import PoolKeys
from pool_server.ports.money import ReceiptIssuer
from pool_server.ports.shell import SETTING_CURRENCY, SETTING_POOL_ID, SETTING_SIGNING_KEY
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rails.choice import Rails, make_rails
from pool_server.store.content_repository import SqlSettingsRepository
from pool_server.store.engine import (
    claim_database,
    open_engine,
    parse_url,
    read_only,
    require_reachable,
    shown_url,
)
from pool_server.store.group_commit import GroupCommitWriter
from pool_server.store.migrations import current_revision, upgrade
from pool_server.store.unit_of_work import SqlUnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The open database and its writer."""

    engine: Engine
    writer: GroupCommitWriter[UnitOfWork]
    let_go: Callable[[], None]
    """Lets another server have the database."""

    def close(self) -> None:
        """Finish what waits and close the database."""
        self.writer.stop()
        self.let_go()
        self.engine.dispose()


def open_store(
    directory: PoolDirectory,
    *,
    config: ServerConfig,
    pool_id: str,
    currency: str,
    signer: ReceiptIssuer,
    on_committed: Callable[[Sequence[Effect]], None] | None,
    on_fatal: Callable[[InvariantError], None] | None = None,
) -> Store:
    """Open the database and bring its schema up to date; the writer is not started yet.

    Raises:
        PoolError: INVALID_ARGUMENT, INVALID_STATE or UNAVAILABLE when the database cannot be opened.
    """
    engine = open_engine(database_url(directory, config))
    with ExitStack() as unless_opened:
        unless_opened.callback(engine.dispose)
        require_reachable(engine)
        let_go = claim_database(engine)
        unless_opened.callback(let_go)
        upgrade(engine)
        unless_opened.pop_all()
    terms = money_terms(config, pool_id=pool_id, currency=currency)

    def make_uow(connection: Connection) -> UnitOfWork:
        return SqlUnitOfWork(connection, receipt_issuer=signer, terms=terms)

    writer: GroupCommitWriter[UnitOfWork] = GroupCommitWriter(
        engine, make_uow, on_committed or _forget, on_fatal=on_fatal
    )
    return Store(engine=engine, writer=writer, let_go=let_go)


def _forget(_effects: Sequence[Effect]) -> None:
    """Nobody waits while a pool is made."""


def money_terms(config: ServerConfig, *, pool_id: str, currency: str) -> MoneyTerms:
    """Return the money's terms of the settings."""
    return MoneyTerms(
        pool_id=pool_id,
        currency=currency,
        fee_ppm=config.fee_ppm,
        dispute_window_us=config.dispute_window_s * SECOND_US,
        posted_price_micros_per_wu=config.posted_price_micros_per_wu,
        payout_schedule_us=config.payout_schedule_us,
    )


def payout_rails(config: ServerConfig, *, pool_id: str, currency: str) -> Rails:
    """Return the ways to pay of the settings.

    Raises:
        PoolError: INVALID_ARGUMENT naming the setting that is wrong.
    """
    return make_rails(
        pool_id=pool_id,
        currency=currency,
        debtor_name=config.payout_debtor_name,
        debtor_iban=config.payout_debtor_iban,
        debtor_bic=config.payout_debtor_bic,
        debtor_town=config.payout_debtor_town,
        debtor_country=config.payout_debtor_country,
    )


def work_policy(config: ServerConfig) -> WorkPolicy:
    """Return the work's policy of the settings."""
    return WorkPolicy(
        lease_timeout_us=config.lease_timeout_s * SECOND_US,
        lease_grace_us=config.lease_grace_s * SECOND_US,
        vehicle_silence_us=config.vehicle_silence_s * SECOND_US,
        unit_answer_us=config.unit_answer_s * SECOND_US,
        network_patience_us=config.network_patience_s * SECOND_US,
        allow_level_none=config.allow_level_none,
        joules_per_wu_assumed=config.joules_per_wu_assumed,
        grid_co2_g_per_kwh=config.grid_co2_g_per_kwh,
        quarantine=QuarantineRule(rejections_max=config.quarantine_after),
        audit_rule=HistoryAuditRule(
            assumed_faulty_share=config.assumed_faulty_share,
            colluding_auditor_share=config.colluding_auditor_share,
        ),
        assumed_faulty_share=config.assumed_faulty_share,
        pool_run_uwu_max=round(config.pool_run_wu_max * UWU_PER_WU),
        pool_audit_uwu_max=round(config.pool_audit_wu_max * UWU_PER_WU),
        accept_unverified_after_us=config.accept_unverified_after_h * HOUR_US,
        class_rule=ClassAuditRule(
            assumed_faulty_share=config.assumed_faulty_class_share,
            cross_class_share=config.cross_class_audit_share,
            league_share=config.assumed_faulty_share,
        ),
        class_patience_us=config.class_patience_s * SECOND_US,
        market=market_policy(config),
    )


def market_policy(config: ServerConfig) -> MarketPolicy:
    """Return the market's policy of the settings."""
    return MarketPolicy(
        mode=PostingMode(config.price_mode),
        epoch_us=config.price_epoch_s * SECOND_US,
        rules=PriceRules(
            step_ppm=config.price_step_ppm,
            floor_micros_per_wu=config.price_floor_micros_per_wu,
            cap_micros_per_wu=config.price_cap_micros_per_wu,
        ),
        quote_lifetime_us=config.quote_lifetime_s * SECOND_US,
        assumed_speed_uwu_per_s=round(config.assumed_speed_wu_per_s * UWU_PER_WU),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolFacts:
    """What the database says of the pool before anything is served."""

    pool_id: str
    currency: str
    signing_key_ids: dict[KeyRole, str]


def read_facts(directory: PoolDirectory, config: ServerConfig) -> PoolFacts:
    """Read the pool's id, currency and the keys in use.

    Raises:
        PoolError: NOT_FOUND when there is no pool; INVALID_ARGUMENT, INVALID_STATE or UNAVAILABLE when the
            database cannot be opened.
    """
    directory.require_made(embedded=not config.database_url)
    engine = open_engine(database_url(directory, config))
    require_reachable(engine)
    try:
        if current_revision(engine) is None:
            raise PoolError(
                ErrorCode.NOT_FOUND,
                f"the database {shown_url(engine)} holds no pool",
                advice="Name the one that the pool was made in, or make a new pool with `pool-server init`.",
            )
        with engine.connect() as connection:
            settings = SqlSettingsRepository(read_only(connection))
            return PoolFacts(
                pool_id=_setting(settings, SETTING_POOL_ID),
                currency=_setting(settings, SETTING_CURRENCY),
                signing_key_ids={
                    role: _setting(settings, SETTING_SIGNING_KEY + role.value)
                    for role in KeyRole
                    if role is not KeyRole.ROOT
                },
            )
    finally:
        engine.dispose()


def database_url(directory: PoolDirectory, config: ServerConfig) -> str:
    """Return where a pool's database is: on the server that the settings name, else in the directory."""
    return config.database_url or f"sqlite:///{directory.database.resolve()}"


def url_without_password(url: str) -> str:
    """Return a database's URL as people may see it; empty for none."""
    return parse_url(url).render_as_string(hide_password=True) if url else ""


def _setting(settings: SqlSettingsRepository, key: str) -> str:
    value = settings.get(key)
    if value is None:
        raise PoolError(ErrorCode.NOT_FOUND, f"the database holds no pool: {key} is missing")
    return value


def load_keys(directory: PoolDirectory, facts: PoolFacts) -> PoolKeys:
    """Load the keys in use.

    Raises:
        PoolError: KEY_INVALID.
    """
    loaded = {
        role: directory.load_signing_key(role.value, key_id) for role, key_id in facts.signing_key_ids.items()
    }
    return PoolKeys(
        program=loaded[KeyRole.PROGRAM], lease=loaded[KeyRole.LEASE], receipt=loaded[KeyRole.RECEIPT]
    )


def load_authority(directory: PoolDirectory, *, pool_id: str) -> Authority:
    """Load the certificate authority.

    Raises:
        PoolError: KEY_INVALID.
    """
    key_pair = KeyPair(
        certificate_pem=directory.ca_certificate.read_bytes(), private_key_pem=directory.ca_key.read_bytes()
    )
    return Authority(key_pair, pool_id=pool_id)


def server_hosts(config: ServerConfig) -> list[str]:
    """Return the names and addresses that the server's certificate must cover."""
    every_interface = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    own = [] if config.host in every_interface else [config.host]
    return list(dict.fromkeys(["localhost", "127.0.0.1", *own, *config.public_host]))
