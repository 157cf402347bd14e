"""An owner whom every bank can pay."""

from pool_server.core.payouts.model import PayoutDetails

IBAN = "DE89370400440532013000"
DETAILS = PayoutDetails(
    holder_name="Ada Lovelace", iban=IBAN, threshold_micros=10_000, town="Koeln", country="DE"
)
