"""Asks `schwifty`'s registries about an account: its country's own rules, its bank's name and BIC.

The registries age. A bank that is not in them may have been founded since, so it is no problem by itself; an
account whose *structure* or national check digits are wrong is one.
"""

import threading
import warnings

from pool_protocol.errors import ErrorCode, PoolError
from pool_server.core.payouts.model import PayoutDetails
from pool_server.ports.banks import BankFacts


class SchwiftyDirectory:
    """Implements `ports.banks.BankDirectory`."""

    def __init__(self) -> None:
        """Read no registry yet."""
        self._filtering = threading.Lock()

    def look_up(self, details: PayoutDetails) -> BankFacts:
        """Return what is known of the bank of an account.

        Raises:
            PoolError: INVALID_ARGUMENT when the country's own rules refuse the account's number.
        """
        # Its registries are tens of megabytes once read: only who sets payout details pays for them.
        from schwifty import IBAN
        from schwifty.exceptions import NationalChecksumNotVerified, SchwiftyException

        try:
            # Filters are the whole process's, so only one thread at a time changes them.
            with self._filtering, warnings.catch_warnings():
                warnings.simplefilter("ignore", NationalChecksumNotVerified)
                iban = IBAN(details.iban, validate_bban=True)
        except SchwiftyException as error:
            why = str(error) or type(error).__name__
            raise PoolError(
                ErrorCode.INVALID_ARGUMENT,
                f"iban: the rules of {details.iban[:2]} refuse it ({why})",
                context={"field": "iban"},
            ) from error
        bic = iban.bic
        return BankFacts(name=iban.bank_name or "", bic="" if bic is None else str(bic))
