#!/usr/bin/env bash
# Runs the Autobahn test suite against the gateway's WebSocket codec and fails unless every case ends as expected.
#
#   AUTOBAHN_DIR   where the suite is installed and kept (default: a temporary folder, removed at the end)
#   PYTHON2        a Python 2.7, which the suite needs (default: python2.7, or pyenv's)
#   PROFILE        the Cargo profile of the echo server (default: ci)
#   REPORTS        where the HTML and JSON reports go (default: below AUTOBAHN_DIR)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
profile=${PROFILE:-ci}
server=
temporary=

cleanup() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    if [ -n "$temporary" ]; then rm -rf "$temporary"; fi
}
trap cleanup EXIT

if [ -n "${AUTOBAHN_DIR:-}" ]; then
    mkdir -p "$AUTOBAHN_DIR"
    dir=$(cd "$AUTOBAHN_DIR" && pwd)
else
    temporary=$(mktemp -d)
    dir=$temporary
fi
reports=${REPORTS:-$dir/reports}

# A pyenv shim exists for versions that are not selected, so a candidate counts only if it runs.
find_python2() {
    local candidate
    for candidate in "${PYTHON2:-}" python2.7 "$(pyenv root 2>/dev/null || true)"/versions/2.7.*/bin/python2.7; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "autobahn: no Python 2.7 found; set PYTHON2" >&2
    return 1
}

if [ ! -x "$dir/venv/bin/wstest" ]; then
    python2=$(find_python2)
    echo "autobahn: installing the suite into $dir"
    PYTHONUSERBASE=$dir/base "$python2" -m pip install --quiet --disable-pip-version-check --user virtualenv==20.15.1
    PYTHONUSERBASE=$dir/base "$python2" -m virtualenv --quiet "$dir/venv"
    "$dir/venv/bin/pip" install --quiet --disable-pip-version-check autobahntestsuite==25.10.1
fi

cd "$root"
cargo build --quiet --package fanway-gateway --profile "$profile" --example websocket_echo
target=$(cargo metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
case $profile in dev | test) folder=debug ;; bench) folder=release ;; *) folder=$profile ;; esac

# The server prints its address once it listens.
exec 3< <(exec "$target/$folder/examples/websocket_echo" 127.0.0.1:0)
server=$!
read -r -t 10 address <&3

rm -rf "$reports"
sed -e "s|@ADDRESS@|$address|" -e "s|@REPORTS@|$reports|" "$here/autobahn.json" >"$dir/fuzzingclient.json"
echo "autobahn: 517 cases against $address"
(cd "$dir" && venv/bin/wstest -m fuzzingclient -s fuzzingclient.json) >"$dir/wstest.log" 2>&1 || true

# The suite exits with 0 whatever happened, even if it could not connect: only the report tells. Compression (groups
# 12 and 13) is not negotiated, which the suite calls unimplemented.
"$dir/venv/bin/python" - "$reports/index.json" <<'PYTHON'
import collections, json, sys

EXPECTED = {"OK": 298, "INFORMATIONAL": 3, "UNIMPLEMENTED": 216}

try:
    cases = json.load(open(sys.argv[1])).get("fanway", {})
except IOError:
    sys.exit("autobahn: no report was written")
failed = 0
for name, case in sorted(cases.items(), key=lambda item: [int(part) for part in item[0].split(".")]):
    allowed = ("UNIMPLEMENTED",) if name.startswith(("12.", "13.")) else ("OK", "INFORMATIONAL")
    if case["behavior"] not in allowed or case["behaviorClose"] not in ("OK", "INFORMATIONAL", "UNIMPLEMENTED"):
        failed += 1
        print("%s: %s, close %s" % (name, case["behavior"], case["behaviorClose"]))
counts = dict(collections.Counter(case["behavior"] for case in cases.values()))
print("autobahn: %s" % ", ".join("%d %s" % (count, name) for name, count in sorted(counts.items())))
if failed or counts != EXPECTED:
    sys.exit("autobahn: %d cases failed, expected %s" % (failed, EXPECTED))
PYTHON
