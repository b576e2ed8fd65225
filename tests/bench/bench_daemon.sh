#!/bin/bash
# Requests per second and latency of intentd over a bundle, with real histories, driven by wrk on the same machine.
#   tests/bench/bench_daemon.sh BUNDLE            a version directory: <models>/<name>/<version>
#     HISTORIES   user-sequence text, a line a user (default $DATA/amazon-yelp/Beauty.txt; ids must be the bundle's)
#     LIMIT=20    `limit` of every request          SECONDS_EACH=10  length of a row
#     CONNECTIONS="1 16 64"                          INTENTD_ARGS=""  further options of the daemon
#     MILLION=1   instead: a million requests on 64 connections; fails when one of them does
set -euo pipefail
cd "$(dirname "$0")/../.."

[ $# = 1 ] && [ -f "$1/manifest.json" ] || { sed -n '2,8s/^# *//p' "$0" >&2; exit 2; }
bundle=$(realpath "$1")
histories=${HISTORIES:-${DATA:-../shared/data}/amazon-yelp/Beauty.txt}
command -v wrk >/dev/null || { echo "bench_daemon: needs wrk (Debian package wrk)" >&2; exit 1; }
[ -f "$histories" ] || { echo "bench_daemon: no $histories" >&2; exit 1; }

work=$(mktemp -d)
daemon=
cleanup() {
    [ -z "$daemon" ] || { kill "$daemon" 2>/dev/null && wait "$daemon" || true; }
    rm -rf "$work"
}
trap cleanup EXIT

# The last item is what the model is asked to foresee, as in the evaluation.
export BODIES=$work/bodies
awk -v limit="${LIMIT:-20}" 'NF > 3 {
    printf "{\"history\":["
    for (i = 2; i < NF; i++) printf "%s\"%s\"", (i > 2 ? "," : ""), $i
    printf "],\"limit\":%d}\n", limit }' "$histories" >"$BODIES"

name=$(basename "$(dirname "$bundle")")
mkdir -p "$work/models/$name"
ln -s "$bundle" "$work/models/$name/$(basename "$bundle")"
# shellcheck disable=SC2086  # options are words
build/release/intentd --models "$work/models" --listen 127.0.0.1:0 --drain-delay 0 --log-level info \
    ${INTENTD_ARGS:-} 2>"$work/log" &
daemon=$!
url=
for _ in $(seq 600); do
    url=$(sed -n 's/.*ev=ready addr=\([^ ]*\).*/http:\/\/\1/p' "$work/log")
    [ -z "$url" ] || break
    kill -0 "$daemon" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
sed -n 's/.*ev=model.loaded //p' "$work/log"

row() { # connections seconds
    wrk -t1 -c"$1" -d"$2" --timeout 10s -s tests/bench/daemon.lua "$url" | sed -n 's/^ROW //p'
}

cpu_us() { # processor time of the daemon so far; unlike the rest it hardly depends on what else runs here
    awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); printf "%d", ($12 + $13) * 1000000 / hz }' "/proc/$daemon/stat"
}

row 16 2 >/dev/null # warm-up
if [ -n "${MILLION:-}" ]; then
    done=0 bad=0 start=$(date +%s)
    while [ "$done" -lt 1000000 ]; do
        read -r _ _ _ _ n status socket < <(row 64 10)
        done=$((done + n)) bad=$((bad + status + socket))
    done
    rss=$(awk '/VmRSS/ { print $2 }' "/proc/$daemon/status")
    echo "$done requests in $(($(date +%s) - start)) s, $bad failed, resident $rss KiB"
    [ "$bad" = 0 ]
    exit
fi
format='%11s %9s %9s %9s %9s %9s %9s %8s %7s\n'
# shellcheck disable=SC2059
printf "$format" connections req/s 'p50 ms' 'p99 ms' 'max ms' 'cpu us' requests non-2xx broken
for c in ${CONNECTIONS:-1 16 64}; do
    before=$(cpu_us)
    read -r rps p50 p99 max n status socket < <(row "$c" "${SECONDS_EACH:-10}")
    # shellcheck disable=SC2059
    printf "$format" "$c" "$rps" "$p50" "$p99" "$max" $((($(cpu_us) - before) / n)) "$n" "$status" "$socket"
done
