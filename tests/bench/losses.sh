#!/bin/bash
# The table of losses and layouts of README.md: sasrec.ini on Beauty, history masked, one seed, every epoch chosen on
# validation by ndcg@10, one look at test.  About an hour on two cores; what is done is kept, so it goes on when it is started again.
#   tests/bench/losses.sh OUT
set -euo pipefail
out=$(realpath -m "${1:?directory for data set and models}")
cd "$(dirname "$0")/../.."
intent=build/release/intent
[ -d "$out/data" ] || $intent prep "${DATA:-../shared/data}/amazon-yelp/Beauty.txt" --out "$out/data"

run() {
    name=$1
    shift
    $intent train --data "$out/data" --recipe models/recipes/sasrec.ini --set valid_seen=mask --set stop_on=ndcg@10 --resume \
        --out "$out/$name" "$@"
}
B="--set epochs=60 --set patience=5"
A="--set layout=A --set epochs=200 --set patience=10"
long="--set layout=A --set epochs=400 --set patience=50" # what begins with a plateau
sampled="--set next_item.loss=sampled"
run softmax-B $B
run softmax-ema-B $B --set ema=0.999
run smooth-B $B --set next_item.label_smoothing=0.1
run softmax-C $B --set layout=C
run softmax-A $A
run softmax-ema-A $A --set ema=0.999
run sampled-A $A $sampled
run sampled-ema-A $A $sampled --set ema=0.999
run sampled-B $B $sampled
run sampled-ema-B $B $sampled --set ema=0.999
run sampled-uncorrected-B $B $sampled --set log_q=none
run sampled-popularity-B $B $sampled --set sampling=popularity
run sampled-popularity-both-B $B $sampled --set sampling=popularity --set log_q=both
run gbce-B $B --set next_item.loss=gbce
run gbce-A $long --set next_item.loss=gbce
run bce-A $A --set next_item.loss=bce
run bce-16-A $A --set next_item.loss=bce --set next_item.negatives=16
run bce-B $B --set next_item.loss=bce
run bpr-A $A --set next_item.loss=bpr
run bpr-B $B --set next_item.loss=bpr
for name in "$out"/*/1; do
    name=$(dirname "$name")
    $intent eval --data "$out/data" --bundle "$name" --json >"$name.json" 2>/dev/null
done
$intent compare "$out"/*.json
