#include "core/data/batch.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/base/rng.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* A row's inputs are the <= L events before place `end` of the user's training part. */
struct sample {
    int32_t user, end;
};

/* Memory of one batch; two of them: one with the caller, one being filled. */
struct slot {
    struct batch batch;
    int32_t *cu, *pos, *fut_cu, *fut_pos;
    bool ready; /* GUARDED_BY(mu) */
};

struct batcher {
    const struct dataset *d; /* immutable */
    struct batch_cfg cfg;    /* immutable */
    struct sample *row;      /* [n_rows] immutable */
    int32_t n_rows;          /* immutable */
    int64_t n_batches;       /* immutable */
    int32_t *order;          /* [n_rows] the preparing thread's */
    struct slot slot[2];

    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    int64_t epoch; /* GUARDED_BY(mu) */
    int64_t
        run; /* GUARDED_BY(mu) counts calls of batcher_epoch: a fill for an older run is void */
    int64_t filled; /* GUARDED_BY(mu) batches of this run that were put into slots */
    int64_t taken;  /* GUARDED_BY(mu) batches of this run that the caller has received */
    bool quit;      /* GUARDED_BY(mu) */
};

/* ---- rows ---- */

static int64_t list_rows(struct sample *out, const struct dataset *d,
                         const struct batch_cfg *cfg)
{
    int64_t n = 0;
    int32_t step = cfg->layout == LAYOUT_A ? cfg->max_len : 1;
    for (int32_t u = 0; u < d->n_users; u++)
        for (int32_t end = dataset_train_len(d, u) - 1; end >= 1; end -= step, n++)
            if (out) out[n] = (struct sample){ u, end };
    return n;
}

static int32_t min32(int32_t a, int32_t b) { return a < b ? a : b; }

/* ---- filling, on the preparing thread ---- */

static void fill_future(struct batch *b, int32_t *cu, const int32_t *s, int32_t end,
                        int32_t n_train, int32_t max_len, int32_t r)
{
    int32_t len = min32(n_train - end, max_len), *out = b->fut_ids + cu[r];
    for (int32_t i = 0; i < len; i++) out[i] = s[end + len - 1 - i];
    cu[r + 1] = cu[r] + len;
}

static void fill(struct batcher *b, struct slot *slot, int64_t index)
{
    struct batch *out = &slot->batch;
    int32_t L = b->cfg.max_len, size = b->cfg.batch_size;
    int64_t from = index * size;
    int32_t B = (int32_t)(b->n_rows - from < size ? b->n_rows - from : size);
    for (int32_t r = 0; r < B; r++) {
        struct sample row = b->row[b->order[from + r]];
        const int32_t *s = b->d->item + b->d->cu[row.user];
        int32_t len = min32(row.end, L), at = slot->cu[r];
        size_t nb = (size_t)len * sizeof *s;
        memcpy(out->ids + at, s + row.end - len, nb);
        if (b->cfg.layout == LAYOUT_A)
            memcpy(out->target + at, s + row.end - len + 1, nb);
        else
            out->target[r] = s[row.end];
        slot->cu[r + 1] = at + len;
        if (b->cfg.future)
            fill_future(out, slot->fut_cu, s, row.end, dataset_train_len(b->d, row.user), L, r);
    }
    enum pos_from from_end = (enum pos_from)b->cfg.positions;
    out->seq = (struct seqpack){ .B = B, .N = slot->cu[B], .cu = slot->cu, .pos = slot->pos };
    seqpack_positions(slot->pos, slot->cu, B, L, from_end);
    if (!b->cfg.future) return;
    out->fut = (struct seqpack){
        .B = B, .N = slot->fut_cu[B], .cu = slot->fut_cu, .pos = slot->fut_pos
    };
    seqpack_positions(slot->fut_pos, slot->fut_cu, B, L, from_end);
}

static void shuffle(struct batcher *b, int64_t epoch)
{
    for (int32_t i = 0; i < b->n_rows; i++) b->order[i] = i;
    struct rng r = rng_make(rng_hash(b->cfg.seed, (uint64_t)epoch), RNG_SHUFFLE);
    rng_shuffle(&r, b->order, b->n_rows);
}

static void *prepare(void *arg)
{
    struct batcher *b = arg;
    int64_t shuffled = 0; /* run whose order stands */
    pthread_mutex_lock(&b->mu);
    for (;;) {
        while (!b->quit &&
               (b->run == 0 || b->filled == b->n_batches || b->slot[b->filled & 1].ready))
            pthread_cond_wait(&b->cond, &b->mu);
        if (b->quit) break;
        int64_t run = b->run, epoch = b->epoch, index = b->filled;
        pthread_mutex_unlock(&b->mu);
        if (run != shuffled) shuffle(b, epoch);
        shuffled = run;
        fill(b, &b->slot[index & 1], index);
        pthread_mutex_lock(&b->mu);
        if (run == b->run) {
            b->slot[index & 1].ready = true;
            b->filled++;
        }
        pthread_cond_broadcast(&b->cond);
    }
    pthread_mutex_unlock(&b->mu);
    return NULL;
}

/* ---- the owner's side ---- */

static void slot_new(struct slot *s, const struct batch_cfg *cfg, int32_t longest)
{
    size_t B = (size_t)cfg->batch_size, N = B * (size_t)min32(cfg->max_len, longest);
    s->cu = xcalloc(B + 1, sizeof *s->cu);
    s->pos = xcalloc(N + 1, sizeof *s->pos);
    s->batch.ids = xcalloc(N + 1, sizeof *s->batch.ids);
    s->batch.target = xcalloc((cfg->layout == LAYOUT_A ? N : B) + 1, sizeof *s->batch.target);
    if (!cfg->future) return;
    s->fut_cu = xcalloc(B + 1, sizeof *s->fut_cu);
    s->fut_pos = xcalloc(N + 1, sizeof *s->fut_pos);
    s->batch.fut_ids = xcalloc(N + 1, sizeof *s->batch.fut_ids);
}

static void slot_free(struct slot *s)
{
    free(s->cu);
    free(s->pos);
    free(s->batch.ids);
    free(s->batch.target);
    free(s->fut_cu);
    free(s->fut_pos);
    free(s->batch.fut_ids);
}

/* Signals are for the threads that expect them: the new one starts with all of them blocked. */
static void thread_start(struct batcher *b)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&b->thread, NULL, prepare, b);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    REQUIRE(rc == 0, "pthread_create: %s", strerror(rc));
}

struct batcher *batcher_new(const struct dataset *d, const struct batch_cfg *cfg)
{
    REQUIRE(cfg->batch_size >= 1 && cfg->max_len >= 1 && cfg->max_len <= LIMIT_SEQ_LEN,
            "batch size %d, length %d", cfg->batch_size, cfg->max_len);
    struct batcher *b = xcalloc(1, sizeof *b);
    b->d = d;
    b->cfg = *cfg;
    int64_t n = list_rows(NULL, d, cfg);
    REQUIRE(n <= INT32_MAX, "%lld rows", (long long)n);
    b->n_rows = (int32_t)n;
    b->n_batches = (n + cfg->batch_size - 1) / cfg->batch_size;
    b->row = xcalloc((size_t)n + 1, sizeof *b->row);
    b->order = xcalloc((size_t)n + 1, sizeof *b->order);
    list_rows(b->row, d, cfg);
    int32_t longest = 1;
    for (int32_t u = 0; u < d->n_users; u++)
        if (dataset_train_len(d, u) > longest) longest = dataset_train_len(d, u);
    slot_new(&b->slot[0], cfg, longest);
    slot_new(&b->slot[1], cfg, longest);
    pthread_mutex_init(&b->mu, NULL);
    pthread_cond_init(&b->cond, NULL);
    thread_start(b);
    return b;
}

void batcher_free(struct batcher *b)
{
    if (!b) return;
    pthread_mutex_lock(&b->mu);
    b->quit = true;
    pthread_cond_broadcast(&b->cond);
    pthread_mutex_unlock(&b->mu);
    pthread_join(b->thread, NULL);
    pthread_mutex_destroy(&b->mu);
    pthread_cond_destroy(&b->cond);
    slot_free(&b->slot[0]);
    slot_free(&b->slot[1]);
    free(b->row);
    free(b->order);
    free(b);
}

int64_t batcher_rows(const struct batcher *b) { return b->n_rows; }
int64_t batcher_batches(const struct batcher *b) { return b->n_batches; }

void batcher_epoch(struct batcher *b, int64_t epoch)
{
    pthread_mutex_lock(&b->mu);
    b->run++; /* a fill that is under way for the run before is thrown away when it ends */
    b->epoch = epoch;
    b->filled = b->taken = 0;
    b->slot[0].ready = b->slot[1].ready = false;
    pthread_cond_broadcast(&b->cond);
    pthread_mutex_unlock(&b->mu);
}

const struct batch *batcher_next(struct batcher *b)
{
    const struct batch *out = NULL;
    pthread_mutex_lock(&b->mu);
    if (b->taken > 0) { /* the batch handed out before is the thread's again */
        b->slot[(b->taken - 1) & 1].ready = false;
        pthread_cond_broadcast(&b->cond);
    }
    if (b->run > 0 && b->taken < b->n_batches) {
        struct slot *s = &b->slot[b->taken & 1];
        while (!s->ready) pthread_cond_wait(&b->cond, &b->mu);
        b->taken++;
        out = &s->batch;
    }
    pthread_mutex_unlock(&b->mu);
    return out;
}
