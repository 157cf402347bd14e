"""Pages of lists: sizes are cut, tokens are read strictly."""

from pool_protocol.ids import ROW_ID_MAX
from pool_protocol.v1 import common_pb2
from pool_server.rpc.convert_work import invalid

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1_000


def page_size(page: common_pb2.PageRequest) -> int:
    """Return how many rows a page holds."""
    return min(page.page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)


def row_token(page: common_pb2.PageRequest) -> int:
    """Read the row id that a token holds; 0 for the first page.

    Raises:
        PoolError: INVALID_ARGUMENT for a token that this list did not make.
    """
    token = page.page_token
    if not token:
        return 0
    if not (token.isascii() and token.isdigit() and len(token) <= 19 and 0 < int(token) <= ROW_ID_MAX):
        raise invalid("page_token", "not a token of this list")
    return int(token)


def row_token_text(row_id: int) -> str:
    """Write a token; empty at the end of the list."""
    return str(row_id) if row_id else ""
