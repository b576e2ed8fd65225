/* interests.c — histories to vectors, and which of a user's interests are searched. */
#include "core/num/num.h"
#include "core/serve/encode.h"
#include "core/serve/run.h"
#include <float.h>
#include <math.h>

enum { MOST_EVENTS = 10 };

bool run_is_encoded(const struct run *x)
{
    return !x->done && !x->a->fallback && x->r->source == REC_HISTORY;
}

/* ---- vectors ---- */

void run_encode(struct run *x, int32_t n, struct tape *tp)
{
    struct arena *mem = x->mem;
    struct encode_in *h = ARENA_NEW(mem, struct encode_in, n);
    struct encode_out o;
    int32_t B = 0;
    for (int32_t i = 0; i < n; i++)
        if (run_is_encoded(&x[i])) h[B++] = (struct encode_in){ x[i].row, x[i].n_rows };
    if (B == 0) return;
    encode_histories(&o, gen_states(x->c->gen), gen_model(x->c->gen), tp, mem, h, B);
    for (int32_t i = 0, b = 0; i < n; i++) {
        if (!run_is_encoded(&x[i])) continue;
        const size_t K = (size_t)o.K, first = (size_t)b * K, at = (size_t)o.cu[b++];
        x[i].phi = o.phi + first * (size_t)o.D;
        x[i].share = o.share + first;
        x[i].assign = o.assign ? o.assign + at * K : NULL;
        x[i].weight = o.weight ? o.weight + at : NULL;
    }
}

/* What stands for a history: vectors of the request, or of items.  All of equal importance, but for unknown items,
 * which have none. */
static void use_vectors(struct run *x)
{
    const struct rec_request *r = x->r;
    const size_t D = (size_t)x->D;
    x->K = r->source == REC_VECTORS ? r->n_vectors : x->n_rows;
    float *phi = ARENA_NEW0(x->mem, float, (size_t)x->K *D + 1),
          *share = ARENA_NEW0(x->mem, float, x->K + 1);
    for (int32_t k = 0; k < x->K; k++) {
        const bool given = r->source == REC_VECTORS;
        if (!given && x->row[k] < 0) continue;
        const float *v = given ? r->vectors + (size_t)k * D : corpus_vector(x->c, x->row[k]);
        num->vec->scale(phi + (size_t)k * D, 1, v, (int64_t)D);
        share[k] = 1 / (float)(given ? x->K : x->used);
    }
    x->phi = phi;
    x->share = share;
}

/* ---- interests ---- */

/* Which interests are searched: share at the threshold or above, the most important `most` of
 * them (0: all), listed by index.  Returns their number. */
static int32_t choose_active(int32_t *active, const float *share, int32_t K, float threshold,
                             int32_t most)
{
    int32_t n = 0;
    for (int32_t k = 0; k < K; k++) {
        if (share[k] < threshold) continue;
        int32_t larger = 0; /* interests that come before k */
        for (int32_t j = 0; j < K; j++)
            larger += share[j] > share[k] || (j < k && share[j] == share[k]);
        if (most == 0 || larger < most) active[n++] = k;
    }
    return n;
}

static void gather_queries(struct run *x)
{
    const size_t D = (size_t)x->D;
    x->query = x->phi;
    if (x->n_active == x->K) return;
    float *q = ARENA_NEW(x->mem, float, D *(size_t)x->n_active + 1);
    for (int32_t i = 0; i < x->n_active; i++)
        num->vec->scale(q + (size_t)i * D, 1, x->phi + (size_t)x->active[i] * D, (int64_t)D);
    x->query = q;
}

static void activate(struct run *x, int32_t most)
{
    const bool has_shares = x->assign != NULL;
    const float threshold =
        has_shares ? model_config(gen_model(x->c->gen))->active_share : FLT_MIN;
    x->n_active = choose_active(x->active, x->share, x->K, threshold, most);
    for (int32_t k = 0; k < x->K; k++) x->interest[k].active = false;
    for (int32_t i = 0; i < x->n_active; i++) x->interest[x->active[i]].active = true;
    gather_queries(x);
}

int run_choose_interests(struct run *x, struct err *e)
{
    if (x->r->source != REC_HISTORY) use_vectors(x);
    if (!x->phi || x->K == 0) return 0;
    for (int32_t i = 0; i < x->K * x->D; i++)
        if (!isfinite(x->phi[i]))
            return err_set(e, ERR_INTERNAL, "the encoder computed a vector that is not finite");
    x->interest = ARENA_NEW0(x->mem, struct rec_interest, x->K);
    x->active = ARENA_NEW(x->mem, int32_t, x->K);
    for (int32_t k = 0; k < x->K; k++) {
        const float *phi = x->phi + (size_t)k * (size_t)x->D;
        x->interest[k].index = k;
        x->interest[k].share = x->share[k];
        x->interest[k].norm = sqrtf(num->vec->dot(phi, phi, x->D));
    }
    activate(x, x->r->interests);
    x->a->interest = x->interest;
    x->a->n_interests = x->K;
    x->a->phi = x->phi;
    if (x->n_active == 0) x->a->fallback = "no_active_interest";
    return 0;
}

void run_use_fewer(struct run *x, int32_t n_active)
{
    struct rec_degraded *d = &x->a->degraded;
    const int32_t before = d->n_interests + x->n_active; /* active at first */
    int32_t *left = ARENA_NEW(x->mem, int32_t, before), n = 0;
    bool *was = ARENA_NEW0(x->mem, bool, x->K);
    for (int32_t i = 0; i < d->n_interests; i++) was[d->interest[i]] = true;
    for (int32_t i = 0; i < x->n_active; i++) was[x->active[i]] = true;
    activate(x, n_active > 0 ? n_active : x->K);
    for (int32_t k = 0; k < x->K && n_active == 0; k++) x->interest[k].active = false;
    if (n_active == 0) x->n_active = 0;
    for (int32_t k = 0; k < x->K; k++)
        if (was[k] && !x->interest[k].active) left[n++] = k;
    d->interest = left;
    d->n_interests = n;
    d->coverage = (double)x->n_active / before;
}

/* The events an interest listened to most, by p(k|i) p_i over the interest's share; the newer
 * first where equal. */
static void top_events(struct run *x, int32_t k)
{
    const int32_t *event = x->row + (x->n_rows - x->used);
    int32_t most = x->used < MOST_EVENTS ? x->used : MOST_EVENTS, n = 0;
    struct rec_event *top = ARENA_NEW(x->mem, struct rec_event, most + 1);
    for (int32_t i = x->used - 1; i >= 0; i--) {
        float s = x->assign[(size_t)i * (size_t)x->K + (size_t)k] * x->weight[i];
        int32_t at = n < most ? n++ : most;
        for (; at > 0 && top[at - 1].weight < s; at--) top[at] = top[at - 1];
        if (at < most) top[at] = (struct rec_event){ event[i], s };
    }
    for (int32_t i = 0; i < n; i++)
        top[i].weight = x->share[k] > 0 ? top[i].weight / x->share[k] : 0;
    x->interest[k].event = top;
    x->interest[k].n_events = n;
}

void run_explain_events(struct run *x)
{
    for (int32_t k = 0; x->assign && k < x->K; k++) top_events(x, k);
}
