#!/usr/bin/env bash
# `make kubernetes`: the gateway on a real Kubernetes on this machine; see cluster.sh for how, checks/ for what is looked at.
#
#   run.sh [CHECK...]      all checks, or those whose names begin so (10, 20, ...)
#   KEEP=1 run.sh          leaves the cluster running; `cluster.sh in kubectl get pods -A` looks at it
#   FANWAY_BIN             the gateway to run (target/ci/fanway), in an image that is made for it
#   IMAGE=FILE             an image of it instead, such as target/docker/fanway.tar of `make compose-check`
#
# Cleans up after itself. What the parts of the cluster and the gateways said is then in target/kubernetes/logs.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
base=$root/target/kubernetes
gateway=${FANWAY_BIN:-$root/target/ci/fanway}

"$here/build.sh" check
for program in "$gateway" "$(command -v redis-server || true)"; do
    [[ -x $program ]] || { echo "missing: ${program:-redis-server}; make build and make setup make and install them" >&2; exit 1; }
done

began=$SECONDS
"$here/build.sh"
"$root/deploy/scripts/chart.sh" crds
built=$((SECONDS - began))

mkdir -p "$base/images"
"$here/image.sh" "$base/images/pause.tar" registry.local/pause:1 /bin/sleep infinity
"$here/image.sh" "$base/images/redis.tar" registry.local/redis:local "$(command -v redis-server)"
if [[ -n ${IMAGE:-} ]]; then
    cp "$IMAGE" "$base/images/fanway.tar"
else
    "$here/image.sh" "$base/images/fanway.tar" registry.local/fanway:local "$gateway" serve
fi
"$root/deploy/scripts/npm.sh" deploy/e2e

finish() {
    local code=$?
    if [[ -d $base/state ]]; then
        rm -rf "$base/logs"
        mkdir -p "$base/logs"
        cp "$base"/state/*.log "$base/logs/" 2>/dev/null || true
        if [[ -n ${KEEP:-} ]]; then
            echo "still running; $here/cluster.sh down ends it" >&2
        else
            "$here/cluster.sh" in kubectl get events -A --sort-by=.lastTimestamp >"$base/logs/events.txt" 2>/dev/null || true
            "$here/cluster.sh" down || echo "the cluster could not be taken down whole" >&2
        fi
    fi
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

began=$SECONDS
"$here/cluster.sh" up 2
echo "built in $built s, up in $((SECONDS - began)) s" >&2
"$here/cluster.sh" in node "$here/checks/run.mjs" "$@"
