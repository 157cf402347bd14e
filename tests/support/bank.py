"""A bank on the other side of a payout: reads our pain.001 and reports in every format that we read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

URN = "urn:iso:std:iso:20022:tech:xsd:"
_NS = {"p": f"{URN}pain.001.001.09"}


@dataclass(frozen=True, kw_only=True)
class Payment:
    """One payment as the bank got it."""

    block: str
    reference: str
    amount: str
    name: str
    iban: str
    town: str

    @property
    def cents(self) -> int:
        return int(self.amount.replace(".", ""))


@dataclass(frozen=True, kw_only=True)
class Order:
    """A payment file as the bank got it."""

    message: str
    count: int
    control_cents: int
    block_sums: dict[str, tuple[int, int]]
    """Number of payments and cents that each block claims."""
    execution_date: str
    payments: tuple[Payment, ...]

    def cents(self, references: Iterable[str] | None = None) -> int:
        wanted = None if references is None else set(references)
        return sum(p.cents for p in self.payments if wanted is None or p.reference in wanted)


def _cents(text: str) -> int:
    whole, _, rest = text.partition(".")
    assert len(rest) == 2
    return int(whole + rest)


def _text(element: ET.Element, path: str) -> str:
    found = element.find(path, _NS)
    return "" if found is None or found.text is None else found.text


def read_order(content: bytes) -> Order:
    """Read our file with another XML library than it is read with anywhere else."""
    root = ET.fromstring(content)  # noqa: S314 - our own file
    blocks = root.findall(".//p:PmtInf", _NS)
    payments = [
        Payment(
            block=_text(block, "p:PmtInfId"),
            reference=_text(payment, "p:PmtId/p:EndToEndId"),
            amount=_text(payment, "p:Amt/p:InstdAmt"),
            name=_text(payment, "p:Cdtr/p:Nm"),
            iban=_text(payment, "p:CdtrAcct/p:Id/p:IBAN"),
            town=_text(payment, "p:Cdtr/p:PstlAdr/p:TwnNm"),
        )
        for block in blocks
        for payment in block.findall("p:CdtTrfTxInf", _NS)
    ]
    return Order(
        message=_text(root, ".//p:GrpHdr/p:MsgId"),
        count=int(_text(root, ".//p:GrpHdr/p:NbOfTxs")),
        control_cents=_cents(_text(root, ".//p:GrpHdr/p:CtrlSum")),
        block_sums={
            _text(block, "p:PmtInfId"): (int(_text(block, "p:NbOfTxs")), _cents(_text(block, "p:CtrlSum")))
            for block in blocks
        },
        execution_date=_text(blocks[0], "p:ReqdExctnDt/p:Dt") if blocks else "",
        payments=tuple(payments),
    )


def reason(code: str, words: str = "") -> str:
    if not code and not words:
        return ""
    said = f"<AddtlInf>{escape(words)}</AddtlInf>" if words else ""
    coded = f"<Rsn><Cd>{code}</Cd></Rsn>" if code else ""
    return f"<StsRsnInf>{coded}{said}</StsRsnInf>"


def status_report(
    order: Order,
    statuses: Mapping[str, tuple[str, str]],
    *,
    version: str = "pain.002.001.10",
    group: str = "",
    blocks: Mapping[str, tuple[str, str]] | None = None,
    with_amounts: bool = True,
    message: str = "",
) -> bytes:
    """Write a pain.002.

    Args:
        order: What it is about.
        statuses: Status and reason code by reference.
        version: Which pain.002.
        group: Status of the whole file; empty for none.
        blocks: Status and reason code by block.
        with_amounts: Whether payments are described (`OrgnlTxRef`).
        message: Another original message than the order's.
    """
    in_block: dict[str, list[str]] = {}
    known = {payment.reference: payment for payment in order.payments}
    for reference, (status, code) in statuses.items():
        payment = known.get(reference)
        amount = payment.amount if payment else "1.00"
        described = (
            f'<OrgnlTxRef><Amt><InstdAmt Ccy="EUR">{amount}</InstdAmt></Amt></OrgnlTxRef>'
            if with_amounts
            else ""
        )
        said = f"<TxSts>{status}</TxSts>" if status else ""
        in_block.setdefault(payment.block if payment else "unknown", []).append(
            f"<TxInfAndSts><OrgnlEndToEndId>{escape(reference)}</OrgnlEndToEndId>{said}{reason(code)}"
            f"{described}</TxInfAndSts>"
        )
    for block in blocks or {}:
        in_block.setdefault(block, [])
    parts = []
    for block, lines in in_block.items():
        status, code = (blocks or {}).get(block, ("", ""))
        said = f"<PmtInfSts>{status}</PmtInfSts>{reason(code)}" if status else ""
        parts.append(
            f"<OrgnlPmtInfAndSts><OrgnlPmtInfId>{block}</OrgnlPmtInfId>{said}{''.join(lines)}</OrgnlPmtInfAndSts>"
        )
    group_said = f"<GrpSts>{group}</GrpSts>" if group else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Document xmlns="{URN}{version}"><CstmrPmtStsRpt>'
        "<GrpHdr><MsgId>BANK-1</MsgId><CreDtTm>2026-11-26T06:00:00</CreDtTm></GrpHdr>"
        f"<OrgnlGrpInfAndSts><OrgnlMsgId>{message or order.message}</OrgnlMsgId>"
        f"<OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>{group_said}</OrgnlGrpInfAndSts>"
        f"{''.join(parts)}</CstmrPmtStsRpt></Document>"
    ).encode()


def booking(
    payments: Sequence[Payment],
    *,
    direction: str = "DBIT",
    code: str = "",
    booked: str = "BOOK",
    version: str = "camt.054.001.08",
    with_details: bool = True,
) -> str:
    """Write one entry (`Ntry`) of a camt.054."""
    total = sum(payment.cents for payment in payments)
    status = f"<Sts>{booked}</Sts>" if version.endswith("02") else f"<Sts><Cd>{booked}</Cd></Sts>"
    entry = f'<Amt Ccy="EUR">{total // 100}.{total % 100:02d}</Amt><CdtDbtInd>{direction}</CdtDbtInd>{status}'
    if not with_details:
        block = payments[0].block
        return f"<Ntry>{entry}<NtryDtls><Btch><PmtInfId>{block}</PmtInfId></Btch></NtryDtls></Ntry>"
    back = f"<RtrInf><Rsn><Cd>{code}</Cd></Rsn></RtrInf>" if code else ""
    details = "".join(
        f"<TxDtls><Refs><EndToEndId>{payment.reference}</EndToEndId></Refs>"
        f"{_stated(payment, direction, version)}{back}</TxDtls>"
        for payment in payments
    )
    return f"<Ntry>{entry}<NtryDtls>{details}</NtryDtls></Ntry>"


def _stated(payment: Payment, direction: str, version: str) -> str:
    amount = f'<Amt Ccy="EUR">{payment.amount}</Amt>'
    if version.endswith("02"):
        return f"<AmtDtls><TxAmt>{amount}</TxAmt></AmtDtls>"
    return f"{amount}<CdtDbtInd>{direction}</CdtDbtInd>"


def notification(entries: Sequence[str], *, version: str = "camt.054.001.08") -> bytes:
    """Write a camt.054 of these entries."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Document xmlns="{URN}{version}"><BkToCstmrDbtCdtNtfctn>'
        "<GrpHdr><MsgId>BANK-2</MsgId><CreDtTm>2026-11-27T06:00:00</CreDtTm></GrpHdr>"
        f"<Ntfctn><Id>1</Id>{''.join(entries)}</Ntfctn></BkToCstmrDbtCdtNtfctn></Document>"
    ).encode()
