"""Log lines: one line each, on standard error, plain or JSON. Never a token, a key or a request's content."""

import json
import logging
import sys
from datetime import UTC, datetime

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and what the call gave as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in vars(record).items() if name not in _RESERVED}
        if record.exc_info is not None:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str, ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """Time, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback follows an exception."""
        line = f"{_time(record)} {record.levelname.lower():<8} {record.getMessage()}".replace("\n", " ")
        if record.exc_info is not None:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds")


def configure_logs(*, as_json: bool, verbose: bool) -> None:
    """Send the server's log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else PlainFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # What Alembic sets up and finds up to date at each start is nobody's news.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # Refusals are the callers' business; counting them is the metrics'. They are logged when asked for.
    logging.getLogger("pool_server.rpc.interceptor").setLevel(logging.INFO if verbose else logging.WARNING)
