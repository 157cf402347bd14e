"""Why a job waits, in words: for buyers and operators alike."""


def waiting_text(reason: str, count: int, detail: str = "") -> str:
    """Return a sentence for a job's `waiting_reason`; empty for none or for one that is newer than we are.

    Args:
        reason: As the pool says it.
        count: Results that wait, where the reason is that they wait to be checked.
        detail: The pool's own sentence with the figures, where it has one.
    """
    match reason:
        case "WAITING_FOR_ANOTHER_OWNER":
            some = "1 result waits" if count == 1 else f"{count} results wait"
            return f"{some} to be checked by another owner's car; none is connected"
        case "WAITING_FOR_ANOTHER_CLASS":
            some = "1 result waits" if count == 1 else f"{count} results wait"
            return f"{some} to be checked by a car of another numeric class; none is connected"
        case "CERTIFICATE_FAILS":
            return "its certificate fails on right results; cars of other owners check them instead"
        case "NO_VEHICLES":
            return "no car is connected"
        case "PRICE_ABOVE_CAP":
            told = detail[:1].lower() + detail[1:].rstrip(".")
            return told or "the pool's price is above the job's cap"
        case _:
            return ""
