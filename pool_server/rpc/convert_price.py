"""Between the wire and the history of the price: epochs as messages, and back, for whoever checks them."""

from pool_protocol.v1 import price_service_pb2 as pb
from pool_server.core.pricing.epoch import EpochRecord, PriceRules
from pool_server.core.pricing.history import HeldEpoch, PostingMode

_MODES: dict[PostingMode, "pb.PostingMode.ValueType"] = {
    PostingMode.FIXED: pb.POSTING_MODE_FIXED,
    PostingMode.AUCTION: pb.POSTING_MODE_AUCTION,
}


def posting_mode(mode: PostingMode) -> "pb.PostingMode.ValueType":
    """Write a mode."""
    return _MODES[mode]


def epoch_message(epoch: HeldEpoch) -> pb.PriceEpoch:
    """Write an epoch."""
    record = epoch.record
    return pb.PriceEpoch(
        epoch_id=epoch.epoch_id,
        starts_at_us=record.epoch_start_us,
        length_us=epoch.length_us,
        held_at_us=epoch.held_at_us,
        mode=_MODES[epoch.mode],
        step_ppm=record.rules.step_ppm,
        floor_micros_per_wu=record.rules.floor_micros_per_wu,
        cap_micros_per_wu=record.rules.cap_micros_per_wu,
        before_price_id=epoch.before_price_id,
        before_micros_per_wu=record.previous_micros_per_wu,
        clearing_micros_per_wu=record.clearing_micros_per_wu,
        target_micros_per_wu=record.target_micros_per_wu,
        proposed_micros_per_wu=record.posted_micros_per_wu,
        after_price_id=epoch.after_price_id,
        after_micros_per_wu=epoch.posted_micros_per_wu,
        bid_count=record.bid_count,
        ask_count=record.ask_count,
        bid_uwu=record.bid_uwu,
        ask_uwu=record.ask_uwu,
        traded_uwu=record.traded_uwu,
        book_sha256=record.book_sha256,
        chain_sha256=epoch.chain_sha256,
    )


def epoch_of_message(message: pb.PriceEpoch) -> HeldEpoch:
    """Read an epoch as it was published; what its figures are worth, `verify_history` says."""
    clearing = message.clearing_micros_per_wu if message.HasField("clearing_micros_per_wu") else None
    return HeldEpoch(
        epoch_id=message.epoch_id,
        length_us=message.length_us,
        held_at_us=message.held_at_us,
        mode=PostingMode.AUCTION if message.mode == pb.POSTING_MODE_AUCTION else PostingMode.FIXED,
        before_price_id=message.before_price_id,
        after_price_id=message.after_price_id,
        chain_sha256=message.chain_sha256,
        record=EpochRecord(
            epoch_start_us=message.starts_at_us,
            previous_micros_per_wu=message.before_micros_per_wu,
            rules=PriceRules(
                step_ppm=message.step_ppm,
                floor_micros_per_wu=message.floor_micros_per_wu,
                cap_micros_per_wu=message.cap_micros_per_wu,
            ),
            book_sha256=message.book_sha256,
            bid_count=message.bid_count,
            ask_count=message.ask_count,
            bid_uwu=message.bid_uwu,
            ask_uwu=message.ask_uwu,
            traded_uwu=message.traded_uwu,
            clearing_micros_per_wu=clearing,
            target_micros_per_wu=message.target_micros_per_wu,
            posted_micros_per_wu=message.proposed_micros_per_wu,
        ),
    )
