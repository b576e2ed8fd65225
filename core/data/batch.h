/* batch.h — training samples as packed batches, prepared some steps ahead by a second thread.
 *   struct batcher *bt = batcher_new(&ds, &cfg);
 *   batcher_epoch(bt, epoch);                      order depends on (seed, epoch) only
 *   while ((b = batcher_next(bt))) ...             b is valid until the next call
 * Layouts of models/README.md, Objectives, over the training part of each user:
 *   A (all positions): one row per user, window of <= L inputs, a target after every position; longer
 *     histories are cut into windows from the end so that every event but the first is a target once
 *   B (prefixes): a row for every event but a user's first: the <= L events before it -> the event
 *   C (prefixes of a window): as B, but of the newest L events only: rows never reach further back
 * An epoch is every row once, shuffled uniformly.  Negatives are drawn here.  All of it depends on (seed, epoch, batch)
 * only.  Nothing of ours is allocated after batcher_new.
 * Thread: owner; the preparing thread is inside. */
#pragma once
#include "core/data/dataset.h"
#include "core/data/sampler.h"
#include "core/num/seqpack.h"

enum layout { LAYOUT_A, LAYOUT_B, LAYOUT_C };
extern const char *const layout_name[]; /* "A" "B" "C" */

/* What objectives want drawn beside the targets. */
struct negatives_cfg {
    int32_t n;       /* per batch, or per target; 0: none */
    bool per_target; /* each target has its own; else the batch shares them */
    bool avoid_seen; /* per target: never an item of the user's training part */
    enum sampling how;
};

struct batch_cfg {
    int32_t batch_size; /* rows B of a batch; the last one may be smaller */
    int32_t max_len;    /* L */
    int32_t layout;     /* enum layout */
    int32_t positions;  /* enum pos_from */
    bool
        future; /* also pack the reversed future of each row: x_T .. x_{t+1}, x_t its last input */
    struct negatives_cfg neg;
    bool compact; /* number the items of a batch: see rows of struct batch */
    uint64_t seed;
};

/* T targets: seq.N in layout A, else seq.B. */
struct batch {
    struct seqpack seq; /* inputs */
    int32_t *ids;       /* [seq.N] items */
    int32_t *target;    /* [T] */
    float *weight;      /* [T] of the targets' events; NULL: all are 1 */
    struct seqpack fut; /* when cfg.future: at most L nearest future events, nearest last */
    int32_t *fut_ids;   /* [fut.N] */
    int32_t *
        neg; /* [cfg.neg.n], or per target [T, cfg.neg.n], never the target itself where there is another
                         * item; NULL: none */
    float *neg_log_q;    /* like neg: log of the probability that a draw gives the item */
    float *target_log_q; /* [T] the same of the targets; NULL without negatives */
    /* When cfg.compact: items above are numbers 0 .. n_rows-1, and rows[number] is the row in the catalogue,
     * each row once, ascending.  Otherwise rows is NULL and items are rows. */
    int32_t *rows;
    int32_t n_rows;
};

struct batcher;
struct batcher *batcher_new(const struct dataset *d,
                            const struct batch_cfg *cfg); /* d outlives it */
void batcher_free(struct batcher *b);
int64_t batcher_rows(const struct batcher *b); /* rows of an epoch; 0: no user has two events */
int64_t batcher_batches(const struct batcher *b); /* batches of an epoch */
/* Starts an epoch at its first batch, or at a later one; also when the one before was not read to its end. */
void batcher_epoch(struct batcher *b, int64_t epoch, int64_t first_batch);
const struct batch *batcher_next(struct batcher *b); /* NULL at the end of the epoch */
