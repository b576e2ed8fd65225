#include "core/serve/pick.h"
#include "core/base/rng.h"
#include "core/num/num.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct trait {       /* of a candidate, where diversity asks for it */
    float rel, norm; /* scaled score; mmr: length of its vector */
    float same;      /* category: chosen that share a value; mmr: largest cosine with one */
    const int32_t *value; /* [n] category: its values, ascending */
    int32_t n;
};

struct picking {
    struct cand *c;
    const struct pick_cfg *cfg;
    const struct corpus *corpus;
    int32_t n, got, owed_sum; /* candidates, chosen so far, places still owed */
    int32_t *owed, *left;     /* by list: places still owed, candidates not chosen yet */
    struct trait *trait;      /* [n], or NULL */
};

/* ---- what lists are owed ---- */

static void open_owed(struct picking *p, struct arena *a)
{
    const int32_t K = p->cfg->n_lists;
    p->owed = ARENA_NEW0(a, int32_t, K);
    p->left = ARENA_NEW0(a, int32_t, K);
    for (int32_t i = 0; i < p->n; i++) p->left[p->c[i].best]++;
    for (int32_t k = 0; p->cfg->owed && k < K; k++) {
        p->owed[k] = p->cfg->owed[k] < p->left[k] ? p->cfg->owed[k] : p->left[k];
        p->owed_sum += p->owed[k];
    }
}

static bool may_take(const struct picking *p, int32_t i)
{
    return p->cfg->limit - p->got > p->owed_sum || p->owed[p->c[i].best] > 0;
}

/* Candidate i goes to the next place; those between keep their order. */
static void take(struct picking *p, int32_t i)
{
    const struct cand chosen = p->c[i];
    if (p->owed[chosen.best] > 0) {
        p->owed[chosen.best]--;
        p->owed_sum--;
    }
    for (int32_t j = i; j > p->got; j--) {
        p->c[j] = p->c[j - 1];
        if (p->trait) p->trait[j] = p->trait[j - 1];
    }
    p->c[p->got++] = chosen;
}

static void pick_in_order(struct picking *p)
{
    for (int32_t i = 0; i < p->n && p->got < p->cfg->limit; i++)
        if (may_take(p, i)) take(p, i);
}

/* ---- diversity ---- */

static int by_value(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* A text that the catalogue's field does not have: told apart by its hash, below all of its values. */
static int32_t foreign_value(struct str s)
{
    uint64_t h = 0;
    for (int32_t i = 0; i < s.len; i++) h = rng_hash(h, (unsigned char)s.p[i]);
    return INT32_MIN | (int32_t)(h >> 33);
}

/* Of a row of the delta, whose attributes are texts. */
static void read_values(struct trait *t, const struct picking *p, int32_t row, struct arena *a)
{
    const struct attrs_index *ix = gen_attrs(p->corpus->gen);
    const struct str name = items_field_name(attrs_items(ix), p->cfg->field);
    const struct attrs *of = live_attrs(p->corpus->live, row - corpus_base(p->corpus));
    for (int32_t i = 0; i < of->n; i++) {
        const struct attr *x = &of->at[i];
        if (x->name.len != name.len || memcmp(x->name.p, name.p, (size_t)name.len) != 0)
            continue;
        int32_t *value = ARENA_NEW(a, int32_t, x->n_values + 1);
        for (int32_t j = 0; j < x->n_values; j++) {
            const int32_t v = attrs_value(ix, p->cfg->field, x->value[j]);
            value[j] = v >= 0 ? v : foreign_value(x->value[j]);
        }
        qsort(value, (size_t)x->n_values, sizeof *value, by_value);
        t->value = value;
        t->n = x->n_values;
    }
}

static void open_traits(struct picking *p, struct arena *a)
{
    const int32_t D = gen_info(p->corpus->gen)->D, V = corpus_base(p->corpus);
    float most = p->c[0].score, least = most;
    for (int32_t i = 0; i < p->n; i++) {
        most = fmaxf(most, p->c[i].score);
        least = fminf(least, p->c[i].score);
    }
    p->trait = ARENA_NEW0(a, struct trait, p->n);
    for (int32_t i = 0; i < p->n; i++) {
        struct trait *t = &p->trait[i];
        const int32_t row = p->c[i].row;
        const float *v = corpus_vector(p->corpus, row);
        t->rel = most > least ? (p->c[i].score - least) / (most - least) : 1;
        if (p->cfg->method == DIVERSITY_MMR)
            t->norm = sqrtf(num->vec->dot(v, v, D));
        else if (row < V)
            t->value = items_values(gen_items(p->corpus->gen), p->cfg->field, row, &t->n);
        else
            read_values(t, p, row, a);
    }
}

static float penalty_of(const struct picking *p, const struct trait *t)
{
    const float s = p->cfg->strength;
    if (p->cfg->method == DIVERSITY_CATEGORY || p->got == 0) return s * t->same;
    return s * (t->rel + t->same); /* rel - penalty = (1 - s) rel - s cos */
}

static bool share_a_value(const struct trait *x, const struct trait *y)
{
    for (int32_t i = 0, j = 0; i < x->n && j < y->n;) {
        if (x->value[i] == y->value[j]) return true;
        if (x->value[i] < y->value[j])
            i++;
        else
            j++;
    }
    return false;
}

/* What is left hears of the choice. */
static void tell(struct picking *p, struct cand chosen, struct trait of)
{
    const int32_t D = gen_info(p->corpus->gen)->D;
    const float *e = corpus_vector(p->corpus, chosen.row);
    const bool first = p->got == 1;
    for (int32_t i = p->got; i < p->n; i++) {
        struct trait *t = &p->trait[i];
        if (p->cfg->method == DIVERSITY_CATEGORY) {
            t->same += share_a_value(&of, t) ? 1 : 0;
            continue;
        }
        const float norms = of.norm * t->norm;
        const float dot = num->vec->dot(e, corpus_vector(p->corpus, p->c[i].row), D);
        const float cosine = norms > 0 ? dot / norms : 0;
        t->same = first ? cosine : fmaxf(t->same, cosine);
    }
}

static void pick_diverse(struct picking *p, struct arena *a, float *penalty)
{
    open_traits(p, a);
    while (p->got < p->n && p->got < p->cfg->limit) {
        int32_t best = -1;
        float most = 0;
        for (int32_t i = p->got; i < p->n; i++) {
            if (!may_take(p, i)) continue;
            const float x = p->trait[i].rel - penalty_of(p, &p->trait[i]);
            if (best < 0 || x > most) {
                best = i;
                most = x;
            }
        }
        if (best < 0) return;
        const struct cand chosen = p->c[best];
        const struct trait of = p->trait[best];
        if (penalty) penalty[p->got] = penalty_of(p, &of);
        take(p, best);
        tell(p, chosen, of);
    }
}

int32_t pick(struct cand *c, int32_t n, const struct pick_cfg *cfg, const struct corpus *corpus,
             struct arena *a, float *penalty)
{
    const bool diverse = cfg->method != DIVERSITY_NONE && cfg->strength > 0;
    if (diverse && n > PICK_PRODUCTS / cfg->limit) n = PICK_PRODUCTS / cfg->limit;
    struct picking p = { .c = c, .cfg = cfg, .corpus = corpus, .n = n };
    for (int32_t i = 0; penalty && i < cfg->limit; i++) penalty[i] = 0;
    if (n == 0) return 0;
    open_owed(&p, a);
    if (diverse)
        pick_diverse(&p, a, penalty);
    else
        pick_in_order(&p);
    return p.got;
}

void pick_quota(int32_t *owed, int32_t n_lists, const float *weight, int32_t least,
                int32_t limit)
{
    double sum = 0;
    int32_t given = 0;
    if (least > limit / n_lists) least = limit / n_lists;
    for (int32_t k = 0; k < n_lists; k++) sum += (double)weight[k];
    const int32_t rest = limit - least * n_lists;
    for (int32_t k = 0; k < n_lists; k++) {
        const double part = sum > 0 ? (double)weight[k] / sum : 1.0 / n_lists;
        owed[k] = least + (int32_t)floor(part * rest);
        given += owed[k];
    }
    while (given < limit) { /* fewer than n_lists times */
        int32_t most = 0;
        double left = -1;
        for (int32_t k = 0; k < n_lists; k++) {
            const double part = (sum > 0 ? (double)weight[k] / sum : 1.0 / n_lists) * rest;
            const double missing = part + least - owed[k];
            if (missing > left) {
                left = missing;
                most = k;
            }
        }
        owed[most]++;
        given++;
    }
}
