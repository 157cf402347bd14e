"""Receipts: one per accepted attempt, signed once per command, and handed out with their proofs."""

from collections.abc import Sequence
from dataclasses import dataclass

from pool_protocol.digests import inclusion_proofs, merkle_root
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.limits import DAY_US
from pool_server.core.settlement import AttemptSettlement, Pay
from pool_server.ports.money import DayRow, ReceiptBatch, ReceiptFields, ReceiptHead, ReceiptRow
from pool_server.ports.unit_of_work import UnitOfWork

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A receipt with all that is needed to verify it offline."""

    receipt: bytes
    """Serialized, exactly as hashed."""
    leaf_index: int
    inclusion_path: tuple[bytes, ...]
    signed_batch: bytes
    """The serialized envelope of its batch."""
    attempt_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptPage:
    """Part of a list of receipts."""

    receipts: tuple[Proven, ...]
    next_page_token: str
    """Empty at the end."""


def write_receipts(
    uow: UnitOfWork,
    items: Sequence[AttemptSettlement],
    pays: Sequence[Pay],
    transfer_ids: Sequence[int],
    *,
    last: ReceiptHead,
    verified_at_us: int,
) -> None:
    """Write and sign one batch of receipts behind `last`, and add to the daily sums.

    Raises:
        InvariantError: an attempt has a receipt already.
    """
    batch_id = last.batch_id + 1
    issuer = uow.receipts.issuer
    rows: list[ReceiptRow] = []
    days: dict[tuple[str, str], list[int]] = {}
    receipt_id = last.receipt_id
    for item, (gross_micros, fee_micros, net_micros), transfer_id in zip(
        items, pays, transfer_ids, strict=True
    ):
        receipt_id += 1
        # By position, in the order of the fields: this runs once per attempt.
        leaf = issuer.encode(
            ReceiptFields(
                item.attempt_id,
                item.owner_id,
                item.vehicle_id,
                item.job_id,
                item.task_index,
                item.program_sha256,
                item.output_digest,
                item.work_uwu,
                item.price_micros_per_wu,
                gross_micros,
                fee_micros,
                net_micros,
                verified_at_us,
                transfer_id,
            )
        )
        rows.append(
            ReceiptRow(
                receipt_id,
                batch_id,
                item.attempt_id,
                transfer_id or None,
                item.owner_id,
                item.vehicle_id,
                item.job_id,
                item.work_uwu,
                item.price_micros_per_wu,
                gross_micros,
                fee_micros,
                net_micros,
                verified_at_us,
                leaf,
            )
        )
        sums = days.setdefault((item.owner_id, item.vehicle_id), [0, 0, 0, 0, 0])
        sums[0] += 1
        sums[1] += item.work_uwu
        sums[2] += gross_micros
        sums[3] += fee_micros
        sums[4] += net_micros
    root = merkle_root([row.receipt for row in rows])
    batch = ReceiptBatch(
        batch_id=batch_id,
        first_receipt_id=last.receipt_id + 1,
        leaf_count=len(rows),
        merkle_root=root,
        signed=issuer.sign_batch(batch_id=batch_id, root=root, count=len(rows), now_us=verified_at_us),
        signed_at_us=verified_at_us,
    )
    day = verified_at_us // DAY_US
    uow.receipts.append(
        batch,
        rows,
        [DayRow(owner_id, day, vehicle_id, *sums) for (owner_id, vehicle_id), sums in days.items()],
    )


def list_receipts(
    uow: UnitOfWork, *, owner_id: str, vehicle_id: str = "", page_size: int = 0, page_token: str = ""
) -> ReceiptPage:
    """Return an owner's receipts with proofs, newest first. Page size 0 means 100; over 1000 is cut.

    Raises:
        PoolError: INVALID_ARGUMENT for a page token that this pool did not make.
    """
    size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    rows = uow.receipts.by_owner(
        owner_id, before_receipt_id=_parse_token(page_token), vehicle_id=vehicle_id, limit=size + 1
    )
    has_more = len(rows) > size
    page = rows[:size]
    return ReceiptPage(
        receipts=tuple(prove(uow, page)), next_page_token=str(page[-1].receipt_id) if has_more else ""
    )


def receipts_of_attempts(uow: UnitOfWork, attempt_ids: Sequence[int]) -> dict[int, Proven]:
    """Return the receipts of those attempts that have one, with proofs, by attempt."""
    return {proven.attempt_id: proven for proven in prove(uow, uow.receipts.by_attempts(attempt_ids))}


def prove(uow: UnitOfWork, rows: Sequence[ReceiptRow]) -> list[Proven]:
    """Return receipts with their proofs, in the order given; each batch is hashed once."""
    batches = uow.receipts.batches({row.batch_id for row in rows})
    wanted: dict[int, list[int]] = {}
    for row in rows:
        wanted.setdefault(row.batch_id, []).append(row.receipt_id - batches[row.batch_id].first_receipt_id)
    paths: dict[tuple[int, int], tuple[bytes, ...]] = {}
    for batch_id, indexes in wanted.items():
        leaves = uow.receipts.leaves(batches[batch_id])
        for index, path in zip(indexes, inclusion_proofs(leaves, indexes), strict=True):
            paths[batch_id, index] = path
    proven = []
    for row in rows:
        batch = batches[row.batch_id]
        index = row.receipt_id - batch.first_receipt_id
        proven.append(
            Proven(
                receipt=row.receipt,
                leaf_index=index,
                inclusion_path=paths[row.batch_id, index],
                signed_batch=batch.signed,
                attempt_id=row.attempt_id,
            )
        )
    return proven


def _parse_token(token: str) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdigit() and len(token) <= 18 and int(token) > 0):
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT, "not a page token of this list", context={"field": "page_token"}
        )
    return int(token)
