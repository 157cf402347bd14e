"""What a buyer must not write: mypy reports each marked line, with the kind named. Never run."""

from __future__ import annotations

import chargepool


def buy(pool: chargepool.Client, quote: chargepool.Quote, result: chargepool.Result) -> None:
    chargepool.connect(7443)  # expect: arg-type
    chargepool.connect("pool:1", tokn="cp_buyer_x")  # expect: call-arg
    pool.map(abs, [1.0], level="sloppy")  # expect: arg-type
    pool.map(abs, [1.0], on_error="ignore")  # expect: arg-type
    pool.map(abs, [1.0], on_interrupt="explode")  # expect: arg-type
    pool.map(abs, 5)  # expect: arg-type
    pool.map(abs, [1.0], budget_micros=0.5)  # expect: arg-type
    pool.map(abs, [1.0], quote=quote.total_micros)  # expect: arg-type
    pool.map("abs", [1.0])  # expect: arg-type
    pool.program(abs)  # expect: call-arg
    pool.step_program(print, 1.0)  # expect: call-arg
    pool.submit_job(abs, [1.0], level="cheap")  # expect: arg-type
    pool.submit_job(abs, [1.0], budget=5)  # expect: call-arg
    pool.executor(windows=5)  # expect: call-arg
    chargepool.close(1e-3, 0.0)  # expect: call-arg
    chargepool.ulp(0.5)  # expect: arg-type
    chargepool.per_output([chargepool.exact()])  # expect: arg-type
    pool.program(abs, 1.0, comparator=1e-3)  # expect: arg-type
    quote.total_micros = 0  # expect: misc
    result.cost_micros += 1  # expect: misc
    print(quote.total)  # expect: attr-defined
    print(result.receipt.net_micros.amount)  # expect: attr-defined
    print(chargepool.NoSuchError)  # expect: attr-defined
