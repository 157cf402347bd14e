"""Chargepool for buyers: hand over a JAX function and inputs, get verified results from charging cars.

    import chargepool

    with chargepool.connect() as pool:
        print(pool.quote(my_function, example=inputs[0], tasks=len(inputs)))
        for result in pool.map(my_function, inputs):
            print(result.index, result.value, result.cost_micros)

This module only lists the public names. They are loaded when they are first used, so that programs which need
nothing but the channel (the car's agent, the dashboard) never load JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chargepool import certificates as certificates
    from chargepool._client import Client
    from chargepool._comparators import Comparator, close, exact, per_output, ulp, unordered
    from chargepool._connect import connect
    from chargepool._errors import (
        AuthError,
        BudgetExceeded,
        BudgetRequired,
        ChargepoolError,
        ConfigError,
        FundsError,
        InputRefused,
        InsufficientFunds,
        JobCancelled,
        JobClosed,
        JobError,
        JobNotFound,
        PoolRefused,
        PoolUnreachable,
        PriceAboveCap,
        ProgramRefused,
        ProofInvalid,
        QuoteExpired,
        SpendLimitReached,
        TaskFailed,
    )
    from chargepool._estimate import LevelOffer, QuoteEstimate
    from chargepool._executor import Executor
    from chargepool._job import Job
    from chargepool._loops import bounded_while
    from chargepool._map import Results
    from chargepool._numerics import NumericsReport, NumericsWarning
    from chargepool._prices import MarketPrice, PriceEpoch
    from chargepool._program import Program
    from chargepool._receipts import Receipt
    from chargepool._values import Balance, JobStatus, Progress, Quote, Result, SpendCap

#: Modules that are public as a whole.
_MODULES = frozenset({"certificates"})
_MODULE_OF_NAME = {
    "AuthError": "_errors",
    "Balance": "_values",
    "BudgetExceeded": "_errors",
    "BudgetRequired": "_errors",
    "ChargepoolError": "_errors",
    "Client": "_client",
    "Comparator": "_comparators",
    "ConfigError": "_errors",
    "Executor": "_executor",
    "FundsError": "_errors",
    "InputRefused": "_errors",
    "InsufficientFunds": "_errors",
    "Job": "_job",
    "JobCancelled": "_errors",
    "JobClosed": "_errors",
    "JobError": "_errors",
    "JobNotFound": "_errors",
    "JobStatus": "_values",
    "LevelOffer": "_estimate",
    "MarketPrice": "_prices",
    "NumericsReport": "_numerics",
    "NumericsWarning": "_numerics",
    "PoolRefused": "_errors",
    "PoolUnreachable": "_errors",
    "PriceAboveCap": "_errors",
    "PriceEpoch": "_prices",
    "Program": "_program",
    "ProgramRefused": "_errors",
    "Progress": "_values",
    "ProofInvalid": "_errors",
    "Quote": "_values",
    "QuoteEstimate": "_estimate",
    "QuoteExpired": "_errors",
    "Receipt": "_receipts",
    "Result": "_values",
    "SpendCap": "_values",
    "SpendLimitReached": "_errors",
    "Results": "_map",
    "TaskFailed": "_errors",
    "bounded_while": "_loops",
    "close": "_comparators",
    "connect": "_connect",
    "exact": "_comparators",
    "per_output": "_comparators",
    "ulp": "_comparators",
    "unordered": "_comparators",
}

__all__ = [
    "AuthError",
    "Balance",
    "BudgetExceeded",
    "BudgetRequired",
    "ChargepoolError",
    "Client",
    "Comparator",
    "ConfigError",
    "Executor",
    "FundsError",
    "InputRefused",
    "InsufficientFunds",
    "Job",
    "JobCancelled",
    "JobClosed",
    "JobError",
    "JobNotFound",
    "JobStatus",
    "LevelOffer",
    "MarketPrice",
    "NumericsReport",
    "NumericsWarning",
    "PoolRefused",
    "PoolUnreachable",
    "PriceAboveCap",
    "PriceEpoch",
    "Program",
    "ProgramRefused",
    "Progress",
    "ProofInvalid",
    "Quote",
    "QuoteEstimate",
    "QuoteExpired",
    "Receipt",
    "Result",
    "Results",
    "SpendCap",
    "SpendLimitReached",
    "TaskFailed",
    "bounded_while",
    "close",
    "connect",
    "exact",
    "per_output",
    "ulp",
    "unordered",
]


# Hidden from type checkers, which would otherwise believe that every name exists.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Load a public name when it is first used (PEP 562)."""
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        module = _MODULE_OF_NAME.get(name)
        if module is None:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message)
        value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__, *_MODULES})
