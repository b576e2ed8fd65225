#include "core/data/augment.h"
#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/data/dataset.h"
#include <math.h>
#include <string.h>

enum { MASKED = -1 }; /* EMBED_MASK of core/ad */
enum op { CROP, MASK, REORDER, INSERT, SUBSTITUTE, OPERATORS };

/* A sequence on its way to a view, with room for what insertion adds. */
struct line {
    int32_t *ids; /* [2 max_len] */
    int32_t n;
    int32_t *place; /* [max_len] scratch */
};

/* m of the places 0 .. n-1, each once: the first m of place [n]. */
static void draw_places(int32_t *place, int32_t n, int32_t m, struct rng *r)
{
    for (int32_t i = 0; i < n; i++) place[i] = i;
    for (int32_t i = 0; i < m; i++) {
        int32_t j = i + (int32_t)rng_below(r, (uint32_t)(n - i)), x = place[i];
        place[i] = place[j];
        place[j] = x;
    }
}

/* floor(part n), where .29999998f times 10 still is 3 */
static int32_t part_of(float part, int32_t n)
{
    return (int32_t)floor((double)part * n * (1 + 1e-6));
}
static int32_t at_least_one(int32_t n) { return n > 1 ? n : 1; }

/* ---- operators ---- */

static void crop(struct line *l, const struct augment_cfg *c, struct rng *r)
{
    int32_t keep = at_least_one(part_of(c->crop_keep, l->n));
    int32_t first = (int32_t)rng_below(r, (uint32_t)(l->n - keep + 1));
    memmove(l->ids, l->ids + first, (size_t)keep * sizeof *l->ids);
    l->n = keep;
}

static void mask(struct line *l, const struct augment_cfg *c, struct rng *r)
{
    int32_t m = part_of(c->mask, l->n);
    draw_places(l->place, l->n, m, r);
    for (int32_t i = 0; i < m; i++) l->ids[l->place[i]] = MASKED;
}

static void reorder(struct line *l, const struct augment_cfg *c, struct rng *r)
{
    int32_t m = part_of(c->reorder, l->n);
    int32_t first = (int32_t)rng_below(r, (uint32_t)(l->n - m + 1));
    rng_shuffle(r, l->ids + first, m);
}

static void insert(struct line *l, const struct augment_cfg *c, struct rng *r)
{
    int32_t m = at_least_one(part_of(c->insert, l->n)), n = l->n + m;
    draw_places(l->place, l->n, m, r);
    bool before[LIMIT_SEQ_LEN] = { 0 };
    for (int32_t i = 0; i < m; i++) before[l->place[i]] = true;
    for (int32_t from = l->n - 1, to = n - 1; from >= 0; from--) { /* from the end, in place */
        int32_t x = l->ids[from];
        l->ids[to--] = x;
        if (before[from]) l->ids[to--] = c->similar[x];
    }
    l->n = n < c->max_len ? n : c->max_len;
    memmove(l->ids, l->ids + n - l->n, (size_t)l->n * sizeof *l->ids);
}

static void substitute(struct line *l, const struct augment_cfg *c, struct rng *r)
{
    int32_t m = at_least_one(part_of(c->substitute, l->n));
    draw_places(l->place, l->n, m, r);
    for (int32_t i = 0; i < m; i++) {
        int32_t *x = &l->ids[l->place[i]];
        *x = c->similar[*x];
    }
}

typedef void operator_fn(struct line *l, const struct augment_cfg *c, struct rng *r);
static operator_fn *const operators[OPERATORS] = { crop, mask, reorder, insert, substitute };

/* The operators for a sequence of n items, [*count]. */
static void list_operators(enum op *list, int *count, const struct augment_cfg *c, int32_t n)
{
    const bool on[OPERATORS] = { c->crop_keep<1, c->mask> 0, c->reorder > 0, c->insert > 0,
                                 c->substitute > 0 };
    const bool others = on[MASK] || on[INSERT] || on[SUBSTITUTE];
    *count = 0;
    for (int o = 0; o < OPERATORS; o++) {
        bool too_short = others && n <= c->short_length && (o == CROP || o == REORDER);
        if (on[o] && !too_short) list[(*count)++] = (enum op)o;
    }
}

int augment_operators(const struct augment_cfg *c)
{
    enum op list[OPERATORS];
    int n;
    list_operators(list, &n, c, INT32_MAX);
    return n;
}

/* ---- views ---- */

/* A view of at most N tokens that is filled sequence by sequence. */
struct filling {
    struct view v;
    int32_t *cu, *pos;
    uint8_t *key;
};

static struct filling filling_new(struct arena *mem, int32_t B, int64_t N, bool keys)
{
    struct filling f = { .cu = ARENA_NEW(mem, int32_t, B + 1),
                         .pos = ARENA_NEW(mem, int32_t, N + 1),
                         .key = keys ? ARENA_NEW(mem, uint8_t, N + 1) : NULL };
    f.v.ids = ARENA_NEW(mem, int32_t, N + 1);
    f.v.seq.B = B;
    f.cu[0] = 0;
    return f;
}

static void filling_add(struct filling *f, int32_t b, const int32_t *ids, int32_t n)
{
    int32_t at = f->cu[b];
    memcpy(f->v.ids + at, ids, (size_t)n * sizeof *ids);
    for (int32_t i = 0; f->key && i < n; i++) f->key[at + i] = ids[i] != MASKED;
    f->cu[b + 1] = at + n;
}

static struct view filling_end(struct filling *f, int32_t max_len, enum pos_from positions)
{
    int32_t B = f->v.seq.B;
    seqpack_positions(f->pos, f->cu, B, max_len, positions);
    f->v.seq =
        (struct seqpack){ .B = B, .N = f->cu[B], .cu = f->cu, .pos = f->pos, .key = f->key };
    return f->v;
}

/* Which operators make the two views of a sequence. */
static void draw_operators(enum op *two, const struct augment_cfg *c, int32_t n, struct rng *r)
{
    enum op list[OPERATORS];
    int count;
    list_operators(list, &count, c, n);
    uint32_t a = rng_below(r, (uint32_t)count), b = a;
    if (c->two_operators && count > 1)
        b = (a + 1 + rng_below(r, (uint32_t)count - 1)) % (uint32_t)count;
    else if (!c->two_operators)
        b = rng_below(r, (uint32_t)count);
    two[0] = list[a];
    two[1] = list[b];
}

void augment_pair(struct view v[2], struct arena *mem, const struct augment_cfg *c,
                  const struct seqpack *sp, const int32_t *ids, uint64_t key)
{
    REQUIRE(augment_operators(c) > 0 && c->max_len <= LIMIT_SEQ_LEN, "augment: no operator");
    struct line l = { .ids = ARENA_NEW(mem, int32_t, 2 * c->max_len),
                      .place = ARENA_NEW(mem, int32_t, c->max_len) };
    struct filling f[2];
    for (int i = 0; i < 2; i++)
        f[i] = filling_new(mem, sp->B, (int64_t)sp->N * (c->insert > 0 ? 2 : 1), c->pad);
    for (int32_t b = 0; b < sp->B; b++) {
        struct rng r = rng_make(rng_hash(key, (uint64_t)b), RNG_AUGMENT);
        const int32_t *s = ids + sp->cu[b], n = sp->cu[b + 1] - sp->cu[b];
        enum op two[2];
        draw_operators(two, c, n, &r);
        for (int i = 0; i < 2; i++) {
            memcpy(l.ids, s, (size_t)n * sizeof *s);
            l.n = n;
            if (n > 1) operators[two[i]](&l, c, &r);
            filling_add(&f[i], b, l.ids, l.n);
        }
    }
    for (int i = 0; i < 2; i++) v[i] = filling_end(&f[i], c->max_len, c->positions);
}

void augment_halves(struct view v[2], struct arena *mem, const struct seqpack *sp,
                    const int32_t *ids, int32_t max_len, enum pos_from positions, uint64_t key)
{
    int32_t *half[2] = { ARENA_NEW(mem, int32_t, max_len), ARENA_NEW(mem, int32_t, max_len) };
    struct filling f[2];
    for (int i = 0; i < 2; i++) f[i] = filling_new(mem, sp->B, sp->N, false);
    for (int32_t b = 0; b < sp->B; b++) {
        struct rng r = rng_make(rng_hash(key, (uint64_t)b), RNG_AUGMENT);
        const int32_t *s = ids + sp->cu[b];
        int32_t len = sp->cu[b + 1] - sp->cu[b], n[2] = { 0, 0 };
        while (len > 1 && (n[0] == 0 || n[1] == 0)) { /* at random, not both in one */
            n[0] = n[1] = 0;
            for (int32_t t = 0; t < len; t++) {
                uint32_t to = rng_below(&r, 2);
                half[to][n[to]++] = s[t];
            }
        }
        for (int i = 0; i < 2; i++)
            filling_add(&f[i], b, len > 1 ? half[i] : s, len > 1 ? n[i] : 1);
    }
    for (int i = 0; i < 2; i++) v[i] = filling_end(&f[i], max_len, positions);
}

int32_t augment_foreign(const int32_t *ids, int32_t n, int32_t V, struct rng *r)
{
    enum { TRIES = 256 }; /* for somebody who had everything */
    int32_t v = 0;
    for (int i = 0; i < TRIES; i++) {
        v = (int32_t)rng_below(r, (uint32_t)V);
        if (!dataset_holds(ids, n, v)) break;
    }
    return v;
}

const int32_t *augment_noise(struct arena *mem, const int32_t *ids, int32_t *len, float part,
                             int32_t V, uint64_t key)
{
    struct rng r = rng_make(key, RNG_AUGMENT);
    int32_t n = *len, more = (int32_t)floor((double)part * n + rng_f64(&r));
    int32_t *out = ARENA_NEW(mem, int32_t, n + more + 1);
    memcpy(out, ids, (size_t)n * sizeof *ids);
    for (int32_t k = 0; k < more; k++, n++) {
        int32_t at = (int32_t)rng_below(&r, (uint32_t)n + 1);
        memmove(out + at + 1, out + at, (size_t)(n - at) * sizeof *out);
        out[at] = augment_foreign(ids, *len, V, &r);
    }
    *len = n;
    return out;
}
