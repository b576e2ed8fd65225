#include "core/ad/tape.h"
#include "core/ad/rows.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GATHER_ROWS = 128 };

struct node {
    struct ten *y;
    ad_bwd_fn *bwd;
    void *saved;
    const char *op;
    struct cost cost;
};

struct tape {
    struct arena *mem; /* borrowed */
    struct par *pool;  /* borrowed, may be NULL */
    struct node *node; /* grows to the longest step, then stays */
    int32_t n, cap;
    uint32_t groups;
    uint64_t key, n_keys;
    bool train, spent;
    const struct param *bound; /* whose users get part instead; NULL: none */
    struct ten *part;          /* its rows, or what replaces it */
    struct cost cost;          /* of the next node */
    struct prof *prof;         /* borrowed, NULL: none */
    const struct bf16_ops *bf16;
};

struct tape *tape_new(struct arena *mem, struct par *pool)
{
    struct tape *tp = xcalloc(1, sizeof *tp);
    tp->mem = mem;
    tp->pool = pool;
    return tp;
}

void tape_free(struct tape *tp)
{
    if (!tp) return;
    free(tp->node);
    free(tp);
}

void tape_precise(struct tape *tp, const struct bf16_ops *ops) { tp->bf16 = ops; }
void tape_profile(struct tape *tp, struct prof *p) { tp->prof = p; }

void tape_begin(struct tape *tp, uint32_t groups, uint64_t key, bool train)
{
    arena_reset(tp->mem);
    tp->n = 0;
    tp->groups = groups;
    tp->key = key;
    tp->n_keys = 0;
    tp->train = train;
    tp->spent = false;
    tp->bound = NULL;
}

void tape_backward(struct tape *tp, struct ten *y)
{
    REQUIRE(!tp->spent, "backward twice in one step");
    REQUIRE(y->rows == 1 && y->cols == 1, "backward from [%d,%d]", y->rows, y->cols);
    tp->spent = true;
    if (!y->g) return;
    y->g[0] = 1;
    y->blank = false;
    for (int32_t i = tp->n - 1; i >= 0; i--) {
        const struct node *n = &tp->node[i];
        if (n->y->blank) continue; /* the loss does not depend on it */
        n->bwd(tp, n->y, n->saved);
        prof_lap(tp->prof, n->op, &n->cost, PROF_BACKWARD);
    }
}

struct arena *tape_arena(struct tape *tp) { return tp->mem; }
struct par *tape_pool(struct tape *tp) { return tp->pool; }
const struct bf16_ops *tape_bf16(const struct tape *tp) { return tp->bf16; }
bool tape_training(const struct tape *tp) { return tp->train; }
uint64_t tape_drop_key(struct tape *tp) { return rng_hash(tp->key, tp->n_keys++); }
int32_t tape_nodes(const struct tape *tp) { return tp->n; }
const char *tape_op(const struct tape *tp, int32_t i) { return tp->node[i].op; }
const struct cost *tape_node_cost(const struct tape *tp, int32_t i)
{
    return &tp->node[i].cost;
}
void tape_cost(struct tape *tp, struct cost c) { tp->cost = c; }

struct ten *tape_ten(struct tape *tp, int32_t rows, int32_t cols, bool wants_grad)
{
    size_t n = (size_t)rows * (size_t)cols;
    struct ten *t = ARENA_NEW(tp->mem, struct ten, 1);
    t->x = ARENA_NEW(tp->mem, float, n);
    t->g = wants_grad ? ARENA_NEW(tp->mem, float, n) : NULL;
    t->rows = rows;
    t->cols = cols;
    t->blank = wants_grad;
#ifdef __SANITIZE_ADDRESS__ /* so that tests see who reads it before it was filled */
    for (size_t i = 0; wants_grad && i < n; i++) t->g[i] = NAN;
#endif
    return t;
}

bool grad_first(struct ten *t)
{
    bool first = t->blank;
    t->blank = false;
    return first;
}

enum { CLEAR_ROWS = 256 };

static void clear_block(void *ctx, int block, int worker)
{
    (void)worker;
    struct ten *t = ctx;
    rows_clear(t, row_span(t->rows, CLEAR_ROWS, block));
}

void grad_open(struct tape *tp, struct ten *t)
{
    if (grad_first(t)) par_for(tp->pool, row_blocks(t->rows, CLEAR_ROWS), clear_block, t);
}

void tape_push(struct tape *tp, struct ten *y, ad_bwd_fn *bwd, void *saved, const char *op)
{
    const struct cost cost = tp->cost;
    tp->cost = (struct cost){ 0 };
    prof_lap(tp->prof, op, &cost, PROF_FORWARD);
    if (!y->g) return;
    if (tp->n == tp->cap) {
        tp->cap = tp->cap ? tp->cap * 2 : 64;
        tp->node = xrealloc(tp->node, (size_t)tp->cap, sizeof *tp->node);
    }
    tp->node[tp->n++] = (struct node){ y, bwd, saved, op, cost };
}

struct ten *tape_const(struct tape *tp, const float *x, int32_t rows, int32_t cols)
{
    struct ten *t = ARENA_NEW(tp->mem, struct ten, 1);
    /* ops never write to an input's x; the type is shared with tensors that they own */
    *t = (struct ten){ (float *)(uintptr_t)x, NULL, rows, cols, false };
    return t;
}

struct gather {
    struct ten *part;
    const struct param *p;
    const int32_t *row;
};

static void gather_block(void *ctx, int block, int worker)
{
    (void)worker;
    const struct gather *c = ctx;
    const struct row_span s = row_span(c->part->rows, GATHER_ROWS, block);
    int64_t D = c->part->cols;
    if (c->part->g) rows_clear(c->part, s);
    for (int64_t i = s.first; i < s.first + s.n; i++) {
        REQUIRE(c->row[i] >= 0 && c->row[i] < c->p->t.rows, "%s: row %d of %d", c->p->name,
                c->row[i], c->p->t.rows);
        memcpy(c->part->x + i * D, c->p->t.x + c->row[i] * D, (size_t)D * sizeof(float));
    }
}

void tape_bind(struct tape *tp, struct param *p, const int32_t *row, int32_t n)
{
    REQUIRE(!tp->bound, "%s and %s are bound in one step", tp->bound->name, p->name);
    bool learns = p->group & tp->groups;
    struct ten *part = tape_ten(tp, n, p->t.cols, learns);
    part->blank = false;
    struct gather c = { part, p, row };
    par_for(tp->pool, row_blocks(n, GATHER_ROWS), gather_block, &c);
    prof_lap(tp->prof, "gather", &(struct cost){ .floats = { 3.0 * n * p->t.cols } },
             PROF_FORWARD);
    p->part = (struct param_part){ row, n, part->g };
    tp->bound = p;
    tp->part = part;
}

void tape_replace(struct tape *tp, const struct param *p, struct ten *y)
{
    REQUIRE(!tp->bound, "%s and %s are bound in one step", tp->bound->name, p->name);
    tp->bound = p;
    tp->part = y;
}

struct ten *ad_param_rows(struct tape *tp, const struct param *p, int32_t first, int32_t n)
{
    REQUIRE(first >= 0 && n > 0 && first <= p->t.rows - n, "%s: rows %d .. %d of %d", p->name,
            first, first + n - 1, p->t.rows);
    const int64_t at = (int64_t)first * p->t.cols;
    struct ten *t = ARENA_NEW(tp->mem, struct ten, 1);
    *t = (struct ten){ .x = p->t.x + at, .rows = n, .cols = p->t.cols };
    if (p->t.g && (p->group & tp->groups)) t->g = p->t.g + at;
    return t;
}

struct ten *ad_param(struct tape *tp, struct param *p)
{
    if (p == tp->bound) return tp->part;
    struct ten *t = ARENA_NEW(tp->mem, struct ten, 1);
    *t = p->t;
    if (!(p->group & tp->groups)) t->g = NULL;
    return t;
}
