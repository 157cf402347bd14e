"""The demo's bank: reads the payout file as a bank would and says that it has paid. There is no real one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from chargepool.demo.processes import DemoFailed
from chargepool.demo.world import CALL_TIMEOUT_S, World
from pool_protocol.money import MICROS_PER_CENT
from pool_protocol.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    payout_service_pb2,
    payout_service_pb2_grpc,
)

_MESSAGE = re.compile(rb"<MsgId>([^<]+)</MsgId>")
_AMOUNT = re.compile(rb'<InstdAmt Ccy="EUR">(\d+)\.(\d\d)</InstdAmt>')


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the bank is asked to pay."""

    message: str
    amounts_micros: tuple[int, ...]


def read_order(file: bytes) -> Order:
    """What a payout file asks for.

    Raises:
        DemoFailed: it is no SEPA file.
    """
    message = _MESSAGE.search(file)
    if message is None:
        raise DemoFailed("the payout file names no message")
    cents = [int(whole) * 100 + int(rest) for whole, rest in _AMOUNT.findall(file)]
    return Order(message=message[1].decode(), amounts_micros=tuple(cent * MICROS_PER_CENT for cent in cents))


def settle(world: World, order: Order, *, say: Callable[[str], None]) -> None:
    """Reports that everything was paid (pain.002), twice, and sees clearing empty.

    Raises:
        DemoFailed: the report did not settle each payment once.
    """
    report = (
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:pain.002.001.10"><CstmrPmtStsRpt>'
        "<GrpHdr><MsgId>DEMO-BANK-1</MsgId></GrpHdr><OrgnlGrpInfAndSts>"
        f"<OrgnlMsgId>{order.message}</OrgnlMsgId><GrpSts>ACSC</GrpSts>"
        "</OrgnlGrpInfAndSts></CstmrPmtStsRpt></Document>"
    )
    request = payout_service_pb2.ImportBankStatusRequest(file=report.encode(), file_name="demo-bank.xml")
    with world.channel(world.operator_token) as channel:
        payouts = payout_service_pb2_grpc.PayoutServiceStub(channel)
        first = payouts.ImportBankStatus(request, timeout=CALL_TIMEOUT_S)
        again = payouts.ImportBankStatus(request, timeout=CALL_TIMEOUT_S)
        accounts = admin_service_pb2_grpc.AdminServiceStub(channel).ListAccounts(
            admin_service_pb2.ListAccountsRequest(prefix="payout:clearing"), timeout=CALL_TIMEOUT_S
        )
    settled = [result for result in first.results if result.outcome == "applied"]
    if len(settled) != len(order.amounts_micros) or not again.was_known:
        raise DemoFailed(f"the bank paid {len(order.amounts_micros)} owners and {len(settled)} were settled")
    if any(account.credits_posted_micros != account.debits_posted_micros for account in accounts.accounts):
        raise DemoFailed("the bank has paid everything, and clearing still holds money")
    say(f"a bank's report (pain.002, made up here) settles {len(settled)} payments; clearing is empty")
