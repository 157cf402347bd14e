"""The owner's tariff as it stands on disk: read again when it changes, so that no restart is needed.

Reading is `refresh`, for a thread; asking for a price never touches a disk. A tariff that cannot be read
knows no price, with the reason: what electricity costs is then not guessed.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from car_agent.core.reasons import duration_text
from car_agent.core.tariff import NoTariff, Tariff, TariffPrice
from car_agent.energy.tariff_text import FileTariffText, parse_price_file, parse_tariff
from pool_protocol.clock import Clock
from pool_protocol.errors import ErrorCode, PoolError

_BYTES_MAX: Final = 256 * 1024
#: Clocks of file systems tick coarsely, and a file server's clock may be a little ahead.
_FUTURE_US_MAX: Final = 60 * 1_000_000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _FileTariff:
    """A price in a file that something else writes."""

    text: FileTariffText
    micros_per_kwh: int | None = None
    written_at_us: int = 0
    trouble: str = ""

    @property
    def currency(self) -> str:
        return self.text.currency

    def read(self) -> None:
        """Look at the file."""
        try:
            content, self.written_at_us = _read(Path(self.text.path))
            self.micros_per_kwh = parse_price_file(content, currency=self.text.currency)
            self.trouble = ""
        except PoolError as error:
            self.micros_per_kwh, self.trouble = None, error.detail

    def price(self, now_us: int) -> TariffPrice:
        trouble = self.trouble or self._too_old(now_us)
        if not trouble:
            return TariffPrice(self.micros_per_kwh)
        fallback = self.text.fallback_micros_per_kwh
        return TariffPrice(fallback, "" if fallback is not None else f"{self.text.path}: {trouble}.")

    def _too_old(self, now_us: int) -> str:
        age_us = now_us - self.written_at_us
        if age_us < -_FUTURE_US_MAX:
            return "it was written in the future; is the clock right?"
        if age_us > self.text.fresh_for_s * 1e6:
            fresh_for = duration_text(self.text.fresh_for_s)
            return f"it is {duration_text(age_us / 1e6)} old and counts for {fresh_for}"
        return ""

    def describe(self) -> str:
        return f"from {self.text.path}"


@dataclass(frozen=True, slots=True)
class _UnreadableTariff:
    """What is there is no tariff."""

    trouble: str
    currency: str = ""

    def price(self, now_us: int) -> TariffPrice:
        del now_us
        return TariffPrice(None, f"The tariff cannot be read: {self.trouble}.")

    def describe(self) -> str:
        return "unreadable"


class OwnerTariff:
    """`tariff.toml`, and what it points to."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Follow `path`; `refresh` reads it."""
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._tariff: Tariff = NoTariff()

    def refresh(self) -> None:
        """Read again what has changed. Does disk work: call it from a thread."""
        identity = self._identity()
        if identity != self._seen or identity is None:
            self._seen = identity
            self._tariff = self._read() if identity is not None else NoTariff()
        if isinstance(self._tariff, _FileTariff):
            self._tariff.read()

    @property
    def is_set(self) -> bool:
        """Whether the owner has set one, readable or not."""
        return not isinstance(self._tariff, NoTariff)

    @property
    def currency(self) -> str:
        """ISO 4217 code; empty without a tariff that can be read."""
        return self._tariff.currency

    def price(self, now_us: int) -> TariffPrice:
        """Return the price at a moment."""
        return self._tariff.price(now_us)

    def describe(self) -> str:
        """Return the tariff in a few words."""
        return self._tariff.describe()

    def _identity(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return (0, 0, 0)
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _read(self) -> Tariff:
        try:
            content, _ = _read(self._path)
            parsed = parse_tariff(content.decode("utf-8"))
        except (PoolError, UnicodeDecodeError) as error:
            detail = error.detail if isinstance(error, PoolError) else "it is not UTF-8"
            _log.warning("tariff unreadable", extra={"cause": detail})
            return _UnreadableTariff(detail)
        return _FileTariff(parsed) if isinstance(parsed, FileTariffText) else parsed


def _read(path: Path) -> tuple[bytes, int]:
    """Return a file's content and when it was written.

    Raises:
        PoolError: INVALID_ARGUMENT when it cannot be read or is too long.
    """
    try:
        with path.open("rb") as file:
            written_at_us = path.stat().st_mtime_ns // 1_000
            content = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"it cannot be read: {error.strerror}") from error
    if len(content) > _BYTES_MAX:
        raise PoolError(ErrorCode.INVALID_ARGUMENT, f"it has more than {_BYTES_MAX} bytes")
    return content, written_at_us
