#!/bin/bash
# Ours beside PyTorch's in one run on one machine: a training epoch on Beauty and the encoder's forward pass.
#   tests/bench/compare_torch.sh            needs build/release (make all bench), Debian's python3-torch, $DATA/amazon-yelp
#     EPOCHS=5   of ours, the median is taken      STEPS=15   of PyTorch's, the epoch extrapolated from their median
# PyTorch gets OpenBLAS's openmp build, its best kernels and 2 threads (torch_common.py); ours gets 2 threads as well.
set -euo pipefail
cd "$(dirname "$0")/../.."
export DATA=${DATA:-../shared/data}
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE # what BLAS finds out by itself
[ -f "$DATA/amazon-yelp/Beauty.txt" ] || { echo "compare_torch: no $DATA/amazon-yelp/Beauty.txt: skipped"; exit 0; }
/usr/bin/python3 -c 'import torch' 2>/dev/null || { echo "compare_torch: no PyTorch (apt-get install python3-torch): skipped"; exit 0; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build/release/intent prep "$DATA/amazon-yelp/Beauty.txt" --out "$work/beauty" >/dev/null 2>&1

# Seconds of the median epoch, data preparation included, validation not.
ours() {
    recipe=$1
    shift
    rm -rf "$work/model"
    build/release/intent train --data "$work/beauty" --recipe "models/recipes/$recipe.ini" --out "$work/model" --threads 2 \
        --no-test --set epochs="${EPOCHS:-5}" --set stop_on=none "$@" >/dev/null 2>&1
    sed -n 's/.*"event":"epoch".*"train_s":\([0-9.]*\).*/\1/p' "$work/model/1.train.jsonl" | sort -n |
        awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'
}
torch() { /usr/bin/python3 tests/bench/torch_train.py --steps "${STEPS:-15}" "$@" | sed -n 's/.*"epoch_s": \([0-9.]*\).*/\1/p'; }

row() { printf '%-42s %8.2f s %10.2f s %8.1f x\n' "$1" "$2" "$3" "$(awk "BEGIN { print $3 / $2 }")"; }
printf '%-42s %10s %12s\n' 'epoch on Beauty, 2 threads, dropout .5' intent PyTorch
o=$(ours sasrec)
padded=$(torch)
bucketed=$(torch --bucketed --steps 0) # batches differ: a whole epoch
row 'SASRec, PyTorch padded to 50' "$o" "$padded"
row 'SASRec, PyTorch bucketed by length' "$o" "$bucketed"
h=$(ours sasrec --set precision=bf16)
row 'SASRec in bf16, PyTorch fp32 padded to 50' "$h" "$padded"
row 'SASRec in bf16, PyTorch fp32 bucketed' "$h" "$bucketed"
row 'all positions, BCE, padded' "$(ours sasrec --set layout=A --set next_item.loss=bce)" "$(torch --all bce)"
row 'all positions, 256 shared negatives, padded' "$(ours sasrec --set layout=A --set next_item.loss=sampled)" \
    "$(torch --all sampled)"
row 'K = 4, next_item, padded' "$(ours interests)" "$(torch --interests 4)"
row 'K = 4, next_item + dssrec, padded' "$(ours interests-dssrec)" "$(torch --interests 4 --dssrec)"
mclrec=$(/usr/bin/python3 tests/bench/torch_mclrec.py --steps "${STEPS:-15}" | sed -n 's/.*"epoch_s": \([0-9.]*\).*/\1/p')
o=$(ours mclrec)
row 'MCLRec, three steps a batch, padded' "$o" "$mclrec"
awk "BEGIN { exit !($mclrec >= 9 * $o) }" || { echo 'MCLRec: less than nine times as fast' >&2; exit 1; }

printf '\nencoder forward, 1 thread, us a sequence\n'
build/release/bench_encoder forward
/usr/bin/python3 tests/bench/torch_encoder.py | sed 's/.*"best": {\([^}]*\)}.*/PyTorch, best of eager, traced, frozen, optimised: \1/'
