"""LogService: tree heads, proofs and statements of solvency, for everyone who belongs to the pool."""

from typing import Any

from pool_protocol.liabilities import LiabilityProof
from pool_protocol.v1 import common_pb2, log_service_pb2_grpc
from pool_protocol.v1 import log_service_pb2 as pb
from pool_server.app.receipt_log import (
    HEADS_PAGE_MAX,
    Logged,
    list_heads,
    list_logged,
    prove_consistency,
    prove_inclusion,
    require_head,
)
from pool_server.app.solvency import (
    KnownTree,
    enter_bank_balance,
    get_statement,
    known_tree,
    prove_liabilities,
)
from pool_server.identity.log_signing import ReceiptLogSigner
from pool_server.ports.unit_of_work import UnitOfWork
from pool_server.rpc.authentication import current_caller
from pool_server.rpc.convert_market import proven_receipt
from pool_server.rpc.paging import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, page_size, row_token, row_token_text
from pool_server.rpc.store_access import StoreAccess

_Context = Any
#: Numbers of the wire are unsigned, those of the database are not.
_NUMBER_MAX = 2**62


class LogServicer(log_service_pb2_grpc.LogServiceServicer):
    """Implements LogService."""

    def __init__(self, *, store: StoreAccess, signer: ReceiptLogSigner) -> None:
        self._store = store
        self._signer = signer
        #: The tree of the statement that was asked about last; hashing it anew takes a while in a large pool.
        self._known: KnownTree | None = None

    async def GetTreeHead(self, request: pb.GetTreeHeadRequest, context: _Context) -> pb.GetTreeHeadResponse:
        tree_size = min(request.tree_size, _NUMBER_MAX)
        head = await self._store.read(lambda uow: require_head(uow, tree_size))
        return pb.GetTreeHeadResponse(head=None if head is None else _envelope(head.signed))

    async def ListTreeHeads(
        self, request: pb.ListTreeHeadsRequest, context: _Context
    ) -> pb.ListTreeHeadsResponse:
        before, limit = row_token(request.page), min(page_size(request.page), HEADS_PAGE_MAX)
        heads, after = await self._store.read(lambda uow: list_heads(uow, before_size=before, limit=limit))
        return pb.ListTreeHeadsResponse(
            heads=[_envelope(head.signed) for head in heads], next_page_token=row_token_text(after)
        )

    async def GetInclusionProofs(
        self, request: pb.GetInclusionProofsRequest, context: _Context
    ) -> pb.GetInclusionProofsResponse:
        tree_size = min(request.tree_size, _NUMBER_MAX)
        places = [
            (min(place.batch_id, _NUMBER_MAX), min(place.leaf_index, _NUMBER_MAX)) for place in request.places
        ]
        proofs = await self._store.read(lambda uow: prove_inclusion(uow, tree_size=tree_size, places=places))
        return pb.GetInclusionProofsResponse(proofs=[_log_proof(proof) for proof in proofs])

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: _Context
    ) -> pb.GetConsistencyProofResponse:
        first, second = min(request.first_size, _NUMBER_MAX), min(request.second_size, _NUMBER_MAX)
        path = await self._store.read(
            lambda uow: prove_consistency(uow, first_size=first, second_size=second)
        )
        return pb.GetConsistencyProofResponse(path=path)

    async def ListLoggedReceipts(
        self, request: pb.ListLoggedReceiptsRequest, context: _Context
    ) -> pb.ListLoggedReceiptsResponse:
        vehicle = current_caller().require_vehicle()
        tree_size = min(request.tree_size, _NUMBER_MAX)
        first = min(request.from_log_index, _NUMBER_MAX)
        limit = min(request.limit or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
        page = await self._store.read(
            lambda uow: list_logged(
                uow,
                owner_id=vehicle.owner_id,
                vehicle_id=vehicle.vehicle_id,
                tree_size=tree_size,
                from_log_index=first,
                limit=limit,
            )
        )
        return pb.ListLoggedReceiptsResponse(
            receipts=[
                pb.LoggedReceipt(proven=proven_receipt(proven), proof=_log_proof(logged))
                for proven, logged in page.receipts
            ],
            has_more=page.has_more,
        )

    async def GetSolvency(self, request: pb.GetSolvencyRequest, context: _Context) -> pb.GetSolvencyResponse:
        date = request.date
        row = await self._store.read(lambda uow: get_statement(uow, date=date))
        return pb.GetSolvencyResponse(statement=None if row is None else _envelope(row.signed))

    async def ListSolvency(
        self, request: pb.ListSolvencyRequest, context: _Context
    ) -> pb.ListSolvencyResponse:
        before, limit = row_token(request.page), page_size(request.page)
        rows = await self._store.read(lambda uow: uow.solvency.statements(before_id=before, limit=limit + 1))
        after = rows[limit - 1].facts.statement_id if len(rows) > limit else 0
        return pb.ListSolvencyResponse(
            statements=[_envelope(row.signed) for row in rows[:limit]], next_page_token=row_token_text(after)
        )

    async def GetLiabilityProofs(
        self, request: pb.GetLiabilityProofsRequest, context: _Context
    ) -> pb.GetLiabilityProofsResponse:
        principal_id = current_caller().principal_id
        statement_id = min(request.statement_id, _NUMBER_MAX)

        def read(uow: UnitOfWork) -> pb.GetLiabilityProofsResponse:
            known = self._tree(uow, statement_id)
            if known is None:
                return pb.GetLiabilityProofsResponse()
            proofs = prove_liabilities(uow, known, principal_id=principal_id)
            return pb.GetLiabilityProofsResponse(
                statement=_envelope(known.row.signed), proofs=[_liability_proof(proof) for proof in proofs]
            )

        return await self._store.read(read)

    async def EnterBankBalance(
        self, request: pb.EnterBankBalanceRequest, context: _Context
    ) -> pb.EnterBankBalanceResponse:
        operator_id, now_us = current_caller().principal_id, self._store.now_us()
        balance_micros, as_of, secret = request.balance_micros, request.as_of, self._signer.secret()
        row = await self._store.write(
            lambda uow: enter_bank_balance(
                uow,
                balance_micros=balance_micros,
                as_of=as_of,
                operator_id=operator_id,
                signer=self._signer,
                secret=secret,
                now_us=now_us,
            )
        )
        return pb.EnterBankBalanceResponse(statement=_envelope(row.signed))

    def _tree(self, uow: UnitOfWork, statement_id: int) -> KnownTree | None:
        """Return a statement's tree; called by several threads, which at worst hash it twice."""
        known, wanted = self._known, statement_id
        if not wanted:
            last = uow.solvency.last()
            wanted = 0 if last is None else last.facts.statement_id
        if known is None or known.row.facts.statement_id != wanted:
            known = self._known = known_tree(uow, statement_id=wanted)
        return known


def _envelope(signed: bytes) -> common_pb2.Envelope:
    return common_pb2.Envelope.FromString(signed)


def _log_proof(logged: Logged) -> pb.LogProof:
    return pb.LogProof(log_index=logged.log_index, leaf_hash=logged.leaf_hash, path=logged.path)


def _liability_proof(proof: LiabilityProof) -> pb.LiabilityProof:
    return pb.LiabilityProof(
        account=proof.account,
        balance_micros=proof.balance_micros,
        salt=proof.salt,
        leaf_index=proof.leaf_index,
        path=[pb.LiabilityNode(hash=node.hash, sum_micros=node.sum_micros) for node in proof.path],
    )
