"""The command `pool-server`: makes a pool, runs it, and operates it over gRPC.

Data goes to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from pool_server.cli.root import main

__all__ = ["main"]
