#!/usr/bin/env bash
# The rows of the performance page (loadtest/docs/performance.md), each as the command that measures it.
#
#   loadtest/rows.sh            all of them; takes long, and needs two quiet cores
#   loadtest/rows.sh fanout tls only these
#
# BIN   where the binaries are (target/release)
# OUT   where results go, as ROW.json and ROW.txt (target/rows)
set -uo pipefail
cd "$(dirname "$0")/.."
BIN=${BIN:-target/release}
OUT=${OUT:-target/rows}
mkdir -p "$OUT"

# Two cores: the server on one, everything else on the other.
pins=(--pin-server 0 --pin-clients 1)
# What is compared is open at once and takes turns of a fraction of a second, five times over with fresh servers.
turns=(--floor --rounds 5 --slices 20)

run() { # ROW SCENARIO OPTIONS...
    local row=$1 scenario=$2
    shift 2
    echo "== $row: fanway-loadtest $scenario $*"
    "$BIN/fanway-loadtest" "$scenario" --spawn "$BIN/fanway" --quiet --json "$OUT/$row.json" "$@" 2>&1 | tee "$OUT/$row.txt"
    [ "${PIPESTATUS[0]}" = 0 ] || { echo "== $row FAILED"; failed+=("$row"); }
}

row() {
    case $1 in
        fanout) run "$1" fanout --connections 1000 --one-at-a-time --publications 500 "${turns[@]}" "${pins[@]}" ;;
        fanout-10000) run "$1" fanout --connections 9000 --processes 2 --one-at-a-time --publications 100 "${turns[@]}" "${pins[@]}" ;;
        sse) run "$1" fanout --transport sse --connections 1000 --one-at-a-time --publications 500 "${turns[@]}" "${pins[@]}" ;;
        tls) run "$1" fanout --tls --against plain --connections 1000 --one-at-a-time --publications 500 --rounds 5 --slices 20 "${pins[@]}" ;;
        many-channels) run "$1" many-channels --connections 1000 --channels 100 --ticks 40 "${turns[@]}" "${pins[@]}" ;;
        unicast) run "$1" many-channels --connections 9000 --channels own --processes 2 --publications 40000 "${turns[@]}" "${pins[@]}" ;;
        # Longer turns than elsewhere: in turns of ten bursts, a tenth of a second, a delivery costs a quarter more.
        burst) run "$1" burst --connections 1000 --bursts 200 --floor --rounds 5 --slices 5 "${pins[@]}" ;;
        encodings) run "$1" encodings --connections 2000 --ticks 100 --rounds 15 --slices 20 "${pins[@]}" ;;
        burst-10000) run "$1" burst --connections 9000 --processes 2 --bursts 40 "${turns[@]}" "${pins[@]}" ;;
        growth-subscribers) run "$1" growth subscribers --points 100,1000,3000,9000 --processes 2 --floor --rounds 3 "${pins[@]}" ;;
        growth-channels) run "$1" growth channels --redis --rounds 3 ;;
        growth-payload) run "$1" growth payload --floor --rounds 3 "${pins[@]}" ;;
        growth-workers) run "$1" growth workers --points 1,2 --connections 9000 --processes 2 --rounds 5 ;;
        growth-nodes) run "$1" growth nodes --rounds 3 ;;
        growth-bystanders) run "$1" growth bystanders --rounds 3 ;;
        idle) run "$1" idle --connections 10000 --duration 60s ;;
        idle-sse) run "$1" idle --transport sse --connections 10000 --duration 60s ;;
        idle-tls) run "$1" idle --tls --connections 8000 --connect-rate 800 --duration 60s ;;
        idle-sse-tls) run "$1" idle --tls --transport sse --connections 8000 --connect-rate 800 --duration 60s ;;
        large-publication) run "$1" fanout --connections 5000 --payload-bytes 65536 --one-at-a-time --publications 2 --rest 5s ;;
        storms) run "$1" connect-storm --connections 8000 --storms 6 ;;
        stalled) run "$1" slow-consumers --rounds 5 ;;
        connect) run "$1" connect-storm --connections 6000 --floor --rounds 5 "${pins[@]}" ;;
        resume) run "$1" resume-storm --connections 8000 --rounds 5 ;;
        publish) run "$1" publish --redis --floor --rounds 5 ;;
        latency) run "$1" latency --connections 1000 --rate 1000 ;;
        latency-5000) run "$1" latency --connections 1000 --rate 5000 ;;
        *) echo "no such row: $1" >&2; exit 2 ;;
    esac
}

failed=()
all=(fanout fanout-10000 sse tls many-channels unicast burst burst-10000 encodings growth-subscribers growth-channels growth-payload
    growth-workers growth-nodes growth-bystanders idle idle-sse idle-tls idle-sse-tls large-publication storms stalled connect
    resume publish latency latency-5000)
[ $# = 0 ] && set -- "${all[@]}"
for each in "$@"; do row "$each"; done
if [ ${#failed[@]} != 0 ]; then echo "failed: ${failed[*]}"; exit 1; fi
