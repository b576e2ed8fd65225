/* batch.h — training samples as packed batches, prepared one step ahead by a second thread.
 *   struct batcher *bt = batcher_new(&ds, &cfg);
 *   batcher_epoch(bt, epoch);                      order depends on (seed, epoch) only
 *   while ((b = batcher_next(bt))) ...             b is valid until the next call
 * Layouts of models/README.md, Objectives, over the training part of each user:
 *   A (all positions): one row per user, window of <= L inputs, a target after every position; longer
 *     histories are cut into windows from the end so that every event but the first is a target once
 *   B (prefixes): a row for every event but a user's first: the <= L events before it -> the event
 * An epoch is every row once, shuffled uniformly.  Nothing is allocated after batcher_new.
 * Thread: owner; the preparing thread is inside. */
#pragma once
#include "core/data/dataset.h"
#include "core/num/seqpack.h"

enum layout { LAYOUT_A, LAYOUT_B };

struct batch_cfg {
    int32_t batch_size; /* rows B of a batch; the last one may be smaller */
    int32_t max_len;    /* L */
    int32_t layout;     /* enum layout */
    int32_t positions;  /* enum pos_from */
    bool
        future; /* also pack the reversed future of each row: x_T .. x_{t+1}, x_t its last input */
    uint64_t seed;
};

struct batch {
    struct seqpack seq; /* inputs */
    int32_t *ids;       /* [seq.N] item rows */
    int32_t *target;    /* layout A: [seq.N]; layout B: [seq.B] */
    struct seqpack fut; /* when cfg.future: at most L nearest future events, nearest last */
    int32_t *fut_ids;   /* [fut.N] */
};

struct batcher;
struct batcher *batcher_new(const struct dataset *d,
                            const struct batch_cfg *cfg); /* d outlives it */
void batcher_free(struct batcher *b);
int64_t batcher_rows(const struct batcher *b); /* rows of an epoch; 0: no user has two events */
int64_t batcher_batches(const struct batcher *b); /* batches of an epoch */
/* Starts an epoch, also when the one before was not read to its end. */
void batcher_epoch(struct batcher *b, int64_t epoch);
const struct batch *batcher_next(struct batcher *b); /* NULL at the end of the epoch */
