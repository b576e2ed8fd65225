#include "core/data/batch.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/base/order.h"
#include "core/base/rng.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* A row's inputs are the <= L events before place `end` of the user's training part. */
struct sample {
    int32_t user, end;
};

const char *const layout_name[] = { "A", "B", "C" };

/* The thread wakes when few batches are left and fills all slots: being woken costs the step more than the work. */
enum { SLOTS = 8, FEW_READY = 3 };

/* Memory of one batch: one is with the caller, the others wait or are being filled. */
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
    struct sampler *sampler; /* immutable */
    int32_t *mark;   /* [V] the preparing thread's: stamp of the user whose items these are */
    int32_t *number; /* [V] the preparing thread's: number in the batch, for cfg.compact */
    int32_t stamp;   /* the preparing thread's */
    struct slot slot[SLOTS];

    pthread_t thread;
    pthread_mutex_t mu;
    pthread_cond_t cond;
    int64_t epoch; /* GUARDED_BY(mu) */
    int64_t
        run; /* GUARDED_BY(mu) counts calls of batcher_epoch: a fill for an older run is void */
    int64_t filled; /* GUARDED_BY(mu) batches of this run that were put into slots */
    int64_t first;  /* GUARDED_BY(mu) batch that this run began with */
    int64_t taken;  /* GUARDED_BY(mu) batches of this run that the caller has received */
    bool quit;      /* GUARDED_BY(mu) */
};

/* ---- rows ---- */

static int32_t min32(int32_t a, int32_t b) { return a < b ? a : b; }

/* First event that a user's rows may reach back to. */
static int32_t row_floor(const struct dataset *d, const struct batch_cfg *cfg, int32_t u)
{
    int32_t n = dataset_train_len(d, u);
    return cfg->layout == LAYOUT_C && n > cfg->max_len ? n - cfg->max_len : 0;
}

static int64_t list_rows(struct sample *out, const struct dataset *d,
                         const struct batch_cfg *cfg)
{
    int64_t n = 0;
    int32_t step = cfg->layout == LAYOUT_A ? cfg->max_len : 1;
    for (int32_t u = 0; u < d->n_users; u++) {
        int32_t floor = row_floor(d, cfg, u);
        for (int32_t end = dataset_train_len(d, u) - 1; end > floor; end -= step, n++)
            if (out) out[n] = (struct sample){ u, end };
    }
    return n;
}

/* ---- filling, on the preparing thread ---- */

static void fill_future(struct batch *b, int32_t *cu, const int32_t *s, int32_t end,
                        int32_t n_train, int32_t max_len, int32_t r)
{
    int32_t len = min32(n_train - end, max_len), *out = b->fut_ids + cu[r];
    for (int32_t i = 0; i < len; i++) out[i] = s[end + len - 1 - i];
    cu[r + 1] = cu[r] + len;
}

/* ---- negatives ---- */

/* An item that is neither the target nor, where that is asked for, of the user's training part (marked with
 * stamp).  Somebody who had everything gets something after so many tries. */
static int32_t draw_negative(const struct batcher *b, struct rng *r, int32_t target,
                             int32_t stamp)
{
    enum { TRIES = 256 };
    int32_t v = target;
    for (int i = 0; i < TRIES; i++) {
        v = sampler_draw(b->sampler, r);
        if (v != target && (stamp == 0 || b->mark[v] != stamp)) return v;
    }
    return v != target ? v : (target + 1) % b->d->n_items;
}

static int32_t mark_seen(struct batcher *b, int32_t u)
{
    if (!b->cfg.neg.avoid_seen) return 0;
    if (b->stamp == INT32_MAX) { /* begin anew */
        memset(b->mark, 0, (size_t)b->d->n_items * sizeof *b->mark);
        b->stamp = 0;
    }
    b->stamp++;
    const int32_t *s = b->d->item + b->d->cu[u];
    for (int32_t i = 0; i < dataset_train_len(b->d, u); i++) b->mark[s[i]] = b->stamp;
    return b->stamp;
}

static void fill_negatives(struct batcher *b, struct batch *out, int64_t from, struct rng *r)
{
    const struct negatives_cfg *c = &b->cfg.neg;
    int32_t per_token = b->cfg.layout == LAYOUT_A;
    int64_t n = 0;
    for (int32_t row = 0; c->per_target && row < out->seq.B; row++) {
        int32_t stamp = mark_seen(b, b->row[b->order[from + row]].user);
        int32_t t0 = per_token ? out->seq.cu[row] : row;
        int32_t t1 = per_token ? out->seq.cu[row + 1] : row + 1;
        for (int32_t t = t0; t < t1; t++)
            for (int32_t j = 0; j < c->n; j++)
                out->neg[n++] = draw_negative(b, r, out->target[t], stamp);
    }
    while (!c->per_target && n < c->n) out->neg[n++] = sampler_draw(b->sampler, r);
    for (int64_t i = 0; i < n; i++) out->neg_log_q[i] = sampler_log_q(b->sampler, out->neg[i]);
    int32_t T = per_token ? out->seq.N : out->seq.B;
    for (int32_t t = 0; t < T; t++)
        out->target_log_q[t] = sampler_log_q(b->sampler, out->target[t]);
}

/* ---- numbers within the batch ---- */

struct id_list {
    int32_t *id;
    int64_t n;
};

/* Rows that occur get numbers in ascending order of rows; number[] is all -1 before and after. */
static void compact(struct batcher *b, struct batch *out)
{
    int32_t T = b->cfg.layout == LAYOUT_A ? out->seq.N : out->seq.B;
    struct id_list list[] = { { out->ids, out->seq.N },
                              { out->target, T },
                              { out->fut_ids, b->cfg.future ? out->fut.N : 0 },
                              { out->neg, b->cfg.neg.per_target ? (int64_t)T * b->cfg.neg.n
                                                                : b->cfg.neg.n } };
    enum { LISTS = sizeof list / sizeof *list };
    out->n_rows = 0;
    for (int k = 0; k < LISTS; k++)
        for (int64_t i = 0; i < list[k].n; i++) {
            int32_t row = list[k].id[i];
            if (b->number[row] >= 0) continue;
            b->number[row] = 0;
            out->rows[out->n_rows++] = row;
        }
    qsort(out->rows, (size_t)out->n_rows, sizeof *out->rows, order_i32);
    for (int32_t i = 0; i < out->n_rows; i++) b->number[out->rows[i]] = i;
    for (int k = 0; k < LISTS; k++)
        for (int64_t i = 0; i < list[k].n; i++) list[k].id[i] = b->number[list[k].id[i]];
    for (int32_t i = 0; i < out->n_rows; i++) b->number[out->rows[i]] = -1;
}

/* ---- a batch ---- */

static void fill_rows(struct batcher *b, struct slot *slot, int64_t from, int32_t B)
{
    struct batch *out = &slot->batch;
    int32_t L = b->cfg.max_len, per_token = b->cfg.layout == LAYOUT_A;
    for (int32_t r = 0; r < B; r++) {
        struct sample row = b->row[b->order[from + r]];
        int64_t user = b->d->cu[row.user];
        const int32_t *s = b->d->item + user;
        int32_t len = min32(row.end - row_floor(b->d, &b->cfg, row.user), L), at = slot->cu[r];
        int32_t first = per_token ? row.end - len + 1 : row.end, n = per_token ? len : 1;
        int32_t t = per_token ? at : r;
        memcpy(out->ids + at, s + row.end - len, (size_t)len * sizeof *s);
        memcpy(out->target + t, s + first, (size_t)n * sizeof *s);
        if (out->weight)
            memcpy(out->weight + t, b->d->weight + user + first,
                   (size_t)n * sizeof *out->weight);
        slot->cu[r + 1] = at + len;
        if (b->cfg.future)
            fill_future(out, slot->fut_cu, s, row.end, dataset_train_len(b->d, row.user), L, r);
    }
}

static struct seqpack packed(const int32_t *cu, int32_t *pos, int32_t B,
                             const struct batch_cfg *cfg)
{
    seqpack_positions(pos, cu, B, cfg->max_len, (enum pos_from)cfg->positions);
    return (struct seqpack){ .B = B, .N = cu[B], .cu = cu, .pos = pos };
}

static void fill(struct batcher *b, struct slot *slot, int64_t epoch, int64_t index)
{
    struct batch *out = &slot->batch;
    int32_t size = b->cfg.batch_size;
    int64_t from = index * size;
    int32_t B = (int32_t)(b->n_rows - from < size ? b->n_rows - from : size);
    fill_rows(b, slot, from, B);
    out->seq = packed(slot->cu, slot->pos, B, &b->cfg);
    if (b->cfg.future) out->fut = packed(slot->fut_cu, slot->fut_pos, B, &b->cfg);
    if (b->cfg.neg.n > 0) {
        uint64_t key = rng_hash(rng_hash(b->cfg.seed, (uint64_t)epoch), (uint64_t)index);
        struct rng r = rng_make(key, RNG_NEGATIVES);
        fill_negatives(b, out, from, &r);
    }
    if (b->cfg.compact) compact(b, out);
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
               (b->run == 0 || b->filled >= b->n_batches || b->slot[b->filled % SLOTS].ready))
            pthread_cond_wait(&b->cond, &b->mu);
        if (b->quit) break;
        int64_t run = b->run, epoch = b->epoch, index = b->filled;
        pthread_mutex_unlock(&b->mu);
        if (run != shuffled) shuffle(b, epoch);
        shuffled = run;
        fill(b, &b->slot[index % SLOTS], epoch, index);
        pthread_mutex_lock(&b->mu);
        if (run == b->run) {
            b->slot[index % SLOTS].ready = true;
            b->filled++;
        }
        pthread_cond_broadcast(&b->cond);
    }
    pthread_mutex_unlock(&b->mu);
    return NULL;
}

/* ---- the owner's side ---- */

static void slot_new(struct slot *s, const struct batch_cfg *cfg, int32_t longest, bool weights)
{
    size_t B = (size_t)cfg->batch_size, N = B * (size_t)min32(cfg->max_len, longest);
    size_t T = cfg->layout == LAYOUT_A ? N : B;
    size_t n_neg = (size_t)cfg->neg.n * (cfg->neg.per_target ? T : 1);
    s->cu = xcalloc(B + 1, sizeof *s->cu);
    s->pos = xcalloc(N + 1, sizeof *s->pos);
    s->batch.ids = xcalloc(N + 1, sizeof *s->batch.ids);
    s->batch.target = xcalloc(T + 1, sizeof *s->batch.target);
    if (weights) s->batch.weight = xcalloc(T + 1, sizeof *s->batch.weight);
    if (cfg->neg.n > 0) {
        s->batch.neg = xcalloc(n_neg, sizeof *s->batch.neg);
        s->batch.neg_log_q = xcalloc(n_neg, sizeof *s->batch.neg_log_q);
        s->batch.target_log_q = xcalloc(T + 1, sizeof *s->batch.target_log_q);
    }
    if (cfg->compact) s->batch.rows = xcalloc(2 * N + T + n_neg + 1, sizeof *s->batch.rows);
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
    free(s->batch.weight);
    free(s->batch.neg);
    free(s->batch.neg_log_q);
    free(s->batch.target_log_q);
    free(s->batch.rows);
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
    for (int i = 0; i < SLOTS; i++) slot_new(&b->slot[i], cfg, longest, d->weight != NULL);
    size_t V = (size_t)d->n_items;
    if (cfg->neg.n > 0) b->sampler = sampler_new(d->items, cfg->neg.how, 0);
    if (cfg->neg.n > 0 && cfg->neg.avoid_seen) b->mark = xcalloc(V, sizeof *b->mark);
    if (cfg->compact) {
        b->number = xmalloc(V * sizeof *b->number);
        memset(b->number, 0xff, V * sizeof *b->number);
    }
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
    for (int i = 0; i < SLOTS; i++) slot_free(&b->slot[i]);
    sampler_free(b->sampler);
    free(b->mark);
    free(b->number);
    free(b->row);
    free(b->order);
    free(b);
}

int64_t batcher_rows(const struct batcher *b) { return b->n_rows; }
int64_t batcher_batches(const struct batcher *b) { return b->n_batches; }

void batcher_epoch(struct batcher *b, int64_t epoch, int64_t first_batch)
{
    pthread_mutex_lock(&b->mu);
    b->run++; /* a fill that is under way for the run before is thrown away when it ends */
    b->epoch = epoch;
    b->filled = b->taken = first_batch;
    b->first = first_batch;
    for (int i = 0; i < SLOTS; i++) b->slot[i].ready = false;
    pthread_cond_broadcast(&b->cond);
    pthread_mutex_unlock(&b->mu);
}

const struct batch *batcher_next(struct batcher *b)
{
    const struct batch *out = NULL;
    pthread_mutex_lock(&b->mu);
    if (b->taken > b->first) { /* the batch handed out before is the thread's again */
        b->slot[(b->taken - 1) % SLOTS].ready = false;
        if (b->filled - b->taken <= FEW_READY) pthread_cond_broadcast(&b->cond);
    }
    if (b->run > 0 && b->taken < b->n_batches) {
        struct slot *s = &b->slot[b->taken % SLOTS];
        while (!s->ready) pthread_cond_wait(&b->cond, &b->mu);
        b->taken++;
        out = &s->batch;
    }
    pthread_mutex_unlock(&b->mu);
    return out;
}
