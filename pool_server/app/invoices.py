"""Papers for buyers: issued once per month, numbered without gaps, the same bytes ever after.

A paper is drafted in one reading, rendered outside the store, and issued in one transaction that holds the
draft's number against the last one issued: a number that another paper took meanwhile means drafting again.
"""

import hashlib
from dataclasses import dataclass

from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import HOUR_US
from pool_server.app.buyer_months import buyer_month
from pool_server.core.buyer_month import BuyerMonth, DocumentKind
from pool_server.core.particulars import Particulars
from pool_server.core.statement import month_bounds_us
from pool_server.ports.papers import ChargeRow, IssuedDocument
from pool_server.ports.unit_of_work import UnitOfWork

_PREFIXES = {DocumentKind.INVOICE: "INV", DocumentKind.USAGE_STATEMENT: "USE"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a paper would say if it were issued now."""

    month: BuyerMonth
    buyer_name: str
    """The account's name, for want of particulars."""
    particulars: Particulars
    kind: DocumentKind
    document_id: int
    """0 for a preview: the month is not over."""
    number: str
    """Empty for a preview."""
    issued_at_us: int


def draft_document(
    uow: UnitOfWork,
    *,
    buyer_id: str,
    month: str,
    kind: DocumentKind,
    charges: list[ChargeRow] | None = None,
    now_us: int,
) -> IssuedDocument | Draft:
    """Return the paper of a month that was issued already, or what it would say.

    Raises:
        PoolError: INVALID_ARGUMENT for something that is not a month, or one that has not begun; NOT_FOUND
            when nothing was paid or used in it.
    """
    from_us, until_us = month_bounds_us(month)
    if from_us > now_us:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"{month} has not begun yet", context={"field": "month"})
    issued = uow.papers.document(buyer_id, month)
    if issued is not None:
        return issued
    figures = buyer_month(uow, buyer_id=buyer_id, month=month, charges=charges)
    if figures.is_empty:
        raise PoolError(ErrorCode.NOT_FOUND, f"{buyer_id} paid and used nothing in {month}")
    is_over = is_settled(uow, until_us, now_us=now_us)
    document_id = uow.papers.next_document_id() if is_over else 0
    principal = uow.identity.principal(buyer_id)
    return Draft(
        month=figures,
        buyer_name=principal.name if principal else "",
        particulars=uow.particulars.get(buyer_id),
        kind=kind,
        document_id=document_id,
        number=f"{_PREFIXES[kind]}-{month[:4]}-{document_id:06d}" if is_over else "",
        issued_at_us=now_us,
    )


def is_settled(uow: UnitOfWork, until_us: int, *, now_us: int) -> bool:
    """Say whether nothing can be booked any more before a moment: a paper about the time before is complete.

    A settlement of that time may still wait for its turn when the moment has passed. Once anything is booked
    after it nothing is booked before it, for the books' time never goes back; in a pool where nothing
    happens, an hour is longer than any command waits.
    """
    if now_us < until_us:
        return False
    return uow.ledger.head().recorded_at_us >= until_us or now_us >= until_us + HOUR_US


def issue_document(uow: UnitOfWork, *, draft: Draft, pdf: bytes, csv: bytes) -> IssuedDocument:
    """Issue a drafted paper; if the month was issued meanwhile, return that one.

    Raises:
        PoolError: CONFLICT when its number was taken meanwhile: draft again. INVALID_STATE for a preview.
    """
    if not draft.document_id:
        raise PoolError(ErrorCode.INVALID_STATE, f"{draft.month.month} is not over yet")
    issued = uow.papers.document(draft.month.buyer_id, draft.month.month)
    if issued is not None:
        return issued
    if uow.papers.next_document_id() != draft.document_id:
        raise PoolError(ErrorCode.CONFLICT, f"number {draft.number} was taken meanwhile")
    document = IssuedDocument(
        document_id=draft.document_id,
        buyer_id=draft.month.buyer_id,
        month=draft.month.month,
        kind=draft.kind.value,
        number=draft.number,
        total_micros=draft.month.cost_micros,
        pdf=pdf,
        pdf_sha256=hashlib.sha256(pdf).hexdigest(),
        csv=csv,
        csv_sha256=hashlib.sha256(csv).hexdigest(),
        issued_at_us=draft.issued_at_us,
    )
    uow.papers.issue(document)
    return document
