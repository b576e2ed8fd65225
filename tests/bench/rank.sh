#!/bin/bash
# The rank model on generated impressions (models/README.md, Rank model): AUC with the sequence and without, with the
# contrastive loss and without; the mean over the seeds and its standard error.
#   tests/bench/rank.sh [KEY=VALUE...]      needs build/release/intent    STEPS=3 EPOCHS=2 CATEGORIES=80 SEEDS="1 2 3"    some minutes
# Fails unless the model with both is better than either by more than two standard errors of the difference.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sizes=(--set "feature user_id.hash_buckets=3000" --set "feature adgroup_id.hash_buckets=6000"
    --set "feature campaign_id.hash_buckets=2000" --set "feature customer.hash_buckets=500"
    --set "feature brand.hash_buckets=20000" --set "feature cate_id.hash_buckets=10000")
common=(--set batch_size=128 --set lr=0.002 --set "epochs=${EPOCHS:-2}")
for setting in "$@"; do common+=(--set "$setting"); done
for seed in ${SEEDS:-1 2 3}; do
    build/release/intent rank synth --out "$work/$seed.csv" --rows 60000 --items 2000 --themes 8 --categories "${CATEGORIES:-80}" --brands "$((2 * ${CATEGORIES:-80}))" \
        --interests 1 --steps "${STEPS:-3}" --noise 0.1 --match 3 --bias -1.5 --seed "$seed" | sed -n 2p
    for what in sequence=false contrast_weight=0 both; do
        changed=()
        [ "$what" = both ] || changed=(--set "$what")
        build/release/intent rank train --quiet --data "$work/$seed.csv" --recipe models/recipes/rank.ini \
            --out "$work/model" "${sizes[@]}" "${common[@]}" --set "seed=$seed" "${changed[@]}" 2>/dev/null |
            sed "s/^/$what $seed /" | tee -a "$work/table"
    done
done
awk '
    { n[$1]++; auc[$1, n[$1]] = $8; mean[$1] += $8; gauc[$1] += $10 }
    END {
        for (k in n) {
            mean[k] /= n[k]
            for (i = 1; i <= n[k]; i++) var[k] += (auc[k, i] - mean[k]) ^ 2
            se[k] = n[k] > 1 ? sqrt(var[k] / (n[k] - 1) / n[k]) : 0
            printf "%-18s AUC %.4f, standard error %.4f, %d seeds; by user %.4f\n", k, mean[k], se[k], n[k], gauc[k] / n[k]
        }
        bad = 0
        for (k in n) if (k != "both" && mean["both"] - mean[k] <= 2 * sqrt(se["both"] ^ 2 + se[k] ^ 2)) bad = 1
        exit bad
    }' "$work/table"
