#!/bin/bash
# One table: kernels beside cblas_sgemm, the encoder, the search, a request, the daemon, and a training epoch beside
# PyTorch's. What is missing here (wrk, PyTorch, the test data) is said and left out.  About six minutes on two cores.
#   make bench                       EPOCHS=3  of ours, the median is taken    STEPS=10  of PyTorch's, extrapolated to an epoch
#   SECONDS_EACH=5  a row of the daemon
set -euo pipefail
cd "$(dirname "$0")/../.."
export DATA=${DATA:-../shared/data} OPENBLAS_NUM_THREADS=1
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE # what BLAS finds out by itself
began=$(date +%s)
title() { printf '\n== %s\n' "$1"; }

title "machine"
awk -F': ' '/^model name/ { name = $2; n++ } END { printf "%s, %d cores, ", name, n }' /proc/cpuinfo
printf 'load %s, commit %s\n' "$(cut -d' ' -f1 /proc/loadavg)" "$(git rev-parse --short HEAD 2>/dev/null || echo none)"

title "kernels, forward and backward"
build/release/bench_ops

title "encoder, us a sequence"
build/release/bench_encoder

title "search"
build/release/bench_ann
build/release/bench_scan

title "filters"
build/release/bench_filter

title "a request, stage by stage"
build/release/bench_recommend

title "items that change"
build/release/bench_live

beauty=$DATA/amazon-yelp/Beauty.txt
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

title "daemon"
if [ ! -f "$beauty" ]; then
    echo "skipped: no $beauty"
elif ! command -v wrk >/dev/null; then
    echo "skipped: no wrk (apt-get install wrk)"
else
    build/release/intent prep "$beauty" --out "$work/data" >/dev/null 2>&1
    build/release/intent train --data "$work/data" --recipe models/recipes/interests.ini --set epochs=1 --index flat \
        --out "$work/models/beauty" >/dev/null 2>&1
    SECONDS_EACH=${SECONDS_EACH:-5} tests/bench/bench_daemon.sh "$work/models/beauty/1"
fi

title "a training epoch beside PyTorch's"
EPOCHS=${EPOCHS:-3} STEPS=${STEPS:-10} tests/bench/compare_torch.sh

printf '\n%d s in all\n' $(($(date +%s) - began))
