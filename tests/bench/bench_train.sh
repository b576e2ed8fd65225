#!/bin/bash
# Where the time of training steps goes, beside BLAS's rate on the same shapes and a memory copy's, for the recipes that
# the figures are about.  One epoch each, about two minutes.
#   make bench-train                 THREADS=1   (default: all cores)
set -euo pipefail
cd "$(dirname "$0")/../.."
beauty=${DATA:-../shared/data}/amazon-yelp/Beauty.txt
[ -f "$beauty" ] || { echo "bench-train: no $beauty: skipped"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build/release/intent prep "$beauty" --out "$work/data" >/dev/null 2>&1

profile() {
    printf '\n== %s\n' "$1"
    recipe=$2
    shift 2
    build/release/intent train --data "$work/data" --recipe "models/recipes/$recipe.ini" --out "$work/m" --set epochs=1 \
        --no-test --profile --threads "${THREADS:-0}" "$@" 2>/dev/null | sed -n '/ steps of /,$p'
}

profile "SASRec, full softmax, layout B" sasrec
profile "SASRec, full softmax, layout A" sasrec --set layout=A
profile "SASRec, sampled softmax with 256 shared negatives, layout A" sasrec --set layout=A --set next_item.loss=sampled
profile "SASRec, BCE with one negative, layout A" sasrec --set layout=A --set next_item.loss=bce
profile "K = 4, next_item" interests
profile "K = 4, next_item + dssrec" interests-dssrec
