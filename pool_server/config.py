"""The server's settings: `pool.toml`, overridden by the environment, overridden by flags.

Every key is a field of `ServerConfig` with its default, its bounds and its explanation; `pool-server init`
writes them all into `pool.toml`, and a key that is not a field is refused. Limits that both sides of the wire
must agree on are not settings: they stand in `pool_protocol.limits`.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US, LEASE_LIFETIME_US_MAX, LEASE_LIFETIME_US_MIN, SECOND_US
from pool_server.core.pricing.orders import PRICE_MICROS_PER_WU_MAX

#: An environment variable is this and the key in upper case: CHARGEPOOL_SERVER_API_PORT.
ENVIRONMENT_PREFIX = "CHARGEPOOL_SERVER_"
_CONFIG_BYTES_MAX = 1 << 20

T = TypeVar("T", bool, int, float, str, tuple[str, ...])


def _key(
    default: T,
    doc: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    one_of: tuple[str, ...] = (),
    secret: bool = False,
) -> T:
    value: T = field(
        default=default,
        repr=not secret,
        metadata={"doc": doc, "at_least": at_least, "at_most": at_most, "one_of": one_of},
    )
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What an operator can set. Valid once built.

    Raises:
        PoolError: INVALID_ARGUMENT naming the field that is out of bounds.
    """

    host: str = _key("127.0.0.1", "Address to listen on; 0.0.0.0 for all.")
    api_port: int = _key(
        7443,
        "Port for owners, buyers, operators and enrolment; 0 takes a free one.",
        at_least=0,
        at_most=65535,
    )
    fleet_port: int = _key(
        7444, "Port for vehicles (mutual TLS); 0 takes a free one.", at_least=0, at_most=65535
    )
    public_host: tuple[str, ...] = _key(
        (), "Names or addresses under which clients reach this server; they go into its certificate."
    )
    database_url: str = _key(
        "",
        "PostgreSQL instead of the embedded database: postgresql://user@host/database. With a password, set "
        "it in the environment alone: CHARGEPOOL_SERVER_DATABASE_URL.",
        secret=True,
    )
    posted_price_micros_per_wu: int = _key(
        20,
        "Price per work unit, in millionths of the currency, from which the pool begins.",
        at_least=0,
        at_most=PRICE_MICROS_PER_WU_MAX,
    )
    price_mode: str = _key(
        "auction",
        "Who moves the price: auction (each epoch, by a step at most) or fixed (the operator only), until "
        "`pool-server price set` or `price follow` says otherwise.",
        one_of=("auction", "fixed"),
    )
    price_epoch_s: int = _key(
        900,
        "Time between two auctions of the price, seconds; they are held at full multiples of it, UTC.",
        at_least=10,
        at_most=86_400,
    )
    price_step_ppm: int = _key(
        200_000,
        "The most that the price moves in one epoch, parts per million of itself; a micro-unit at least.",
        at_least=1,
        at_most=1_000_000,
    )
    price_floor_micros_per_wu: int = _key(
        1, "The auction never posts a price below this.", at_least=0, at_most=PRICE_MICROS_PER_WU_MAX
    )
    price_cap_micros_per_wu: int = _key(
        PRICE_MICROS_PER_WU_MAX,
        "The auction never posts a price above this; the default is the highest that can be counted.",
        at_least=0,
        at_most=PRICE_MICROS_PER_WU_MAX,
    )
    quote_lifetime_s: int = _key(
        900,
        "How long a quote may be taken, seconds; a job that took it in time keeps its price to the end.",
        at_least=1,
        at_most=86_400,
    )
    assumed_speed_wu_per_s: float = _key(
        0.1,
        "What a vehicle counts for in the auction before it has computed, WU per second; a processor core "
        "does 0.05 to 0.1.",
        at_least=0.0,
        at_most=1_000_000.0,
    )
    fee_ppm: int = _key(
        100_000, "The pool's fee on verified work, parts per million.", at_least=0, at_most=999_999
    )
    dispute_window_s: int = _key(
        86_400, "How long verified money is held before it can be paid out, seconds.", at_least=0
    )
    payout_schedule: str = _key(
        "weekly", "How often payout runs are announced to owners.", one_of=("none", "daily", "weekly")
    )
    payout_debtor_name: str = _key(
        "", "Holder of the account that payouts come from, for SEPA files; empty: payouts are tables (CSV)."
    )
    payout_debtor_iban: str = _key("", "IBAN of the account that payouts come from.")
    payout_debtor_bic: str = _key("", "BIC of that account's bank; may stay empty.")
    payout_debtor_town: str = _key("", "Town of the account's holder; may stay empty, with the country.")
    payout_debtor_country: str = _key("", "Country of the account's holder, two letters.")
    lease_timeout_s: int = _key(
        600,
        "How long a vehicle may take for a lease, seconds.",
        at_least=LEASE_LIFETIME_US_MIN // SECOND_US,
        at_most=LEASE_LIFETIME_US_MAX // SECOND_US,
    )
    lease_grace_s: int = _key(
        15,
        "How long after its end a lease still counts before its tasks go to others, seconds.",
        at_least=0,
        at_most=3600,
    )
    vehicle_silence_s: int = _key(
        900, "A vehicle not heard of for this long counts as lost, seconds.", at_least=10
    )
    assumed_faulty_share: float = _key(
        0.2,
        "Share of wrong work that audits are sized for; 1.0 keeps the promise against any share.",
        at_least=0.001,
        at_most=1.0,
    )
    cross_class_audit_share: float = _key(
        0.05,
        "Share of audits that go to another numeric class or a trusted node, where the comparator allows it.",
        at_least=0.0,
        at_most=1.0,
    )
    assumed_faulty_class_share: float = _key(
        0.01,
        "Share of work of numeric classes that are wrong as a whole that confirmations by other classes are "
        "sized for.",
        at_least=0.0001,
        at_most=1.0,
    )
    class_patience_s: int = _key(
        30,
        "How long a result waits for a vehicle of the numeric class that should check it, seconds.",
        at_least=0,
        at_most=86_400,
    )
    unit_answer_s: int = _key(
        3 * 86_400,
        "How long a vehicle may take to answer for a state of a step task that it signed, seconds; silence "
        "then counts as a wrong result.",
        at_least=1,
        at_most=20 * 86_400,
    )
    network_patience_s: int = _key(
        60,
        "How long a result waits to be checked by a vehicle of another network (IPv4 /24, IPv6 /48; private "
        "addresses, and that of a proxy in front, are none), seconds; then others may. 0: not at all.",
        at_least=0,
        at_most=86_400,
    )
    colluding_auditor_share: float = _key(
        0.2,
        "Share of auditors assumed to be in league with the audited; more auditors are asked of newcomers.",
        at_least=0.0,
        at_most=0.9,
    )
    pool_run_wu_max: float = _key(
        20.0,
        "Largest task, in WU, that the pool computes itself when results of it contradict each other; of "
        "larger ones owners decide. One WU is 10 to 20 s of one processor core. 0: none is.",
        at_least=0.0,
        at_most=1_000.0,
    )
    pool_audit_wu_max: float = _key(
        1.0,
        "Largest task, in WU, that the pool computes itself instead of asking several auditors of a "
        "newcomer; 0: none is.",
        at_least=0.0,
        at_most=1_000.0,
    )
    accept_unverified_after_h: int = _key(
        24,
        "Hours after which a result that nobody else could check is accepted and paid at the pool's risk.",
        at_least=1,
        at_most=600,
    )
    quarantine_after: int = _key(
        1, "Rejected results after which a vehicle is put in quarantine.", at_least=1
    )
    allow_level_none: bool = _key(
        False, "Whether buyers may ask for no verification at all (for benchmarks and own fleets)."
    )
    joules_per_wu_assumed: float = _key(
        60.0,
        "Energy of one work unit, joules, that quotes assume while no car has reported any (a 60 W computer "
        "that makes 1 TFLOP/s).",
        at_least=0.05,
        at_most=5_000.0,
    )
    grid_co2_g_per_kwh: float = _key(
        240.0,
        "CO2 of the grid where the cars charge, grams per kWh, for estimates in quotes.",
        at_least=0.0,
        at_most=2_000.0,
    )
    legal_name: str = _key("", "The pool's name on papers; empty: its id.")
    legal_address: tuple[str, ...] = _key((), "Address on papers, line by line.")
    legal_vat_id: str = _key("", "The pool's VAT number on papers.")
    paper_terms: tuple[str, ...] = _key((), "Paragraphs at the end of statements and invoices.")
    buyer_document: str = _key(
        "usage_statement",
        "What buyers are given each month: a statement of what became of their deposits, or an invoice.",
        one_of=("usage_statement", "invoice"),
    )
    vat_ppm: int = _key(
        0,
        "Rate of value added tax that invoices say is included, parts per million; 0: none is stated.",
        at_least=0,
        at_most=500_000,
    )
    dac7_activity: str = _key(
        "unclassified",
        "How yearly DAC7 totals classify what owners do; a decision of yours, with your adviser.",
        one_of=(
            *("unclassified", "not_relevant", "personal_service", "rental_of_transport"),
            *("rental_of_immovable_property", "sale_of_goods"),
        ),
    )
    form_1099: str = _key(
        "1099-MISC",
        "Which form yearly 1099 totals are for; none where payments by card are reported by their provider.",
        one_of=("1099-MISC", "1099-NEC", "1099-K", "none"),
    )
    form_1099_threshold_units: int = _key(
        2_000,
        "Payments of a year from which a 1099-MISC or 1099-NEC is due, whole units (2,000 USD for 2026).",
        at_least=0,
    )
    form_1099k_threshold_units: int = _key(
        20_000, "Payments of a year above which a 1099-K is due, whole units.", at_least=0
    )
    form_1099k_payments_over: int = _key(
        200, "Number of payments of a year above which a 1099-K is due.", at_least=0
    )
    admission_queue_max: int = _key(
        8, "Programs that may wait to be vetted; more are asked to come back.", at_least=1, at_most=1000
    )
    upload_bytes_per_holder_max: int = _key(
        16 * 2**30, "Bytes of blobs that one buyer or vehicle may keep here.", at_least=2**20
    )
    streams_max: int = _key(
        10_000, "Vehicles that may hold an exchange stream at once.", at_least=1, at_most=1_000_000
    )
    sweep_interval_s: float = _key(
        1.0,
        "How often expired leases, jobs and held money are looked at, seconds.",
        at_least=0.05,
        at_most=3600.0,
    )
    log_head_interval_s: float = _key(
        30.0,
        "How often a head of the log of receipts is signed while receipts are written, seconds.",
        at_least=0.0,
        at_most=3600.0,
    )
    drain_grace_s: float = _key(
        10.0, "How long running calls may finish when the server stops, seconds.", at_least=0.0, at_most=600.0
    )
    reflection: bool = _key(False, "Whether the API listener answers gRPC reflection.")
    log_json: bool = _key(False, "Whether log lines are JSON.")

    @property
    def payout_schedule_us(self) -> int:
        """The span between two announced payout runs, microseconds; 0 for none."""
        return {"none": 0, "daily": DAY_US, "weekly": 7 * DAY_US}[self.payout_schedule]

    def __post_init__(self) -> None:
        """Check every bound."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            at_least, at_most = entry.metadata["at_least"], entry.metadata["at_most"]
            one_of = entry.metadata["one_of"]
            if at_least is not None and value < at_least:
                raise _invalid(entry.name, f"must be at least {at_least}, not {value}")
            if at_most is not None and value > at_most:
                raise _invalid(entry.name, f"must be at most {at_most}, not {value}")
            if one_of and value not in one_of:
                raise _invalid(entry.name, f"must be one of {', '.join(one_of)}, not {value!r}")
        if self.price_floor_micros_per_wu > self.price_cap_micros_per_wu:
            raise _invalid(
                "price_floor_micros_per_wu",
                f"must not be above price_cap_micros_per_wu, which is {self.price_cap_micros_per_wu}",
            )


def _invalid(key: str, why: str) -> PoolError:
    return PoolError(
        ErrorCode.INVALID_ARGUMENT,
        f"Setting {key}: {why}",
        context={"field": key},
        advice="Correct it in pool.toml, or where it was given: an option of `run`, or a variable "
        "CHARGEPOOL_SERVER_<KEY>.",
    )


def explain(key: str) -> str:
    """Return what a key means."""
    doc: str = next(entry.metadata["doc"] for entry in fields(ServerConfig) if entry.name == key)
    return doc


def load_config(
    path: Path | None, *, environment: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> ServerConfig:
    """Read the settings: defaults, then the file, then the environment, then flags.

    Args:
        path: `pool.toml`; None or a missing file means defaults.
        environment: The process's environment.
        overrides: Values of flags by key; None values were not given.

    Raises:
        PoolError: INVALID_ARGUMENT for an unreadable file, an unknown key, a wrong type or a value out of
            bounds.
    """
    values: dict[str, Any] = {}
    if path is not None and path.exists():
        values |= _read_file(path)
    values |= _read_environment(environment)
    values |= {key: value for key, value in (overrides or {}).items() if value is not None}
    return config_from(values)


def config_from(values: Mapping[str, Any]) -> ServerConfig:
    """Build settings from plain values by key.

    Raises:
        PoolError: INVALID_ARGUMENT for an unknown key, a wrong type or a value out of bounds.
    """
    known = {entry.name: entry for entry in fields(ServerConfig)}
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise _invalid(key, f"there is no such setting; known are {', '.join(sorted(known))}")
        checked[key] = _typed(key, value, known[key].default)
    return ServerConfig(**checked)


def _typed(key: str, value: Any, default: Any) -> Any:
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value)
        raise _invalid(key, "must be a list of strings")
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise _invalid(key, f"must be {_type_name(default)}, not {value!r}")
    return value


def _type_name(value: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[type(value)]


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        if len(content) > _CONFIG_BYTES_MAX:
            raise _invalid(str(path), "the file is too large")
        return tomllib.loads(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _invalid(str(path), f"the file cannot be read: {error}") from error


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for entry in fields(ServerConfig):
        text = environment.get(ENVIRONMENT_PREFIX + entry.name.upper())
        if text is not None:
            values[entry.name] = _parse_text(entry.name, text, entry.default)
    return values


def _parse_text(key: str, text: str, default: Any) -> Any:
    if isinstance(default, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    if isinstance(default, bool):
        if text.lower() in {"1", "true", "yes"}:
            return True
        if text.lower() in {"0", "false", "no"}:
            return False
        raise _invalid(key, f"must be true or false, not {text!r}")
    if isinstance(default, str):
        return text
    try:
        return type(default)(text)
    except ValueError as error:
        raise _invalid(key, f"must be {_type_name(default)}, not {text!r}") from error


def render_config(config: ServerConfig) -> str:
    """Write settings as `pool.toml`, each key under its explanation."""
    lines = [
        "# Settings of this pool. Every key with its meaning; an unknown key is refused.",
        f"# Each can be overridden by the environment: {ENVIRONMENT_PREFIX}<KEY>.",
        "",
    ]
    for entry in fields(config):
        lines += [f"# {entry.metadata['doc']}", f"{entry.name} = {_toml(getattr(config, entry.name))}", ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # TOML reads the same escapes
    return repr(value)
