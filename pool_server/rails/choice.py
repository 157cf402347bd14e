"""The ways in which this pool can pay, and which of them it uses unless told otherwise."""

from collections.abc import Mapping

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.payouts.model import RailName
from pool_server.ports.money import PayoutRail
from pool_server.rails.csv_file import CsvRail
from pool_server.rails.pain001 import Debtor, Pain001Rail


class Rails:
    """Every rail by name; SEPA is the default where the pool's account is configured."""

    def __init__(self, rails: Mapping[RailName, PayoutRail], *, default: RailName) -> None:
        """Hold the rails; `default` is one of them."""
        self._rails = dict(rails)
        self._default = default

    def choose(self, name: str) -> RailName:
        """Return the rail with a name, the default for none.

        Raises:
            PoolError: INVALID_ARGUMENT when there is no such rail, or it is not configured.
        """
        if not name:
            return self._default
        try:
            chosen = RailName(name)
        except ValueError as error:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                f"a rail is one of {', '.join(RailName)}, not {name[:20]!r}",
                context={"field": "rail"},
            ) from error
        self.rail(chosen)
        return chosen

    def rail(self, name: RailName) -> PayoutRail:
        """Return a rail.

        Raises:
            PoolError: INVALID_ARGUMENT when it is not configured.
        """
        rail = self._rails.get(name)
        if rail is None:
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                "the account that payouts come from is not configured: set payout_debtor_name and "
                "payout_debtor_iban in pool.toml, and start the server again",
                context={"field": "rail"},
            )
        return rail


def make_rails(
    *,
    pool_id: str,
    currency: str,
    debtor_name: str,
    debtor_iban: str,
    debtor_bic: str,
    debtor_town: str,
    debtor_country: str,
) -> Rails:
    """Make the rails of the settings; without name and IBAN there is no SEPA.

    Raises:
        PoolError: INVALID_ARGUMENT naming the setting that is wrong.
    """
    rails: dict[RailName, PayoutRail] = {RailName.CSV: CsvRail()}
    if not any((debtor_name, debtor_iban, debtor_bic, debtor_town, debtor_country)):
        return Rails(rails, default=RailName.CSV)
    debtor = Debtor(
        name=debtor_name,
        iban=debtor_iban.replace(" ", "").upper(),
        bic=debtor_bic.replace(" ", "").upper(),
        town=debtor_town,
        country=debtor_country,
    )
    rails[RailName.PAIN001] = Pain001Rail(pool_id=pool_id, debtor=debtor)
    return Rails(rails, default=RailName.PAIN001 if currency == "EUR" else RailName.CSV)
