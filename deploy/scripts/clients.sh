#!/usr/bin/env bash
# Runs client libraries of several languages against real nodes: deploy/e2e/clients. Installs the libraries at the versions of
# the lock files when missing, those of Python into target/tools/clients. Needs node, Python 3.11 and Go: setup.sh.
#
#   FANWAY_BIN   the gateway (default: target/ci/fanway)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
clients=$root/deploy/e2e/clients
venv=$root/target/tools/clients
export PATH=$root/target/tools/go/bin:$PATH
export FANWAY_BIN=${FANWAY_BIN:-$root/target/ci/fanway} PYTHON=$venv/bin/python

if ! cmp --quiet "$clients/python/requirements.txt" "$venv/requirements.txt"; then
    echo "clients: installing Python's"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --require-hashes --requirement "$clients/python/requirements.txt"
    cp "$clients/python/requirements.txt" "$venv/"
fi
cd "$root/deploy/e2e"
"$root/deploy/scripts/npm.sh" deploy/e2e
node --test --test-reporter=spec clients/*.test.mjs
