#!/bin/bash
# demo.sh — from ratings to recommended films: prepares MovieLens latest-small, trains four interests per user, starts
# the daemon and asks it for candidates.  `make demo` runs it; it may be run again at any time.
#   DEMO_PORT=8080   where the daemon listens (the next free port is taken when it is busy)
#   DEMO_STAY=no     stops the daemon at the end
set -euo pipefail
cd "$(dirname "$0")/.."

intent=build/release/intent intentd=build/release/intentd
var=var/demo data=$var/data models=$var/models
mkdir -p "$var"

say() { printf '\n== %s\n' "$*"; }

# The daemon of this demo, if it runs: the pid may have gone to somebody else since.
stop_daemon() {
    local pid
    pid=$(cat "$var/intentd.pid" 2>/dev/null) || return 0
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = intentd ]; then
        kill "$pid"
        for _ in $(seq 100); do [ -d "/proc/$pid" ] && sleep 0.1 || break; done
    fi
    rm -f "$var/intentd.pid"
}

# Two tastes in one history: films for children, then science fiction with teeth.
history=(1 4886 6377 78499 1214 541 1240 1200)

say "Preparing the ratings of 610 people (models/ml-latest-small)"
$intent prep models/ml-latest-small --out "$data"

say "Training: four interests per user, about a minute on two cores"
rm -rf "$models"
$intent train --data "$data" --recipe models/recipes/demo.ini --out "$models/films" >"$var/train.txt"

say "Quality: the film each person watched last, among all the others"
$intent eval --data "$data" --baseline pop
echo
$intent eval --data "$data" --bundle "$models/films" 2>/dev/null

say "Starting the daemon"
stop_daemon
rm -rf "$var/store"
port=${DEMO_PORT:-8080}
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
url=http://127.0.0.1:$port
setsid nohup $intentd --models "$models" --store "$var/store" --listen "127.0.0.1:$port" --drain-delay 0 \
    </dev/null >"$var/intentd.log" 2>&1 &
echo $! >"$var/intentd.pid"
ready=
for _ in $(seq 100); do
    curl -fs -o /dev/null "$url/readyz" && ready=yes && break
    kill -0 "$(cat "$var/intentd.pid")" 2>/dev/null || break
    sleep 0.1
done
[ "$ready" ] || { echo "demo: the daemon did not start:" >&2; cat "$var/intentd.log" >&2; exit 1; }
echo "$url is ready (log: $var/intentd.log)"

say "Somebody watched, oldest first"
titles=models/ml-latest-small/movies.csv
for id in "${history[@]}"; do
    sed -n "s/^$id,\"\{0,1\}\(.*([0-9]*)\)\"\{0,1\},[^,]*$/  \1/p" "$titles"
done

ids=$(printf '"%s",' "${history[@]}")
request="{\"history\": [${ids%,}], \"limit\": 20, \"explain\": true}"
curl -fsS "$url/v1/recommend" -H 'Content-Type: application/json' -d "$request" >"$var/answer.json"

say "The daemon recommends, grouped by the interest that found them"
jq -r '
  .explain.interests as $all
  | (.items | group_by(.interest) | sort_by(-.[0].score))[]
  | .[0].interest as $k
  | "  interest \($k): \(($all[$k].history_share * 100 | round)) % of the attention",
    (.[] | "    \(.title)  \(.score * 100 | round / 100)")' "$var/answer.json"
printf '  answered in %.2f ms\n' "$(jq -r .took_ms "$var/answer.json")"

if [ "${DEMO_STAY:-yes}" = no ]; then
    stop_daemon
    exit 0
fi
cat <<EOF

The daemon is still running.  Stop it with

  kill \$(cat $var/intentd.pid)

What to try next:

  curl -s $url/v1/recommend -H 'Content-Type: application/json' -d '{"history": ["260", "1196", "1210"], "limit": 5}' | jq .items
  curl -s $url/v1/models | jq .
  curl -s $url/metrics | grep recommend
  $intent recommend --bundle $models/films --history 260,1196,1210 --explain
  $intent train --help                  your own data: README.md, "Training on your own data"
EOF
