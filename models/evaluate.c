#include "models/evaluate.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct encode_ctx {
    const struct model *m;
    struct tape *tp;
    double share[LIMIT_INTERESTS], cosine, active;
    int64_t users;
};

/* Newest L events of every history, packed in the tape's arena. */
static struct seqpack pack(struct tape *tp, const struct model_cfg *c, int32_t **ids,
                           const int32_t *const *hist, const int32_t *len, int32_t n)
{
    struct arena *a = tape_arena(tp);
    int32_t *cu = ARENA_NEW(a, int32_t, n + 1);
    cu[0] = 0;
    for (int32_t b = 0; b < n; b++)
        cu[b + 1] = cu[b] + (len[b] < c->max_len ? len[b] : c->max_len);
    int32_t *pos = ARENA_NEW(a, int32_t, cu[n]);
    *ids = ARENA_NEW(a, int32_t, cu[n]);
    seqpack_positions(pos, cu, n, c->max_len, (enum pos_from)c->positions);
    for (int32_t b = 0; b < n; b++) {
        int32_t used = cu[b + 1] - cu[b];
        memcpy(*ids + cu[b], hist[b] + len[b] - used, (size_t)used * sizeof **ids);
    }
    return (struct seqpack){ .B = n, .N = cu[n], .cu = cu, .pos = pos };
}

static double cosine(const float *a, const float *b, int32_t D)
{
    double ab = 0, aa = 0, bb = 0;
    for (int32_t i = 0; i < D; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* One user's K vectors: statistics, and an inactive interest becomes a copy of the strongest, which leaves
 * the maximum over interests to the active ones. */
static void finish_user(struct encode_ctx *c, float *q, const float *share, int32_t K,
                        int32_t D)
{
    int32_t top = 0;
    for (int32_t k = 1; k < K; k++)
        if (share[k] > share[top]) top = k;
    for (int32_t k = 0; k < K; k++) {
        c->share[k] += (double)share[k];
        for (int32_t j = 0; j < k; j++)
            c->cosine += cosine(q + (size_t)j * (size_t)D, q + (size_t)k * (size_t)D, D) * 2 /
                         ((double)K * (K - 1));
    }
    for (int32_t k = 0; k < K; k++) {
        bool active = share[k] >= model_config(c->m)->active_share;
        c->active += active;
        if (!active)
            memcpy(q + (size_t)k * (size_t)D, q + (size_t)top * (size_t)D,
                   (size_t)D * sizeof *q);
    }
    c->users++;
}

static int encode(void *ctx, float *q, const int32_t *const *hist, const int32_t *len,
                  int32_t n, struct err *e)
{
    (void)e;
    struct encode_ctx *c = ctx;
    const struct model_cfg *cfg = model_config(c->m);
    int32_t K = model_interests(c->m), D = cfg->width, *ids;
    tape_begin(c->tp, 0, 0, false);
    struct seqpack sp = pack(c->tp, cfg, &ids, hist, len, n);
    struct encoded enc = model_encode(c->m, c->tp, &sp, ids, BETA_IN);
    memcpy(q, enc.phi->x, (size_t)n * (size_t)K * (size_t)D * sizeof *q);
    float *share = ARENA_NEW(tape_arena(c->tp), float, (size_t)n *(size_t)K);
    model_shares(share, c->m, &enc, &sp);
    for (int32_t b = 0; b < n; b++) {
        size_t at = (size_t)b * (size_t)K;
        finish_user(c, q + at * (size_t)D, share + at, K, D);
    }
    return 0;
}

int evaluate(struct evaluation *v, const struct model *m, const struct dataset *d,
             enum split split, enum seen seen, struct par *pool, bool progress, struct err *e)
{
    double start = clock_s();
    struct arena *mem = arena_new("evaluate", 1 << 20, 0);
    struct encode_ctx c = { .m = m, .tp = tape_new(mem, pool) };
    struct rank_cfg cfg = {
        .split = split,
        .seen = seen,
        .K = model_interests(m),
        .D = model_config(m)->width,
        .items = model_items(m)->t.x,
        .progress = progress,
    };
    *v = (struct evaluation){ .K = cfg.K };
    int rc = rank_eval(&v->metrics, NULL, d, &cfg, encode, &c, pool, e);
    double n = c.users > 0 ? (double)c.users : 1;
    for (int32_t k = 0; k < v->K; k++) v->share[k] = c.share[k] / n;
    v->cosine = c.cosine / n;
    v->active = c.active / n;
    v->seconds = clock_s() - start;
    tape_free(c.tp);
    arena_free(mem);
    return rc;
}

json_t *metrics_json(const struct metrics *m)
{
    const struct {
        const char *name;
        const double *value;
    } row[] = { { "hr", m->hr }, { "ndcg", m->ndcg }, { "mrr", m->mrr }, { "recall", m->hr } };
    json_t *o = json_object();
    for (int i = 0; i < 4; i++) {
        for (int c = 0; c < RANK_CUTS; c++) {
            char key[32];
            snprintf(key, sizeof key, "%s@%d", row[i].name, rank_cut[c]);
            json_object_set_new(o, key, json_real(row[i].value[c]));
        }
    }
    return o;
}

json_t *interests_json(const struct evaluation *v)
{
    if (v->K < 2) return json_null();
    json_t *share = json_array();
    for (int32_t k = 0; k < v->K; k++) json_array_append_new(share, json_real(v->share[k]));
    return json_pack("{s:o, s:f, s:f}", "share", share, "mean_cosine", v->cosine, "mean_active",
                     v->active);
}
