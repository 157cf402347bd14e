"""What the money use cases say of a receipt is what the wire says, field for field."""

from pool_protocol.receipts import Receipt
from pool_server.ports.money import ReceiptFields


def test_a_receipt_is_the_pool_and_the_fields_in_their_order() -> None:
    assert Receipt._fields == ("pool_id", *ReceiptFields._fields)
