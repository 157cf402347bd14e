#!/usr/bin/env bash
# Checks the wire: buf's lint and format, no breaking change, and generated stubs that match proto/.
# Breaking is judged against $PROTO_BASE when set; otherwise against the branch main, or, on main itself, against the
# commit before. Where there is none (a first commit, a shallow clone) it says so and passes.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

# CI may run as another user than the one who cloned.
git() { command git -c safe.directory='*' "$@"; }

base_commit() {
    if [ -n "${PROTO_BASE:-}" ]; then
        git rev-parse --verify --quiet "$PROTO_BASE^{commit}"
        return
    fi
    local head ref base
    head=$(git rev-parse --verify --quiet HEAD) || return 1
    for ref in refs/remotes/origin/main refs/heads/main; do
        base=$(git rev-parse --verify --quiet "$ref^{commit}") || continue
        [ "$base" = "$head" ] || { printf '%s\n' "$base"; return; }
    done
    git rev-parse --verify --quiet 'HEAD~1^{commit}'
}

echo "buf lint"
"$bin/buf" lint || failed=1

echo "buf format"
"$bin/buf" format --diff --exit-code || failed=1

if base=$(base_commit); then
    mkdir "$scratch/base"
    if git archive "$base" -- proto buf.yaml 2>/dev/null | tar -x -C "$scratch/base" 2>/dev/null; then
        echo "buf breaking, against ${base:0:12}"
        "$bin/buf" breaking --against "$scratch/base" || failed=1
    else
        echo "buf breaking: ${base:0:12} holds no proto/ yet, nothing to break"
    fi
elif [ -n "${PROTO_BASE:-}" ]; then
    echo "buf breaking: no commit $PROTO_BASE here" >&2
    failed=1
else
    echo "buf breaking: no earlier commit in this clone, nothing to compare with"
fi

echo "stubs"
"$bin/python" scripts/generate_protocol.py --out "$scratch/stubs" >/dev/null
if ! diff --recursive --brief --exclude=__pycache__ "$scratch/stubs/pool_protocol/v1" pool_protocol/v1; then
    echo "pool_protocol/v1 is not what proto/ generates: run 'make protocol' and commit the result." >&2
    failed=1
fi
exit "$failed"
