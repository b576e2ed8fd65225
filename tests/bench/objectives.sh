#!/bin/bash
# The trainings behind models/README.md, "Figures of the objectives".  What is done is kept, so it goes on when it is
# started again; hours to a day on two cores, by group:
#   tests/bench/objectives.sh OUT gains|tuned|mclrec|ablation|item_ssl|robust [JOBS]      JOBS trainings at a time (default 2), one thread each
# `tuned` starts from what `gains` has trained.  Chosen on validation; test is looked at once a run.  OUT/NAME.json is `intent eval --details`, masked, OUT/NAME.kept.json kept.
set -euo pipefail
out=$(realpath -m "${1:?directory for data sets and models}")
group=${2:?gains, tuned, mclrec, ablation, item_ssl or robust}
jobs=${3:-2}
cd "$(dirname "$0")/../.."
export intent=$PWD/build/release/intent out
sets=${DATA:-../shared/data}/amazon-yelp
mkdir -p "$out"
for name in Beauty Sports_and_Outdoors Yelp; do
    [ -d "$out/$name" ] && continue
    items=$out/$name.csv
    awk -f models/items/amazon.awk "$sets/items_$name.tsv" >"$items"
    [ $name = Yelp ] && items=$sets/Yelp_item2attributes.json
    $intent prep "$sets/$name.txt" --items "$items" --out "$out/$name" >/dev/null 2>&1
done
[ -d "$out/Beauty-bag" ] || # one bag of attributes, as S3-Rec has it
    $intent prep "$sets/Beauty.txt" --items "$sets/Beauty_item2attributes.json" --out "$out/Beauty-bag" >/dev/null 2>&1

# NAME DATA RECIPE [KEY=VALUE]... [init=NAME]
list=$(mktemp)
trap 'rm -f "$list"' EXIT
add() { echo "$@" >>"$list"; }
ndcg="stop_on=ndcg@10 valid_seen=mask epochs=60 patience=5"
dss="stop_on=ndcg@10 valid_seen=mask model.heads=1"
case $group in
gains)
    for s in 1 2; do
        add next_item-$s Beauty cl4srec seed=$s cl4srec.weight=0
        add cl4srec-$s Beauty cl4srec seed=$s
        add mclrec-masked-$s Beauty mclrec seed=$s mclrec.lambda=0 mclrec.beta=0.05 $ndcg
        add s3rec-not-$s Beauty-bag s3rec-finetune seed=$s
        add seq2item-$s Beauty dssrec seed=$s dssrec.seq2seq=0 stop_on=ndcg@10 valid_seen=mask epochs=200
        add seq2seq-$s Beauty dssrec seed=$s stop_on=ndcg@10 valid_seen=mask epochs=200
        add s3rec-$s Beauty-bag s3rec seed=$s # the longest
        add s3rec-softmax-$s Beauty-bag s3rec seed=$s next_item.loss=softmax
    done ;;
tuned)
    $intent import --from s3rec "$sets/../checkpoints/s3rec-beauty-pretrained-150.pt" --data "$out/Beauty-bag" \
        --out "$out/models/imported" >/dev/null 2>&1 # the authors' pre-trained weights
    for s in 1 2; do
        add s3rec-imported-$s Beauty-bag s3rec-finetune seed=$s init=imported
        add s3rec-imported-softmax-$s Beauty-bag s3rec-finetune seed=$s next_item.loss=softmax init=imported
        add s3rec-not-softmax-$s Beauty-bag s3rec-finetune seed=$s next_item.loss=softmax
        add seq2seq-.1-$s Beauty dssrec seed=$s dssrec.seq2seq=0.1 stop_on=ndcg@10 valid_seen=mask epochs=200
        add interests-$s Beauty interests seed=$s $dss
        add dssrec-tuned-$s Beauty interests seed=$s $dss init=seq2seq-$s
        add dssrec-beside-$s Beauty interests seed=$s $dss dssrec.weight=0.1 dssrec.seq2item=0
    done ;;
mclrec)
    for s in 1 2; do
        add mclrec-Beauty-$s Beauty mclrec seed=$s mclrec.lambda=0 mclrec.beta=0.05
        add mclrec-Sports-$s Sports_and_Outdoors mclrec seed=$s precision=bf16
        add mclrec-Yelp-$s Yelp mclrec seed=$s mclrec.lambda=0.03 mclrec.beta=0.1 precision=bf16
    done ;;
ablation)
    for s in 1 2; do
        for part in next_item:weight=0 all:weight=1 no-cl1:lambda=0 no-cl2:beta=0 no-R:gamma=0 \
            shared:shared_augmenter=true joint:updates=joint two:updates=two; do
            add sports-${part%%:*}-$s Sports_and_Outdoors mclrec seed=$s "mclrec.${part#*:}" precision=bf16 epochs=30
        done
    done ;;
item_ssl)
    for s in 1 2; do
        add tower-none-$s Beauty item-ssl seed=$s item_ssl.weight=0
        add tower-cfm-$s Beauty item-ssl seed=$s
        add tower-rfm-$s Beauty item-ssl seed=$s item_ssl.masking=rfm
        add tower-cfm-pretrained-$s Beauty item-ssl-pretrained seed=$s
        add tower-rfm-pretrained-$s Beauty item-ssl-pretrained seed=$s item_ssl.masking=rfm
        add id-$s Beauty item-ssl seed=$s item_ssl.weight=0 item_tower=false
        add siamese-$s Beauty siamese seed=$s
        add siamese-not-$s Beauty siamese seed=$s siamese.weight=0
    done ;;
robust)
    for b in 64 256; do
        batch="batch_size=$b precision=$([ $b = 64 ] && echo bf16 || echo fp32)"
        add robust-next_item-$b Beauty cl4srec cl4srec.weight=0 $batch
        add robust-cl4srec-$b Beauty cl4srec $batch
        add robust-mclrec-$b Beauty mclrec mclrec.lambda=0 mclrec.beta=0.05 $ndcg $batch
    done ;;
*) echo "objectives.sh: no group $group" >&2; exit 2 ;;
esac

one() {
    name=$1 data=$2 recipe=$3
    shift 3
    keys=()
    for kv in "$@"; do
        case $kv in
        init=*) keys+=(--init "$out/models/${kv#init=}") ;;
        *) keys+=(--set "$kv") ;;
        esac
    done
    [ -f "$out/$name.kept.json" ] && return
    nice "$intent" train --data "$out/$data" --recipe "models/recipes/$recipe.ini" "${keys[@]}" --threads 1 --resume \
        --out "$out/models/$name" >>"$out/$name.log" 2>&1 || { echo "$name: failed, see $out/$name.log"; return; }
    "$intent" eval --data "$out/$data" --bundle "$out/models/$name" --details --json >"$out/$name.json" 2>/dev/null
    case $name in robust-*)
        for noise in 0.05 0.1 0.15 0.2; do
            "$intent" eval --data "$out/$data" --bundle "$out/models/$name" --noise $noise --json >"$out/$name.noise-$noise.json" 2>/dev/null
        done ;;
    esac
    "$intent" eval --data "$out/$data" --bundle "$out/models/$name" --seen keep --json >"$out/$name.kept.json" 2>/dev/null
    echo "$name"
}
export -f one
xargs -a "$list" -d '\n' -P "$jobs" -I{} bash -c 'one {}'
