#!/usr/bin/env bash
# Checks alerts, dashboards and autoscaling formulas: with promtool, in a model of the autoscaler, and against real nodes that
# a real Prometheus scrapes. `monitoring.sh screenshots` makes the pictures of the documentation instead.
#
#   FANWAY_BIN            the node (default: target/ci/fanway, which `make build` makes)
#   PROMETHEUS, PROMTOOL  where they are (default: in PATH; `make setup` installs Debian's)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
export FANWAY_BIN=${FANWAY_BIN:-$root/target/ci/fanway}

command -v "${PROMTOOL:-promtool}" >/dev/null && command -v "${PROMETHEUS:-prometheus}" >/dev/null || deploy/scripts/setup.sh
deploy/scripts/npm.sh deploy/e2e deploy/checks/monitoring

cd deploy/checks/monitoring
if [ "${1:-}" = screenshots ]; then exec node screenshots.mjs; fi
node --test --test-reporter=spec ./*.test.mjs
echo "monitoring: alerts, dashboards and autoscaling formulas hold"
