#!/usr/bin/env bash
# Writes requirements*.txt: one hash-locked file per extra, all from one resolution, for Python 3.11 and newer.
# Usage: scripts/lock.sh [--upgrade]. Needs the network; nothing else here does.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=build/lock-tools
[ -x "$tools/bin/uv" ] || {
    "$(scripts/find_python.sh)" -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet 'uv>=0.9'
}

bound="python_full_version < '3.15'"
tail="platform_python_implementation == 'CPython' and \\(sys_platform == 'darwin' or sys_platform == 'linux'\\)"

resolve() { # resolve OUTPUT ARGUMENT...
    local output=$1
    shift
    echo "locking $output"
    # Extras stay in the pins: an older pip takes a bare pin for "coverage" and goes looking for "coverage[toml]".
    "$tools/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
        --no-header --no-annotate --no-emit-index-url --output-file "$output" "$@" >/dev/null
    # Where a line's marker only repeats [tool.uv] environments, it says nothing: let pip complain on other platforms
    # instead of silently installing nothing.
    sed -i -E "s/ and implementation_name != 'PyPy'//; s/ ; $bound and $tail//; s/ and $tail//; s/ and $bound//" "$output"
}

# requirements-dev.txt holds everything; the others may take nothing that is not in it.
resolve requirements-dev.txt "$@" pyproject.toml --extra dev
within=(--constraint requirements-dev.txt)
# hatchling is there for the editable install that `make` does without build isolation.
resolve requirements.txt "${within[@]}" pyproject.toml --extra demo - <<<'hatchling'
for extra in server agent tui buyer postgresql plots; do
    resolve "requirements-$extra.txt" "${within[@]}" pyproject.toml --extra "$extra"
done
