"""Reads `camt.054`: what was booked on the pool's account.

A booked debit with one of our references says that the bank has paid; a booked credit with one, that the
money came back, if the bank calls it a return or a reversal (anyone can pay us and quote a reference). A
debit for a whole block, without its payments, counts for all of them if the amount is theirs. Bookings
without a reference or block (deposits, fees) are no news of payouts and are left out.
"""

from pool_server.core.payouts.bank_report import BankReport, ReportLine, Verdict
from pool_server.rails.amounts import element_amount
from pool_server.rails.bank_xml import Element, unreadable

VERSIONS = ("camt.054.001.02", "camt.054.001.08")
_NO_REFERENCE = frozenset({"", "NOTPROVIDED"})


def read(version: str, root: Element) -> BankReport:
    """Read a notification.

    Raises:
        PoolError: INVALID_ARGUMENT when it lacks what every such notification has.
    """
    notification = root.first("BkToCstmrDbtCdtNtfctn")
    if notification is None:
        raise unreadable("it holds no notification")
    lines = [line for entry in notification.all("Ntfctn/Ntry") for line in _entry_lines(entry)]
    return BankReport(format=version, message_id=notification.value("GrpHdr/MsgId"), lines=tuple(lines))


def _entry_lines(entry: Element) -> list[ReportLine]:
    lines: list[ReportLine] = []
    for details in entry.all("NtryDtls"):
        payments = details.all("TxDtls")
        lines.extend(
            _payment_line(entry, payment, is_alone=len(payments) == 1)
            for payment in payments
            if _reference(payment)
        )
        if not payments and details.value("Btch/PmtInfId"):
            lines.append(_block_line(entry, details))
    return lines


def _reference(payment: Element) -> str:
    reference = payment.value("Refs/EndToEndId")
    return "" if reference in _NO_REFERENCE else reference


def _payment_line(entry: Element, payment: Element, *, is_alone: bool) -> ReportLine:
    stated = (
        payment.first("Amt")
        or payment.first("AmtDtls/TxAmt/Amt")
        or payment.first("AmtDtls/InstdAmt/Amt")
        or (entry.first("Amt") if is_alone else None)
    )
    amount, currency = element_amount(stated)
    status, verdict = _what(entry, payment.value("CdtDbtInd") or entry.value("CdtDbtInd"))
    if amount is None:
        status, verdict = f"{status} without an amount", Verdict.NOTED
    elif verdict is Verdict.RETURNED and not _is_return(entry, payment):
        status, verdict = f"{status}, no return", Verdict.NOTED
    return ReportLine(
        verdict=verdict,
        status=status,
        reference=_reference(payment),
        amount_micros=amount,
        currency=currency,
        reason_code=payment.value("RtrInf/Rsn/Cd", "RtrInf/Rsn/Prtry"),
        reason_text=" ".join(info.text.strip() for info in payment.all("RtrInf/AddtlInf")),
    )


def _is_return(entry: Element, payment: Element | None) -> bool:
    family = "BkTxCd/Domn/Fmly/SubFmlyCd"
    if payment is not None and (payment.first("RtrInf") is not None or payment.value(family) == "RRTN"):
        return True
    return _is_reversal(entry) or entry.value(family) == "RRTN"


def _is_reversal(entry: Element) -> bool:
    return entry.value("RvslInd") in ("true", "1")


def _block_line(entry: Element, details: Element) -> ReportLine:
    amount, currency = element_amount(details.first("Btch/TtlAmt") or entry.first("Amt"))
    status, verdict = _what(entry, details.value("Btch/CdtDbtInd") or entry.value("CdtDbtInd"))
    if amount is None:
        status, verdict = f"{status} without an amount", Verdict.NOTED
    elif verdict is Verdict.RETURNED and not _is_return(entry, None):
        status, verdict = f"{status}, no return", Verdict.NOTED
    return ReportLine(
        verdict=verdict,
        status=status,
        block=details.value("Btch/PmtInfId"),
        amount_micros=amount,
        currency=currency,
    )


def _what(entry: Element, direction: str) -> tuple[str, Verdict]:
    """Return the bank's words and what they mean: a debit pays, a credit brings back."""
    booked = entry.value("Sts/Cd", "Sts")
    if direction not in ("DBIT", "CRDT") or not booked:
        raise unreadable("a booking is neither debit nor credit, or does not say whether it is booked")
    is_reversal = _is_reversal(entry)
    words = f"{booked} {direction}" + (" reversal" if is_reversal else "")
    if booked != "BOOK":
        return words, Verdict.NOTED
    if direction == "DBIT":
        return words, Verdict.NOTED if is_reversal else Verdict.SETTLED
    return words, Verdict.RETURNED
