"""The `car-agent` command. Each command prints what it did, and on a failure what to do next.

Exit status: 0 done, 1 failed, 2 wrong usage. Nothing here opts in by itself.
"""

from car_agent.cli.commands import main

__all__ = ["main"]
