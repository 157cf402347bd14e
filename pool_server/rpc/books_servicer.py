"""BooksService: the books as those see them who keep and check them.

What reads much reads in steps, each a short query, and says between them how far it is; one step at a time in
the whole server, so that the store's readers are never all taken. A check needs one snapshot and is one long
read; it takes its turn with the others of that kind.
"""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from pool_protocol import limits
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.ids import ROW_ID_MAX
from pool_protocol.v1 import books_service_pb2 as pb
from pool_protocol.v1 import books_service_pb2_grpc
from pool_server.app.account_reading import (
    HISTORY_DEFAULT,
    HistoryLine,
    Reading,
    balance_micros,
    begin_history,
    begin_reading,
    counters_of,
    history_back,
    last_transfer_before,
    read_on,
)
from pool_server.app.books_export import (
    PIECE_TRANSFERS,
    JournalFormat,
    JournalPiece,
    MakeJournal,
    books_snapshot,
    journal_piece,
)
from pool_server.app.earnings import list_accounts
from pool_server.app.entries import (
    ProposeEntry,
    approve_entry,
    list_entries,
    propose_entry,
    withdraw_entry,
)
from pool_server.app.ledger_check import LedgerReport, check_ledger
from pool_server.core.ledger.about import about, code_name
from pool_server.core.ledger.chart import NATURE
from pool_server.core.ledger.entries import Entry, parse_entry_id
from pool_server.core.ledger.model import Account, AccountCode, AccountState, TransferKind
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc import convert_account
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.convert_work import invalid
from pool_server.rpc.paging import page_size, row_token, row_token_text
from pool_server.rpc.store_access import StoreAccess

_Context = Any
T = TypeVar("T")
#: History lines in one message.
_LINES_PER_MESSAGE = 500
#: Bytes of an export in one message.
_CHUNK_BYTES = 256 * limits.KIB
_FORMATS = {
    pb.JOURNAL_FORMAT_BEANCOUNT: JournalFormat.BEANCOUNT,
    pb.JOURNAL_FORMAT_HLEDGER: JournalFormat.HLEDGER,
    pb.JOURNAL_FORMAT_CSV: JournalFormat.CSV,
}


class BooksServicer(books_service_pb2_grpc.BooksServiceServicer):
    """Implements BooksService."""

    def __init__(self, *, store: StoreAccess, make_journal: MakeJournal, currency: str) -> None:
        self._store = store
        self._make_journal = make_journal
        self._currency = currency
        self._one_step = asyncio.Lock()

    async def CheckBooks(
        self, request: pb.CheckBooksRequest, context: _Context
    ) -> AsyncIterator[pb.CheckBooksResponse]:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[pb.ReadingProgress | None] = asyncio.Queue()
        gone = threading.Event()

        def tell(read: int, of: int) -> None:
            """Say how far it is, on the reader's thread; end the check when nobody listens."""
            if gone.is_set():
                raise PoolError(ErrorCode.CANCELLED, "nobody waits for this check any more")
            loop.call_soon_threadsafe(told.put_nowait, pb.ReadingProgress(read=read, of=of))

        def finished(done: "asyncio.Future[LedgerReport]") -> None:
            """End the telling, and look at the answer, lest one that nobody waits for be reported."""
            told.put_nowait(None)
            if not done.cancelled():
                done.exception()

        async with self._store.long_read:
            checking = asyncio.ensure_future(self._store.read(lambda uow: check_ledger(uow, progress=tell)))
            checking.add_done_callback(finished)
            try:
                while (progress := await told.get()) is not None:
                    yield pb.CheckBooksResponse(progress=progress)
                yield pb.CheckBooksResponse(report=convert_account.ledger_report(await checking))
            finally:
                gone.set()

    async def StreamAccounts(
        self, request: pb.StreamAccountsRequest, context: _Context
    ) -> AsyncIterator[pb.StreamAccountsResponse]:
        accounts = await self._step(lambda uow: list_accounts(uow, prefix=request.prefix))
        for start in range(0, len(accounts), _LINES_PER_MESSAGE):
            part = accounts[start : start + _LINES_PER_MESSAGE]
            yield pb.StreamAccountsResponse(accounts=[_account_message(account) for account in part])

    async def GetAccountAt(
        self, request: pb.GetAccountAtRequest, context: _Context
    ) -> AsyncIterator[pb.GetAccountAtResponse]:
        at = _transfer_id("at", request.at) if request.HasField("at") else None
        if request.before_us:
            if at is not None or not 0 < request.before_us <= ROW_ID_MAX:
                raise invalid("before_us", "a time in microseconds since 1970, and not beside `at`")
            at = await self._step(lambda uow: last_transfer_before(uow, request.before_us))
        reading = await self._begin(request.account, at)
        async for progress in self._reading(reading):
            yield pb.GetAccountAtResponse(progress=progress)
        recorded_at_us = await self._step(lambda uow: _recorded_at_us(uow, reading.through))
        yield pb.GetAccountAtResponse(
            progress=_progress(reading),
            balance=pb.AccountAt(
                account=reading.account.name,
                at=reading.through,
                recorded_at_us=recorded_at_us,
                head=reading.head,
                counters=pb.AccountCounters(**reading.counters._asdict()),
                balance_micros=balance_micros(reading.account, reading.counters),
                nature=_nature(reading.account),
                agrees_with_ledger=reading.agrees,
                currency=self._currency,
            ),
        )

    async def GetAccountHistory(
        self, request: pb.GetAccountHistoryRequest, context: _Context
    ) -> AsyncIterator[pb.GetAccountHistoryResponse]:
        before = _transfer_id("before", request.before)
        limit = request.limit or HISTORY_DEFAULT
        reading = await self._begin(request.account, None)
        if before and before <= reading.head:
            reading = await self._begin(request.account, before - 1)
            async for progress in self._reading(reading):
                yield pb.GetAccountHistoryResponse(progress=progress)
        history = begin_history(reading, limit=limit)
        while not history.done:
            await self._step(lambda uow: history_back(uow, history))
            progress = pb.ReadingProgress(read=history.began_at - history.read_down_to, of=history.began_at)
            lines = [_line_message(line) for line in history.lines]
            for start in range(0, max(1, len(lines)), _LINES_PER_MESSAGE):
                yield pb.GetAccountHistoryResponse(
                    progress=progress, lines=lines[start : start + _LINES_PER_MESSAGE]
                )
        yield pb.GetAccountHistoryResponse(currency=self._currency, nature=_nature(reading.account))

    async def ExportBooks(
        self, request: pb.ExportBooksRequest, context: _Context
    ) -> AsyncIterator[pb.ExportBooksResponse]:
        journal_format = _FORMATS.get(request.format)
        if journal_format is None:
            raise invalid("format", "one of beancount, hledger and csv")
        snapshot = await self._step(books_snapshot)
        journal = self._make_journal(journal_format, snapshot)
        head, digest, after = snapshot.head.transfer_id, hashlib.sha256(), 0
        for chunk in _chunks(journal.opening()):
            digest.update(chunk)
            yield pb.ExportBooksResponse(progress=pb.ReadingProgress(of=head), chunk=chunk)
        while after < head:
            piece = await self._piece(after, head)
            text = await asyncio.to_thread(journal.piece, piece)
            after = min(after + PIECE_TRANSFERS, head)
            for chunk in _chunks([text]):
                digest.update(chunk)
                yield pb.ExportBooksResponse(progress=pb.ReadingProgress(read=after, of=head), chunk=chunk)
        for chunk in _chunks(journal.closing()):
            digest.update(chunk)
            yield pb.ExportBooksResponse(progress=pb.ReadingProgress(read=head, of=head), chunk=chunk)
        yield pb.ExportBooksResponse(
            progress=pb.ReadingProgress(read=head, of=head), sha256=digest.hexdigest()
        )

    async def ProposeEntry(
        self, request: pb.ProposeEntryRequest, context: _Context
    ) -> pb.ProposeEntryResponse:
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        wish = ProposeEntry(
            code=request.code_name,
            debit_account=request.debit_account,
            credit_account=request.credit_account,
            amount_micros=request.amount_micros,
            is_at_most=request.is_at_most,
            reason=request.reason,
            idempotency_key=request.idempotency_key,
        )
        entry = await self._store.write(
            lambda uow: propose_entry(uow, wish, operator_id=operator_id, now_us=now_us)
        )
        return pb.ProposeEntryResponse(entry=self._entry_message(entry))

    async def ApproveEntry(
        self, request: pb.ApproveEntryRequest, context: _Context
    ) -> pb.ApproveEntryResponse:
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        entry_id = parse_entry_id(request.entry_id)
        entry = await self._store.write(
            lambda uow: approve_entry(
                uow,
                entry_id=entry_id,
                operator_id=operator_id,
                expected_amount_micros=request.expected_amount_micros,
                now_us=now_us,
            )
        )
        return pb.ApproveEntryResponse(entry=self._entry_message(entry))

    async def WithdrawEntry(
        self, request: pb.WithdrawEntryRequest, context: _Context
    ) -> pb.WithdrawEntryResponse:
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        entry_id = parse_entry_id(request.entry_id)
        entry = await self._store.write(
            lambda uow: withdraw_entry(uow, entry_id=entry_id, operator_id=operator_id, now_us=now_us)
        )
        return pb.WithdrawEntryResponse(entry=self._entry_message(entry))

    async def ListEntries(self, request: pb.ListEntriesRequest, context: _Context) -> pb.ListEntriesResponse:
        before, limit = row_token(request.page), page_size(request.page)
        entries = await self._store.read(lambda uow: list_entries(uow, before_entry_id=before, limit=limit))
        return pb.ListEntriesResponse(
            entries=[self._entry_message(entry) for entry in entries],
            next_page_token=row_token_text(entries[-1].entry_id if len(entries) == limit else 0),
        )

    async def _piece(self, after: int, through: int) -> JournalPiece:
        return await self._step(lambda uow: journal_piece(uow, after=after, through=through))

    async def _begin(self, account: str, at: int | None) -> Reading:
        return await self._step(lambda uow: begin_reading(uow, name=account, at_transfer_id=at))

    async def _reading(self, reading: Reading) -> AsyncIterator[pb.ReadingProgress]:
        """Read to the end, and say after each step how far it is."""
        while not reading.done:
            await self._step(lambda uow: read_on(uow, reading))
            yield _progress(reading)

    async def _step(self, query: Callable[[UnitOfWork], T]) -> T:
        async with self._one_step:
            return await self._store.read(query)

    def _entry_message(self, entry: Entry) -> pb.EntryView:
        return pb.EntryView(
            entry_id=entry.text_id,
            state=entry.state.value,
            code_name=code_name(entry.code),
            debit_account=entry.debit_account,
            credit_account=entry.credit_account,
            amount_micros=entry.amount_micros,
            is_at_most=entry.is_at_most,
            reason=entry.reason,
            proposed_by=entry.proposed_by,
            proposed_at_us=entry.proposed_at_us,
            decided_by=entry.decided_by,
            decided_at_us=entry.decided_at_us,
            transfer_id=entry.transfer_id,
            currency=self._currency,
        )


def _transfer_id(field: str, value: int) -> int:
    if not 0 <= value <= ROW_ID_MAX:
        raise invalid(field, "the number of a transfer, 0 or more")
    return value


def _account_message(account: Account) -> pb.NamedAccount:
    counters = counters_of(account)
    return pb.NamedAccount(
        name=account.name,
        nature=_nature(account),
        state=AccountState(account.state).name.lower(),
        counters=pb.AccountCounters(**counters._asdict()),
        balance_micros=balance_micros(account, counters),
    )


def _nature(account: Account) -> str:
    return NATURE[AccountCode(account.code)].value


def _progress(reading: Reading) -> pb.ReadingProgress:
    return pb.ReadingProgress(read=reading.read, of=reading.through)


def _recorded_at_us(uow: UnitOfWork, transfer_id: int) -> int:
    rows = uow.ledger_log.rows(after=transfer_id - 1, through=transfer_id) if transfer_id else []
    return rows[0].recorded_at_us if rows else 0


def _chunks(texts: Iterable[str]) -> Iterable[bytes]:
    """Join texts up to the size of a message, and cut those that are longer."""
    waiting = bytearray()
    for text in texts:
        waiting += text.encode()
        while len(waiting) >= _CHUNK_BYTES:
            yield bytes(waiting[:_CHUNK_BYTES])
            del waiting[:_CHUNK_BYTES]
    if waiting:
        yield bytes(waiting)


def _line_message(line: HistoryLine) -> pb.HistoryLine:
    row = line.row
    return pb.HistoryLine(
        transfer_id=row.transfer_id,
        recorded_at_us=row.recorded_at_us,
        kind=TransferKind(row.kind).name.lower(),
        code=row.code,
        code_name=code_name(row.code),
        counter_account=line.counter_account,
        is_debit=line.is_debit,
        amount_micros=row.amount_micros,
        change_micros=line.change_micros,
        balance_micros=line.balance_micros,
        about=about(row.code, row.reference_id),
        pending_transfer_id=row.pending_id or 0,
        key=line.key,
        reason=line.reason,
        chain_hash=row.chain_hash,
    )
