#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: redis-server, HAProxy, Prometheus, Chromium, node, valgrind,
# cargo-deny.
set -euo pipefail

CARGO_DENY_VERSION=0.20.2

packages=()
command -v redis-server >/dev/null || packages+=(redis-server)
[[ -x /usr/sbin/haproxy ]] || command -v haproxy >/dev/null || packages+=(haproxy)
command -v prometheus >/dev/null && command -v promtool >/dev/null || packages+=(prometheus)
command -v chromium >/dev/null || packages+=(chromium)
command -v node >/dev/null || packages+=(nodejs npm)
command -v valgrind >/dev/null || packages+=(valgrind)
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
