"""A buyer's papers and particulars: one channel, a call each, files put together and checked."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from chargepool._channel import open_channel
from chargepool._config import ClientConfig
from chargepool._errors import ChargepoolError, PoolRefused, from_pool_error
from chargepool._retry import failure_of
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.file_parts import Part, ReceivedFile, whole_files
from pool_protocol.v1 import particulars_service_pb2 as particulars_pb
from pool_protocol.v1 import particulars_service_pb2_grpc, report_service_pb2_grpc
from pool_protocol.v1 import report_service_pb2 as pb

_TIMEOUT_S = 30.0
_PAPER_TIMEOUT_S = 300.0
#: Amounts are written in the fallback locale rather than late.
_LOCALE_TIMEOUT_S = 2.0
T = TypeVar("T")


class PaperDesk:
    """Asks a pool for papers. A context manager.

    Every call raises `ChargepoolError`, for what the pool refuses and for a pool that does not answer.
    """

    def __init__(self, config: ClientConfig) -> None:
        """Open a channel; it connects on first use."""
        self._channel = open_channel(config.address, ca_pem=config.ca_pem, token=config.token)
        self._reports = report_service_pb2_grpc.ReportServiceStub(self._channel)
        self._particulars = particulars_service_pb2_grpc.ParticularsServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def invoice(self, month: str, *, as_csv: bool) -> tuple[ReceivedFile, str]:
        """Return the month's paper and its number, which is empty for a preview."""
        wanted = pb.PAPER_FORMAT_CSV if as_csv else pb.PAPER_FORMAT_PDF
        request = pb.GetBuyerInvoiceRequest(month=month, format=wanted)
        numbers: list[str] = []

        def parts() -> Iterator[Part]:
            for answer in self._reports.GetBuyerInvoice(request, timeout=_PAPER_TIMEOUT_S):
                numbers.append(answer.number)
                yield answer.part

        try:
            file = _asked(lambda: _only_file(parts()))
        except ChargepoolError as error:
            if error.code is not ErrorCode.NOT_FOUND:
                raise
            raise PoolRefused(
                f"Nothing was paid in or used in {month}: there is no paper.",
                code=error.code,
                next_step="Name a month, UTC, in which the account had a deposit or verified work.",
            ) from error
        return file, numbers[0]

    def usage(self, month: str, until_month: str) -> ReceivedFile:
        """Return the usage of months as FOCUS CSV."""
        request = pb.GetBuyerUsageRequest(month=month, until_month=until_month)
        return _asked(
            lambda: _only_file(
                answer.part for answer in self._reports.GetBuyerUsage(request, timeout=_PAPER_TIMEOUT_S)
            )
        )

    def particulars(self, *, timeout_s: float = _TIMEOUT_S) -> particulars_pb.Particulars:
        """Return the account's particulars."""
        request = particulars_pb.GetBuyerParticularsRequest()
        return _asked(lambda: self._particulars.GetBuyerParticulars(request, timeout=timeout_s)).particulars

    def set_particulars(self, wanted: particulars_pb.Particulars) -> particulars_pb.Particulars:
        """Set the account's particulars as a whole; return them as kept."""
        request = particulars_pb.SetBuyerParticularsRequest(particulars=wanted)
        return _asked(lambda: self._particulars.SetBuyerParticulars(request, timeout=_TIMEOUT_S)).particulars


def locale_of_account(config: ClientConfig) -> str:
    """Return the locale that the account's holder chose; empty when none was, or the pool does not say."""
    with PaperDesk(config) as desk:
        try:
            return desk.particulars(timeout_s=_LOCALE_TIMEOUT_S).locale
        except ChargepoolError:
            return ""


def _only_file(parts: Any) -> ReceivedFile:
    [file] = whole_files(parts)
    return file


def _asked(call: Callable[[], T]) -> T:
    try:
        return call()
    except grpc.RpcError as error:
        raise from_pool_error(failure_of(error)) from error
    except PoolError as error:
        raise from_pool_error(error) from error
