"""Ties a program to the demo's life, then becomes that program.

`python -m chargepool.demo.tether PARENT COMMAND...`: asks the kernel for SIGTERM when the demo dies, however
it dies, and replaces itself by the command. Done here, after exec, because code between fork and exec is
unsafe in a process that has gRPC's and JAX's threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns: the command takes this process over."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - the demo's own command


if __name__ == "__main__":
    main()
