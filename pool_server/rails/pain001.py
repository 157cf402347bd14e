"""The SEPA rail: ISO 20022 `pain.001.001.09`, the same bytes for the same run, held against its schema.

Refuses whatever a bank would refuse: a file leaves `render` only if every name, text and amount keeps SEPA's
rules and the XSD takes the whole. Rows that cannot be paid were left out when the run was planned; one that
is met here all the same is a broken invariant.
"""

import functools
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from pool_protocol import amounts
from pool_protocol.errors import ErrorCode, InvariantError, PoolError
from pool_protocol.money import MICROS_PER_CENT
from pool_server.core.payouts.calendar import next_target_day
from pool_server.core.payouts.details import HOLDER_NAME_CHARACTERS_MAX, iban_problem, left_out_reason
from pool_server.core.payouts.model import PayoutDetails, PayoutRow, PayoutRun
from pool_server.core.payouts.references import REFERENCE_CHARACTERS_MAX, block_id, message_id, row_number
from pool_server.core.payouts.sepa import (
    SEPA_AMOUNT_MICROS_MAX,
    SEPA_COUNTRIES,
    TOWN_CHARACTERS_MAX,
    bic_problem,
    country_problem,
    is_sepa_text,
    sepa_text_problem,
)
from pool_server.ports.money import PayoutFile

if TYPE_CHECKING:
    from xmlschema import XMLSchema

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:pain.001.001.09"
#: Payments in one block (`PmtInf`): banks book a block at once, and refuse it at once.
BLOCK_ROWS_MAX = 1_000
REMITTANCE_CHARACTERS_MAX = 140
_PROBLEMS_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Debtor:
    """The account that payouts come from. Valid once built."""

    name: str
    iban: str
    bic: str = ""
    town: str = ""
    country: str = ""

    def __post_init__(self) -> None:
        """Check all of it.

        Raises:
            PoolError: INVALID_ARGUMENT; the context's `field` is the setting.
        """
        for field, problem in (
            ("payout_debtor_name", sepa_text_problem(self.name, characters_max=HOLDER_NAME_CHARACTERS_MAX)),
            ("payout_debtor_iban", iban_problem(self.iban)),
            (
                "payout_debtor_iban",
                "" if self.iban[:2] in SEPA_COUNTRIES else "the account must be one that SEPA reaches",
            ),
            ("payout_debtor_bic", bic_problem(self.bic, iban=self.iban)),
            (
                "payout_debtor_town",
                sepa_text_problem(self.town, characters_max=TOWN_CHARACTERS_MAX) if self.town else "",
            ),
            ("payout_debtor_country", country_problem(self.country) if self.country else ""),
            (
                "payout_debtor_town",
                "" if bool(self.town) == bool(self.country) else "goes with payout_debtor_country",
            ),
        ):
            if problem:
                raise PoolError(
                    ErrorCode.INVALID_ARGUMENT, f"Setting {field}: {problem}", context={"field": field}
                )


class Pain001Rail:
    """Implements `ports.money.PayoutRail`."""

    def __init__(self, *, pool_id: str, debtor: Debtor, block_rows_max: int = BLOCK_ROWS_MAX) -> None:
        """Make the rail of one pool and its account."""
        self._pool_id = pool_id
        self._debtor = debtor
        self._block_rows_max = block_rows_max

    def render(self, run: PayoutRun, rows: Sequence[PayoutRow]) -> PayoutFile:
        """Return the file of the rows that are paid, in the order of their numbers.

        The run's `ended_at_us` is the time of its export: it dates the message, and the payments are asked
        for on the first TARGET day after it.

        Raises:
            PoolError: INVALID_ARGUMENT when the run is not in euro; PAYOUT_STATE when it pays nobody.
            InvariantError: a row cannot be paid, or the schema refuses the file.
        """
        if run.currency != "EUR":
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT, f"SEPA pays in EUR, not {run.currency}", context={"field": "rail"}
            )
        paid = sorted((row for row in rows if not row.reason), key=lambda row: row_number(row.reference))
        if not paid:
            raise PoolError(ErrorCode.PAYOUT_STATE, f"{run.text_id} pays nobody; there is nothing to export")
        for row in paid:
            _check_row(row)
        content = "".join(self._document(run, paid)).encode("ascii")
        validate(content)
        return PayoutFile(
            name=f"{run.text_id}.pain.001.xml",
            content=content,
            sha256_hex=hashlib.sha256(content).hexdigest(),
        )

    def _document(self, run: PayoutRun, paid: Sequence[PayoutRow]) -> list[str]:
        message = message_id(self._pool_id, run.payout_id)
        made_at = datetime.fromtimestamp(run.ended_at_us // 1_000_000, tz=UTC).strftime(
            "%Y-%m-%dT%H:%M:%S+00:00"
        )
        parts = [
            '<?xml version="1.0" encoding="UTF-8"?>\n',
            f'<Document xmlns="{NAMESPACE}"><CstmrCdtTrfInitn>\n',
            f"<GrpHdr><MsgId>{message}</MsgId><CreDtTm>{made_at}</CreDtTm>{_sums(paid)}",
            f"<InitgPty><Nm>{escape(self._debtor.name)}</Nm></InitgPty></GrpHdr>\n",
        ]
        for start in range(0, len(paid), self._block_rows_max):
            parts.extend(self._block(run, message, paid[start : start + self._block_rows_max]))
        parts.append("</CstmrCdtTrfInitn></Document>\n")
        return parts

    def _block(self, run: PayoutRun, message: str, rows: Sequence[PayoutRow]) -> list[str]:
        debtor = self._debtor
        name = block_id(message, row_number(rows[0].reference), row_number(rows[-1].reference))
        agent = f"<BICFI>{debtor.bic}</BICFI>" if debtor.bic else "<Othr><Id>NOTPROVIDED</Id></Othr>"
        return [
            f"<PmtInf><PmtInfId>{name}</PmtInfId><PmtMtd>TRF</PmtMtd>{_sums(rows)}",
            "<PmtTpInf><SvcLvl><Cd>SEPA</Cd></SvcLvl></PmtTpInf>",
            f"<ReqdExctnDt><Dt>{next_target_day(run.ended_at_us).isoformat()}</Dt></ReqdExctnDt>",
            f"<Dbtr><Nm>{escape(debtor.name)}</Nm>{_address(debtor.town, debtor.country)}</Dbtr>",
            f"<DbtrAcct><Id><IBAN>{debtor.iban}</IBAN></Id><Ccy>EUR</Ccy></DbtrAcct>",
            f"<DbtrAgt><FinInstnId>{agent}</FinInstnId></DbtrAgt><ChrgBr>SLEV</ChrgBr>\n",
            *(_transfer(run, row) for row in rows),
            "</PmtInf>\n",
        ]


def _sums(rows: Sequence[PayoutRow]) -> str:
    total = amounts.decimal(sum(row.amount_micros for row in rows), decimals=2)
    return f"<NbOfTxs>{len(rows)}</NbOfTxs><CtrlSum>{total}</CtrlSum>"


def _address(town: str, country: str) -> str:
    if not town:
        return ""
    return f"<PstlAdr><TwnNm>{escape(town)}</TwnNm><Ctry>{country}</Ctry></PstlAdr>"


def _transfer(run: PayoutRun, row: PayoutRow) -> str:
    agent = f"<CdtrAgt><FinInstnId><BICFI>{row.bic}</BICFI></FinInstnId></CdtrAgt>" if row.bic else ""
    return (
        f"<CdtTrfTxInf><PmtId><EndToEndId>{row.reference}</EndToEndId></PmtId>"
        f'<Amt><InstdAmt Ccy="EUR">{amounts.decimal(row.amount_micros, decimals=2)}</InstdAmt></Amt>{agent}'
        f"<Cdtr><Nm>{escape(row.holder_name)}</Nm>{_address(row.town, row.country)}</Cdtr>"
        f"<CdtrAcct><Id><IBAN>{row.iban}</IBAN></Id></CdtrAcct>"
        f"<RmtInf><Ustrd>{escape(remittance(run, row))}</Ustrd></RmtInf></CdtTrfTxInf>\n"
    )


def remittance(run: PayoutRun, row: PayoutRow) -> str:
    """Return what the owner reads on the bank statement."""
    return f"Chargepool payout {run.payout_id} for computing, reference {row.reference}"


def _check_row(row: PayoutRow) -> None:
    details = PayoutDetails(
        holder_name=row.holder_name,
        iban=row.iban,
        threshold_micros=MICROS_PER_CENT,
        town=row.town,
        country=row.country,
        bic=row.bic,
    )
    reason = left_out_reason(details, sepa=True)
    if reason is not None:
        raise InvariantError(f"{row.owner_id} cannot be paid by SEPA ({reason}) and was not left out")
    if (
        row.amount_micros % MICROS_PER_CENT
        or not MICROS_PER_CENT <= row.amount_micros <= SEPA_AMOUNT_MICROS_MAX
    ):
        raise InvariantError(f"{row.owner_id}: {row.amount_micros} micros are not an amount of SEPA")
    if not is_sepa_text(row.reference) or len(row.reference) > REFERENCE_CHARACTERS_MAX:
        raise InvariantError(f"{row.owner_id}: {row.reference!r} is no reference that a bank takes")


@functools.cache
def _schema() -> "XMLSchema":
    """Load the XSD once; it ships with `sepaxml`, whose code is not used."""
    from xmlschema import XMLSchema

    spec = find_spec("sepaxml")
    if spec is None or not spec.submodule_search_locations:
        raise InvariantError("the schemas of ISO 20022 are not installed: sepaxml is missing")
    return XMLSchema(Path(spec.submodule_search_locations[0]) / "schemas" / "pain.001.001.09.xsd")


def validate(content: bytes) -> None:
    """Check a file against the XSD.

    Raises:
        InvariantError: the schema refuses it; our own rules let something through.
    """
    problems = []
    for error in _schema().iter_errors(io.BytesIO(content)):
        problems.append(f"{error.path}: {error.reason}")
        if len(problems) == _PROBLEMS_SHOWN:
            break
    if problems:
        raise InvariantError(f"the schema refuses the bank's file: {'; '.join(problems)}")
