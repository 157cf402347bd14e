"""`pool-server price`: the price, who moves it, its history, and the proof that it follows from its books."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from pool_protocol import amounts
from pool_protocol.errors import ErrorCode, PoolError
from pool_protocol.v1 import admin_service_pb2, common_pb2, price_service_pb2_grpc
from pool_protocol.v1 import price_service_pb2 as pb
from pool_server.cli.output import json_option, print_json, print_pairs, print_table, time, write_file
from pool_server.cli.remote import Remote
from pool_server.core.pricing.history import DOUBT, HistoryReport, verify_history
from pool_server.core.pricing.order_book import read_book
from pool_server.rpc.convert_price import epoch_of_message

_STUB = price_service_pb2_grpc.PriceServiceStub
#: A day of quarter hours.
HISTORY_DEFAULT = 96
_PAGE_SIZE = 1_000
_FOLDER = click.Path(path_type=Path, file_okay=False)
_EPOCHS_FILE = "epochs.json"


@click.group()
def price() -> None:
    """The posted price: what it is, who moves it, and why it is what it is."""


@price.command("show")
@json_option
@click.pass_obj
def show_price(remote: Remote, *, as_json: bool) -> None:
    """Show the posted price, who moves it, and what the last auction found."""
    answer: pb.GetPriceResponse = remote.call("GetPrice", pb.GetPriceRequest(), service=_STUB)
    if as_json:
        print_json(answer)
        return
    fixed = answer.mode == pb.POSTING_MODE_FIXED
    pairs = [
        ("posted price", f"{answer.price_micros_per_wu} micro-{answer.currency} per WU"),
        ("since", time(answer.since_us)),
        ("moved by", "the operator only (`price follow` lets the auction)" if fixed else "the auction"),
    ]
    if answer.HasField("last_epoch"):
        epoch = answer.last_epoch
        pairs += [
            ("last auction", f"epoch {epoch.epoch_id}, {time(epoch.starts_at_us)}"),
            ("bid for", f"{amounts.work(epoch.bid_uwu)} WU by {epoch.bid_count} jobs"),
            ("offered", f"{amounts.work(epoch.ask_uwu)} WU by {epoch.ask_count} vehicles"),
            ("traded", f"{amounts.work(epoch.traded_uwu)} WU"),
            ("target", f"{epoch.target_micros_per_wu} micros per WU"),
        ]
    pairs.append(("next auction", time(answer.next_epoch_us)))
    print_pairs(pairs)


@price.command("set")
@click.argument("price_micros_per_wu", type=click.IntRange(0, 2**63 - 1))
@json_option
@click.pass_obj
def set_price(remote: Remote, *, price_micros_per_wu: int, as_json: bool) -> None:
    """Fix the posted price: leases from now on lock it, running ones keep theirs.

    It stays until another is set, or until `price follow` lets the auction move it again.
    """
    answer: admin_service_pb2.SetPostedPriceResponse = remote.call(
        "SetPostedPrice", admin_service_pb2.SetPostedPriceRequest(price_micros_per_wu=price_micros_per_wu)
    )
    if as_json:
        print_json(answer)
        return
    click.echo(
        f"The posted price is {answer.price_micros_per_wu} micros per WU now, and stays. "
        "Let the auction move it again with: pool-server price follow"
    )


@price.command("follow")
@json_option
@click.pass_obj
def follow(remote: Remote, *, as_json: bool) -> None:
    """Let the auction move the price again, from where it is, by a step at most with each epoch."""
    answer: pb.FollowAuctionResponse = remote.call("FollowAuction", pb.FollowAuctionRequest(), service=_STUB)
    if as_json:
        print_json(answer)
        return
    click.echo(f"The price follows the auction from {answer.price_micros_per_wu} micros per WU on.")


@price.command("history")
@click.option(
    "--last",
    type=click.IntRange(1, 2**63 - 1),
    default=HISTORY_DEFAULT,
    show_default=True,
    help="So many epochs.",
)
@click.option(
    "--export",
    "folder",
    type=_FOLDER,
    help="Write all epochs and their order books into this folder: what `price verify FOLDER` checks.",
)
@json_option
@click.pass_obj
def history(remote: Remote, *, last: int, folder: Path | None, as_json: bool) -> None:
    """List the auctions, newest first."""
    if folder is not None:
        epochs = _all_epochs(remote)
        _export(remote, epochs, folder)
        if as_json:
            print_json({"folder": str(folder), "epochs": len(epochs)})
        else:
            click.echo(f"{len(epochs)} epochs and their books are in {folder}.")
        return
    shown = [epoch for _, epoch in zip(range(last), _epochs(remote), strict=False)]
    if as_json:
        print_json({"epochs": [plain_epoch(epoch) for epoch in shown]})
        return
    print_table(
        ["epoch", "from", "price", "target", "bid WU", "asked WU", "traded WU", "moved by"],
        [
            [
                str(epoch.epoch_id),
                time(epoch.starts_at_us),
                str(epoch.after_micros_per_wu),
                str(epoch.target_micros_per_wu),
                amounts.work(epoch.bid_uwu),
                amounts.work(epoch.ask_uwu),
                amounts.work(epoch.traded_uwu),
                "auction" if epoch.mode == pb.POSTING_MODE_AUCTION else "operator",
            ]
            for epoch in shown
        ],
    )


@price.command("book")
@click.argument("epoch_id", type=click.IntRange(1, 2**63 - 1), metavar="EPOCH")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write its bytes, as hashed."
)
@json_option
@click.pass_obj
def book(remote: Remote, *, epoch_id: int, output: Path | None, as_json: bool) -> None:
    """Show the order book of an EPOCH: every bid and ask, without names."""
    epoch, content = _book(remote, epoch_id)
    if output is not None:
        write_file(output, content)
    orders = read_book(content)
    if as_json:
        print_json(
            {
                "epoch": plain_epoch(epoch),
                "bids": [[bid.order_id, bid.price_micros_per_wu, bid.work_uwu] for bid in orders.bids],
                "asks": [[ask.order_id, ask.price_micros_per_wu, ask.work_uwu] for ask in orders.asks],
            }
        )
        return
    bids = [[bid.order_id, str(bid.price_micros_per_wu), amounts.work(bid.work_uwu)] for bid in orders.bids]
    asks = [[ask.order_id, str(ask.price_micros_per_wu), amounts.work(ask.work_uwu)] for ask in orders.asks]
    print_table(["order", "price", "WU"], bids + asks)
    click.echo(f"sha256 {epoch.book_sha256.hex()}")


@price.command("verify")
@click.argument("folder", type=_FOLDER, required=False)
@json_option
@click.pass_obj
def verify(remote: Remote, *, folder: Path | None, as_json: bool) -> None:
    """Derive every price again from its order book, and the chain of hashes over all of them.

    With a FOLDER that `price history --export` wrote nothing is asked of any pool; without one the history is
    fetched first. Ends with status 1 at the first figure that does not follow.
    """
    epochs, books = _fetched(remote) if folder is None else _exported(folder)
    report = verify_history([epoch_of_message(epoch) for epoch in epochs], books)
    for epoch in epochs:
        _check_posted(epoch)
    if as_json:
        print_json(_report_json(report))
        return
    click.echo(
        f"Epochs: {report.epoch_count}, orders: {report.order_count}. "
        "Every hash, target and price follows from the books."
    )
    click.echo(
        f"The auction moved the price {report.moved_count} times; an operator had set it "
        f"{report.operator_count} times."
    )
    click.echo(f"chain {report.chain_sha256.hex()}")


def _check_posted(epoch: pb.PriceEpoch) -> None:
    """Check the one published figure that follows from others, so that `verify_history` does not read it."""
    derived = epoch_of_message(epoch).posted_micros_per_wu
    if epoch.after_micros_per_wu != derived:
        raise PoolError(
            ErrorCode.PROOF_INVALID,
            f"Epoch {epoch.epoch_id}: it says that {epoch.after_micros_per_wu} was posted, "
            f"{derived} follows.",
            advice=DOUBT,
        )


def _report_json(report: HistoryReport) -> dict[str, Any]:
    return {
        "epochs": report.epoch_count,
        "orders": report.order_count,
        "moved_by_auction": report.moved_count,
        "set_by_operator": report.operator_count,
        "chain_sha256": report.chain_sha256.hex(),
    }


def plain_epoch(epoch: pb.PriceEpoch) -> dict[str, Any]:
    """Return an epoch as plain values: numbers as numbers, hashes as hexadecimal."""
    values = {field.name: getattr(epoch, field.name) for field in epoch.DESCRIPTOR.fields}
    values["mode"] = "auction" if epoch.mode == pb.POSTING_MODE_AUCTION else "fixed"
    if not epoch.HasField("clearing_micros_per_wu"):
        values["clearing_micros_per_wu"] = None
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}


# --- asking the pool ----------------------------------------------------------------------------


def _epochs(remote: Remote) -> Iterator[pb.PriceEpoch]:
    token = ""
    while True:
        page = common_pb2.PageRequest(page_size=_PAGE_SIZE, page_token=token)
        answer: pb.ListPriceEpochsResponse = remote.call(
            "ListPriceEpochs", pb.ListPriceEpochsRequest(page=page), service=_STUB
        )
        yield from answer.epochs
        token = answer.next_page_token
        if not token:
            return


def _all_epochs(remote: Remote) -> list[pb.PriceEpoch]:
    """Return all epochs, oldest first."""
    return list(_epochs(remote))[::-1]


def _book(remote: Remote, epoch_id: int) -> tuple[pb.PriceEpoch, bytes]:
    pieces: list[pb.GetOrderBookResponse] = list(
        remote.stream("GetOrderBook", pb.GetOrderBookRequest(epoch_id=epoch_id), service=_STUB)
    )
    return pieces[0].epoch, b"".join(piece.chunk for piece in pieces)


def _fetched(remote: Remote) -> tuple[list[pb.PriceEpoch], dict[int, bytes]]:
    epochs = _all_epochs(remote)
    return epochs, {epoch.epoch_id: _book(remote, epoch.epoch_id)[1] for epoch in epochs}


# --- a folder -----------------------------------------------------------------------------------


def _export(remote: Remote, epochs: list[pb.PriceEpoch], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for epoch in epochs:
        write_file(folder / _book_name(epoch.epoch_id), _book(remote, epoch.epoch_id)[1])
    messages = [MessageToDict(epoch, preserving_proto_field_name=True) for epoch in epochs]
    write_file(folder / _EPOCHS_FILE, json.dumps(messages, indent=1).encode() + b"\n")


def _exported(folder: Path) -> tuple[list[pb.PriceEpoch], dict[int, bytes]]:
    try:
        listed = json.loads(_read(folder / _EPOCHS_FILE))
        if not isinstance(listed, list):
            raise TypeError("it holds no list")
        epochs = [ParseDict(message, pb.PriceEpoch()) for message in listed]
    except (ValueError, TypeError, AttributeError, ParseError) as error:
        raise PoolError(
            ErrorCode.INVALID_ARGUMENT,
            f"{folder / _EPOCHS_FILE} is not what `price history --export` writes: {error}",
            advice="Export the history again.",
        ) from error
    return epochs, {epoch.epoch_id: _read(folder / _book_name(epoch.epoch_id)) for epoch in epochs}


def _book_name(epoch_id: int) -> str:
    return f"epoch-{epoch_id:08d}.book"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.ClickException(f"cannot read {path}: {error.strerror}") from error
