"""Reads `pain.002`: what the bank says of a payment file, of its blocks, and of single payments.

A status of a payment counts before that of its block, and the block's before the file's. Of a block or file
that is rejected, everything is; of one that is settled, everything that is not named; `PART` and the many
words for "on its way" decide nothing for what is not named.
"""

from pool_server.core.payouts.bank_report import BankReport, ReportLine, Verdict
from pool_server.rails.amounts import element_amount
from pool_server.rails.bank_xml import Element, unreadable

VERSIONS = ("pain.002.001.03", "pain.002.001.10")
#: External payment transaction status codes that decide; every other known one is news on the way.
_DECIDING = {
    "RJCT": Verdict.REJECTED,
    "CANC": Verdict.REJECTED,
    "ACSC": Verdict.SETTLED,
    "ACCC": Verdict.SETTLED,
}
_ON_ITS_WAY = frozenset(
    {
        "ACCP", "ACFC", "ACPT", "ACSP", "ACTC", "ACWC", "ACWP",
        "BLCK", "PART", "PATC", "PDNG", "PRES", "RCVD",
    }
)  # fmt: skip


def read(version: str, root: Element) -> BankReport:
    """Read a report.

    Raises:
        PoolError: INVALID_ARGUMENT when it lacks what every such report has.
    """
    report = root.first("CstmrPmtStsRpt")
    original = report.first("OrgnlGrpInfAndSts") if report else None
    if report is None or original is None:
        raise unreadable("it names no file that it reports on")
    message = original.value("OrgnlMsgId")
    if not message:
        raise unreadable("it names no file that it reports on")
    lines: list[ReportLine] = []
    group_status = original.value("GrpSts")
    for block in report.all("OrgnlPmtInfAndSts"):
        lines.extend(_block_lines(block, message, group_status))
    if group_status and (_verdict(group_status) is not Verdict.NOTED or not lines):
        lines.append(_line(original, group_status, message=message))
    if not lines:
        raise unreadable("it says nothing of any payment")
    return BankReport(format=version, message_id=report.value("GrpHdr/MsgId"), lines=tuple(lines))


def _block_lines(block: Element, message: str, group_status: str) -> list[ReportLine]:
    lines: list[ReportLine] = []
    block_status = block.value("PmtInfSts")
    inherited = block_status or group_status
    for payment in block.all("TxInfAndSts"):
        # What a rejected block holds is rejected, whatever else is said of it on the way.
        status = payment.value("TxSts") or inherited
        if inherited == "RJCT" and _verdict(status) is Verdict.NOTED:
            status = inherited
        reason_from = payment if payment.first("StsRsnInf") else block
        amount, currency = element_amount(payment.first("OrgnlTxRef/Amt/InstdAmt"))
        reference = payment.value("OrgnlEndToEndId")
        if not reference:
            raise unreadable("it speaks of a payment without its end-to-end reference")
        lines.append(
            _line(reason_from, status, reference=reference, message=message, amount=amount, currency=currency)
        )
    if block_status and (_verdict(block_status) is not Verdict.NOTED or not lines):
        lines.append(_line(block, block_status, message=message, block=block.value("OrgnlPmtInfId")))
    return lines


def _verdict(status: str) -> Verdict:
    # A word that is not known decides nothing, and must not keep the rest of the report out: it is noted, and
    # the payment stays open.
    return _DECIDING.get(status, Verdict.NOTED)


def _line(
    reasons: Element,
    status: str,
    *,
    message: str,
    reference: str = "",
    block: str = "",
    amount: int | None = None,
    currency: str = "",
) -> ReportLine:
    is_known = status in _DECIDING or status in _ON_ITS_WAY
    unknown = [] if is_known else [f"{status!r} is no status that this pool knows."]
    return ReportLine(
        verdict=_verdict(status),
        status=status,
        reference=reference,
        message=message,
        block=block,
        amount_micros=amount,
        currency=currency,
        reason_code=reasons.value("StsRsnInf/Rsn/Cd", "StsRsnInf/Rsn/Prtry"),
        reason_text=" ".join([*unknown, *(info.text.strip() for info in reasons.all("StsRsnInf/AddtlInf"))]),
    )
