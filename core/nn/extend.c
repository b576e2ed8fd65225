#include "core/nn/extend.h"
#include "core/nn/interest.h"
#include "core/num/num.h"
#include <math.h>
#include <string.h>

/* Where the parts of a page start, in floats. */
struct layout {
    int32_t kept; /* blocks whose keys and values are kept */
    size_t block; /* floats of one of them */
    size_t states, key, assign, end;
};

static struct layout layout_of(const struct model_cfg *c)
{
    const size_t D = (size_t)c->width, K = (size_t)c->interests;
    struct layout l = { .kept = c->layers, .block = 2 * D * EXTEND_PAGE };
    if (K == 0 && l.kept > 0) l.kept--;
    l.states = (size_t)l.kept * l.block;
    l.key = l.states + D * EXTEND_PAGE;
    l.assign = l.key + (K ? D * EXTEND_PAGE : 0);
    l.end = l.assign + K * EXTEND_PAGE;
    return l;
}

bool extend_can(const struct model_cfg *c) { return c->causal && c->positions == POS_FIRST; }

size_t extend_page_bytes(const struct model_cfg *c)
{
    return (layout_of(c).end * sizeof(float) + 63) / 64 * 64;
}

struct run {
    const struct model_cfg *c;
    struct tape *tp;
    const struct extend *x;
    struct layout l;
    struct seqpack fresh, all; /* the new events; all of them */
    int32_t *ids;              /* [fresh.N] */
    bool any_before;           /* fresh and all differ */
};

/* Offsets and positions of both packs. */
static void run_pack(struct run *r, int32_t B)
{
    struct arena *mem = tape_arena(r->tp);
    int32_t *cu = ARENA_NEW(mem, int32_t, B + 1), *all_cu = ARENA_NEW(mem, int32_t, B + 1);
    cu[0] = all_cu[0] = 0;
    for (int32_t b = 0; b < B; b++) {
        const struct extend *x = &r->x[b];
        REQUIRE(x->from >= 0 && x->n >= 1 && x->from + x->n <= r->c->max_len,
                "sequence %d: %d events after %d, at most %d", b, x->n, x->from, r->c->max_len);
        REQUIRE((!x->page && x->from == 0) || (x->page && extend_can(r->c)),
                "sequence %d: %d events before it, and nothing is kept", b, x->from);
        cu[b + 1] = cu[b] + x->n;
        all_cu[b + 1] = all_cu[b] + x->from + x->n;
        r->any_before |= x->from > 0;
    }
    int32_t *pos = ARENA_NEW(mem, int32_t, cu[B]),
            *all_pos = ARENA_NEW(mem, int32_t, all_cu[B]);
    r->ids = ARENA_NEW(mem, int32_t, cu[B]);
    seqpack_positions(all_pos, all_cu, B, r->c->max_len, r->c->positions);
    for (int32_t b = 0; b < B; b++) {
        const size_t nb = (size_t)r->x[b].n * sizeof *pos;
        memcpy(r->ids + cu[b], r->x[b].ids, nb);
        memcpy(pos + cu[b], all_pos + all_cu[b] + r->x[b].from, nb);
    }
    r->fresh = (struct seqpack){ .B = B, .N = cu[B], .cu = cu, .pos = pos };
    r->all = (struct seqpack){ .B = B, .N = all_cu[B], .cu = all_cu, .pos = all_pos };
}

/* Attention of block i: the new events' keys and values are kept, their queries answered. */
static struct ten *attend(const struct run *r, struct ten *qkv, int32_t i)
{
    const struct model_cfg *c = r->c;
    struct arena *mem = tape_arena(r->tp);
    const int32_t D = c->width, dh = D / c->heads;
    const struct k_attn_cfg cfg = { .D = D,
                                    .H = c->heads,
                                    .scale = 1.0f / sqrtf((float)dh),
                                    .causal = c->causal,
                                    .drop = drop_none() };
    struct k_attn_kept kept = { .keys = (ptrdiff_t)((size_t)i * r->l.block) };
    kept.values = kept.keys + (ptrdiff_t)D * EXTEND_PAGE;
    struct ten *y = tape_ten(r->tp, r->fresh.N, D, false);
    const struct arena_mark mark = arena_mark(mem);
    float *scratch = ARENA_NEW(mem, float, num->attn->scratch(&cfg, c->max_len));
    for (int32_t b = 0, m; b < r->fresh.B; b += m) {
        for (m = 0; b + m < r->fresh.B && r->x[b + m].from == 0; m++) continue;
        if (m > 0) /* those that begin: together, short ones share the kernel's blocks */
            num->attn->fwd(y->x, NULL, qkv->x, NULL, r->fresh.cu + b, m, &cfg, scratch);
        else
            m = 1;
        for (int32_t j = b; j < b + m; j++) {
            const struct extend *x = &r->x[j];
            const float *rows = qkv->x + (int64_t)r->fresh.cu[j] * 3 * D;
            kept.page = x->page;
            if (x->page) num->attn->keep(&kept, rows, x->from, x->n, &cfg);
            if (x->from > 0)
                num->attn->more(y->x + (int64_t)r->fresh.cu[j] * D, rows, &kept, x->from, x->n,
                                &cfg, scratch);
        }
    }
    arena_release(mem, mark);
    return y;
}

/* Rows from .. to-1 of a sequence between its pages, where they start at float `at`, and memory. */
static void copy_rows(float *row, const struct extend *x, size_t at, int32_t from, int32_t to,
                      int32_t cols, bool into_pages)
{
    for (int32_t t = from, m; t < to; t += m) {
        const int32_t in_page = t % EXTEND_PAGE, left = EXTEND_PAGE - in_page;
        m = left < to - t ? left : to - t;
        float *kept = x->page[t / EXTEND_PAGE] + at + (size_t)in_page * (size_t)cols;
        const size_t n = (size_t)m * (size_t)cols;
        memcpy(into_pages ? kept : row, into_pages ? row : kept, n * sizeof *row);
        row += n;
    }
}

/* Keeps the new events' rows [fresh.N, cols] and returns those of all events [all.N, cols]. */
static struct ten *with_kept(const struct run *r, struct ten *fresh, size_t at)
{
    const int32_t cols = fresh->cols;
    struct ten *all = r->any_before ? tape_ten(r->tp, r->all.N, cols, false) : fresh;
    for (int32_t b = 0; b < r->fresh.B; b++) {
        const struct extend *x = &r->x[b];
        float *in = fresh->x + (int64_t)r->fresh.cu[b] * cols;
        if (x->page) copy_rows(in, x, at, x->from, x->from + x->n, cols, true);
        if (all == fresh) continue;
        float *out = all->x + (int64_t)r->all.cu[b] * cols;
        copy_rows(out, x, at, 0, x->from, cols, false);
        memcpy(out + (int64_t)x->from * cols, in, (size_t)x->n * (size_t)cols * sizeof *out);
    }
    return all;
}

struct encoded model_extend(const struct model *m, struct tape *tp, struct seqpack *sp,
                            const struct extend *x, int32_t B)
{
    const struct model_cfg *c = model_config(m);
    const struct encoder *enc = model_encoder(m);
    const struct interest_head *head = model_head(m);
    struct run r = { .c = c, .tp = tp, .x = x, .l = layout_of(c) };
    struct encoded e = { 0 };
    run_pack(&r, B);
    *sp = r.all;
    struct ten *z = encoder_embed(enc, c, tp, &r.fresh, r.ids);
    for (int32_t i = 0; i < r.l.kept; i++) {
        struct ten *qkv = linear_apply(tp, z, enc->block[i].qkv, ACT_NONE);
        z = block_finish(&enc->block[i], c, tp, z, attend(&r, qkv, i));
    }
    if (!head) {
        e.phi = encoder_finish(enc, c, tp, &r.all, with_kept(&r, z, r.l.states));
        return e;
    }
    struct ten *key = interest_tokens(&e.assign, head, c, tp, &r.fresh, z);
    key = with_kept(&r, key, r.l.key);
    e.assign = with_kept(&r, e.assign, r.l.assign);
    e.states = with_kept(&r, z, r.l.states);
    interest_mix(&e, head, c, tp, &r.all, BETA_IN, key);
    return e;
}
