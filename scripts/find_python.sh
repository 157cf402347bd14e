#!/usr/bin/env bash
# Prints the interpreter that .venv is made with: $PYTHON when set, otherwise the newest of those we test on, otherwise
# a newer one that jaxlib has wheels for. Runs each candidate, since a version manager's shim may exist and refuse to start.
set -u

suits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    suits "$PYTHON" && { command -v "$PYTHON"; exit 0; }
    echo "PYTHON=$PYTHON does not start, is not Python 3.11 to 3.14, or has no venv module." >&2
    exit 1
fi
for candidate in python3.13 python3.12 python3.11 python3 python python3.14; do
    if command -v "$candidate" >/dev/null 2>&1 && suits "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done
echo "Chargepool needs Python 3.11 to 3.14 with its venv module, and found none." >&2
echo "On Debian or Ubuntu: apt-get install python3 python3-venv. Elsewhere: make PYTHON=/path/to/python3 ..." >&2
exit 1
