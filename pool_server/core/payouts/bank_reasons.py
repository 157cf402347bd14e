"""ISO 20022's reasons for payments that were rejected or came back, in words for owners."""

from collections.abc import Mapping
from types import MappingProxyType

#: External code sets: ExternalStatusReason1Code and ExternalReturnReason1Code, as SEPA uses them.
REASON_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "AC01": "the account number is not right",
        "AC03": "the account number is not right",
        "AC04": "the account is closed",
        "AC06": "the account is blocked",
        "AC13": "the account is of a kind that cannot be paid",
        "AG01": "the account may not receive transfers",
        "AG02": "the bank does not know this kind of payment",
        "AM04": "the pool's account did not hold enough money",
        "AM05": "the bank took it for a payment that it had already",
        "AM09": "the amount is not the one that was agreed",
        "ARDT": "it had been sent back already",
        "BE01": "the name does not go with the account",
        "BE04": "the address is missing",
        "BE05": "the bank does not know the payer",
        "BE06": "the account's holder is not known",
        "BE07": "the payer's address is missing",
        "CNOR": "the bank is not registered for such payments",
        "CUST": "the payment was called back",
        "DNOR": "the pool's bank is not registered for such payments",
        "DT01": "the date of the payment is not valid",
        "DUPL": "it had been paid already",
        "ED05": "settlement between the banks failed",
        "ERIN": "the bank does not support this payment",
        "FF01": "the bank could not read the payment",
        "FOCR": "the payment was called back",
        "FR01": "fraud is suspected",
        "MD07": "the account's holder has died",
        "MS02": "the account's holder refused it",
        "MS03": "the bank gave no reason",
        "NARR": "the bank gave its reason in its own words",
        "NOAS": "the account's holder did not answer",
        "NOOR": "the payment is not known to the bank",
        "RC01": "the BIC is not right",
        "RR01": "the law asks for the payer's account, and it is missing",
        "RR02": "the law asks for the payer's name or address, and it is missing",
        "RR03": "the law asks for the owner's name or address, and it is missing",
        "RR04": "the law forbids it",
        "SVNR": "the bank does not offer this service",
        "TECH": "of a technical problem at the bank",
        "TM01": "it reached the bank too late",
    }
)

#: Reasons that lie with the pool or the banks between: the owner can do nothing about them.
NOT_THE_OWNERS = frozenset(
    {
        "AM04", "AM05", "AM09", "BE05", "BE07", "CUST", "DNOR", "DT01", "DUPL", "ED05", "ERIN", "FF01",
        "FOCR", "NOOR", "RR01", "RR02", "SVNR", "TECH", "TM01",
    }
)  # fmt: skip


def reason_words(code: str, text: str) -> str:
    """Say why, for an owner: the code's meaning, the bank's own words, or that there are none."""
    meaning = REASON_WORDS.get(code, "")
    if code and meaning:
        return f"{meaning} ({code})"
    if code:
        return f"the bank's reason is {code}" + (f": {text}" if text else "")
    return text or "the bank gave no reason"
