#!/bin/bash
# Planted interests: 4 clusters, every user interested in all four. Does K = 4 find them, and what do 8 do?
#   tests/bench/planted.sh           needs build/release/intent    SEEDS="1 2 3"   USERS=4000
# Fails unless, in the mean over the seeds: NMI of K = 4 is at least .8, its recall@20 at least 20 % above K = 1's, and
# with K = 8 half of the interests are inactive and recall@20 is within two standard errors of K = 4's.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
users=${USERS:-4000}
build/release/intent synth --users "$users" --items 800 --clusters 4 --interests 4 --events 30 --out "$work/synth" >/dev/null
build/release/intent prep "$work/synth/events.csv" --items "$work/synth/items.csv" --out "$work/data" >/dev/null 2>&1
printf '%2s %5s %7s %10s %10s %7s %8s  %s\n' K seed epochs recall@20 recall@50 NMI active 'share of importance'
for K in 1 4 8; do
    for seed in ${SEEDS:-1 2 3}; do
        out=$work/m$K-$seed
        build/release/intent train --data "$work/data" --recipe models/recipes/planted.ini --set "train.seed=$seed" \
            --set model.interests=$((K > 1 ? K : 0)) --out "$out" >/dev/null 2>&1
        cluster=()
        [ "$K" = 1 ] || cluster=(--cluster cluster)
        build/release/intent eval --data "$work/data" --bundle "$out" --seen keep "${cluster[@]}" --json 2>/dev/null |
            python3 -c '
import json, sys
v, log = json.load(sys.stdin), [json.loads(x) for x in open(sys.argv[3])]
i, m = v["interests"] or {"share": [1], "mean_active": 1}, v["metrics"]
print("%2s %5s %7d %10.4f %10.4f %7.4f %8.2f  %s" % (sys.argv[1], sys.argv[2], sum(x["event"] == "epoch" for x in log),
      m["recall@20"], m["recall@50"], v.get("nmi", 0), i["mean_active"], " ".join("%.3f" % s for s in i["share"])))
' "$K" "$seed" "$out/1.train.jsonl" | tee -a "$work/table"
    done
done
awk -v users="$users" '
    { n[$1]++; r[$1] += $4; nmi[$1] += $6; active[$1] += $7 }
    END {
        for (k in n) { r[k] /= n[k]; nmi[k] /= n[k]; active[k] /= n[k] }
        se = sqrt(2 * r[4] * (1 - r[4]) / (users * n[4]))
        printf "K = 4: NMI %.4f, recall@20 %.1f %% above K = 1; K = 8: %.2f active, recall@20 %+.4f (two standard errors: %.4f)\n",
            nmi[4], 100 * (r[4] / r[1] - 1), active[8], r[8] - r[4], 2 * se
        exit !(nmi[4] >= .8 && r[4] >= 1.2 * r[1] && active[8] <= 4.5 && r[8] >= r[4] - 2 * se)
    }' "$work/table"
