#!/usr/bin/env bash
# Runs the HTTP/2 conformance suite h2spec, strict cases included, against a node with TLS, and fails if a case fails
# steadily.
#
#   FANWAY_BIN   the gateway's binary
#   RUNS         how often a case must fail to count (default: 5): cases that race with an answer pass or fail with the timing
#
# The suite asks for a path that reads the body of a POST. An answer that does not wait for the body ends the stream before
# the node reads what the case is about, rightly (RFC 9113, section 8.1).
#
# Over TLS, because there HTTP/2 is negotiated: of a plain connection that does not begin with the preface, nobody knows
# that it was to be HTTP/2.
set -euo pipefail

H2SPEC=v2.2.1+incompatible
# The suite names no versions of what it is made of.
REQUIRES=(
    "github.com/summerwind/h2spec $H2SPEC"
    "github.com/fatih/color v1.19.0"
    "github.com/spf13/cobra v1.10.2"
    "golang.org/x/net v0.62.0"
)

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tools=$root/target/tools
export PATH=$tools/go/bin:$PATH
runs=${RUNS:-5}
work=$(mktemp -d)
node=

cleanup() {
    if [ -n "$node" ]; then kill "$node" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap cleanup EXIT

say() { echo "h2spec: $*"; }

version="$H2SPEC of $(echo "${REQUIRES[@]}" | sha256sum | cut -c1-12)"
if [ "$(cat "$tools/h2spec.version" 2>/dev/null)" != "$version" ]; then
    say "installing $H2SPEC"
    mkdir -p "$tools/bin" "$work/build"
    {
        printf 'module tools\n\ngo 1.25\n\n'
        printf 'require %s\n' "${REQUIRES[@]}"
    } >"$work/build/go.mod"
    (cd "$work/build" && CGO_ENABLED=0 go build -mod=mod -ldflags '-s -w' -o "$tools/bin/h2spec" \
        github.com/summerwind/h2spec/cmd/h2spec)
    echo "$version" >"$tools/h2spec.version"
fi

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
key=$(openssl rand -hex 32)
cat >"$work/fanway.toml" <<TOML
[server]
listen = "127.0.0.1:$port"
[server.tls]
cert_file = "$work/cert.pem"
key_file = "$work/key.pem"
[broker]
engine = "memory"
[auth]
keys = [{ algorithm = "HS256", secret = "$(openssl rand -hex 32)" }]
[api]
allow_key_in_query = true
keys = [{ id = "h2spec", key = "$key" }]
TOML
"$FANWAY_BIN" serve --config "$work/fanway.toml" >"$work/node.log" 2>&1 &
node=$!
for _ in $(seq 100); do
    if (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
    kill -0 "$node" 2>/dev/null || { cat "$work/node.log" >&2; exit 1; }
    sleep 0.1
done

for run in $(seq "$runs"); do
    "$tools/bin/h2spec" -h 127.0.0.1 -p "$port" -t -k -S -P "/api/publish?api_key=$key" -j "$work/report-$run.xml" >"$work/run-$run.log" || true
done

python3 - "$work" "$runs" <<'PYTHON'
import sys
from xml.etree import ElementTree

work, runs = sys.argv[1], int(sys.argv[2])
failed, cases = None, 0
for run in range(1, runs + 1):
    report = list(ElementTree.parse(f"{work}/report-{run}.xml").iter("testcase"))
    cases = len(report)
    bad = {
        f"{case.get('package')} {case.get('classname')}"
        for case in report
        if case.find("failure") is not None or case.find("error") is not None
    }
    failed = bad if failed is None else failed & bad
    print(f"h2spec: run {run}: {len(bad)} of {cases} cases failed")
for case in sorted(failed):
    print(f"h2spec: fails steadily: {case}")
# A suite that could not connect reports fewer.
sys.exit(1 if failed or cases < 146 else 0)
PYTHON
if grep -E 'panicked|ERROR|WARN.*h2' "$work/node.log"; then
    say "the node logged what it must not" >&2
    exit 1
fi
