#include "models/evaluate.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/data/augment.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct encode_ctx {
    const struct model *m;
    struct tape *tp;
    double share[LIMIT_INTERESTS], cosine, active;
    int64_t users;
    float noise;
    const int32_t *cluster; /* [V] of each item, -1: none; NULL: not wanted */
    int32_t n_clusters;
    int64_t *joint; /* [K, n_clusters] */
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

/* Every event that the encoder read counts once, for the interest that it goes to most. */
static void count_clusters(struct encode_ctx *c, const struct encoded *enc, const int32_t *ids)
{
    if (!c->cluster || !enc->assign) return;
    int32_t K = enc->assign->cols;
    for (int32_t i = 0; i < enc->assign->rows; i++) {
        const float *p = enc->assign->x + (size_t)i * (size_t)K;
        int32_t best = 0;
        for (int32_t k = 1; k < K; k++)
            if (p[k] > p[best]) best = k;
        if (c->cluster[ids[i]] >= 0)
            c->joint[(int64_t)best * c->n_clusters + c->cluster[ids[i]]]++;
    }
}

/* The histories with noise, in the tape's arena; the same for a user whenever all users are evaluated. */
static void add_noise(const struct encode_ctx *c, const int32_t *const **hist,
                      const int32_t **len, int32_t n)
{
    struct arena *mem = tape_arena(c->tp);
    const int32_t **h = ARENA_NEW(mem, const int32_t *, n);
    int32_t *l = ARENA_NEW(mem, int32_t, n);
    for (int32_t b = 0; b < n; b++) {
        l[b] = (*len)[b];
        h[b] = augment_noise(mem, (*hist)[b], &l[b], c->noise, model_config(c->m)->n_items,
                             (uint64_t)(c->users + b));
    }
    *hist = h;
    *len = l;
}

static int encode(void *ctx, float *q, const int32_t *const *hist, const int32_t *len,
                  int32_t n, struct err *e)
{
    (void)e;
    struct encode_ctx *c = ctx;
    const struct model_cfg *cfg = model_config(c->m);
    int32_t K = model_interests(c->m), D = cfg->width, *ids;
    tape_begin(c->tp, 0, 0, false);
    if (c->noise > 0) add_noise(c, &hist, &len, n);
    struct seqpack sp = pack(c->tp, cfg, &ids, hist, len, n);
    struct encoded enc = model_encode(c->m, c->tp, &sp, ids, BETA_IN);
    memcpy(q, enc.phi->x, (size_t)n * (size_t)K * (size_t)D * sizeof *q);
    count_clusters(c, &enc, ids);
    float *share = ARENA_NEW(tape_arena(c->tp), float, (size_t)n *(size_t)K);
    model_shares(share, c->m, &enc, &sp);
    for (int32_t b = 0; b < n; b++) {
        size_t at = (size_t)b * (size_t)K;
        finish_user(c, q + at * (size_t)D, share + at, K, D);
    }
    return 0;
}

/* One value of each item's field: of several the one that was seen first in the items' file. */
static int clusters_of(struct encode_ctx *c, const struct items *it, const char *name,
                       int32_t K, struct err *e)
{
    int32_t f = items_field_find(it, name, strlen(name)), n;
    if (f < 0 || items_field_kind(it, f) != FIELD_VALUES)
        return err_set(e, ERR_NOT_FOUND, "the items have no field of values called '%s'", name);
    int32_t *cluster = xmalloc((size_t)items_count(it) * sizeof *cluster);
    for (int32_t i = 0; i < items_count(it); i++) {
        const int32_t *v = items_values(it, f, i, &n);
        cluster[i] = n > 0 ? v[0] : -1;
    }
    c->cluster = cluster;
    c->n_clusters = items_field_values(it, f);
    c->joint = xcalloc((size_t)K * (size_t)c->n_clusters + 1, sizeof *c->joint);
    return 0;
}

/* Where details are asked for: memory for ranks and lists, and what they say. */
struct details {
    int64_t *rank, *shown;
};

static struct details details_new(const struct dataset *d, bool wanted)
{
    if (!wanted) return (struct details){ 0 };
    return (struct details){ xcalloc((size_t)d->n_users, sizeof(int64_t)),
                             xcalloc((size_t)d->n_items, sizeof(int64_t)) };
}

static void details_end(struct details *x, struct evaluation *v, const struct dataset *d,
                        enum split split, bool good)
{
    v->details = x->rank != NULL;
    if (v->details && good) {
        slices_of(&v->slices, d, split, x->rank);
        v->spread = spread_of_lists(x->shown, d->n_items);
    }
    free(x->rank);
    free(x->shown);
}

int evaluate(struct evaluation *v, const struct model *m, const struct dataset *d,
             const struct evaluate_opts *o, struct par *pool, struct err *e)
{
    double start = clock_s();
    struct encode_ctx c = { .m = m, .noise = o->noise };
    *v = (struct evaluation){ .K = model_interests(m), .nmi = -1 };
    if (o->cluster && v->K < 2)
        return err_set(e, ERR_INVALID,
                       "a model of one vector has no interests to compare with '%s'",
                       o->cluster);
    if (o->cluster) TRY(clusters_of(&c, d->items, o->cluster, v->K, e));
    struct arena *mem = arena_new("evaluate", 1 << 20, 0);
    struct details x = details_new(d, o->details);
    c.tp = tape_new(mem, pool);
    struct rank_cfg cfg = {
        .split = o->split,
        .seen = o->seen,
        .K = v->K,
        .D = model_config(m)->width,
        .items = model_items(m)->t.x,
        .users = o->users,
        .progress = o->progress,
        .shown = x.shown,
    };
    int rc = rank_eval(&v->metrics, x.rank, d, &cfg, encode, &c, pool, e);
    double n = c.users > 0 ? (double)c.users : 1;
    for (int32_t k = 0; k < v->K; k++) v->share[k] = c.share[k] / n;
    v->cosine = c.cosine / n;
    v->active = c.active / n;
    if (c.joint && v->K > 1) v->nmi = nmi_of(c.joint, v->K, c.n_clusters);
    details_end(&x, v, d, o->split, rc == 0);
    v->seconds = clock_s() - start;
    free((int32_t *)(uintptr_t)c.cluster);
    free(c.joint);
    tape_free(c.tp);
    arena_free(mem);
    return rc;
}

int evaluate_baseline(struct evaluation *v, enum baseline b, const struct dataset *d,
                      const struct evaluate_opts *o, struct par *pool, struct err *e)
{
    double start = clock_s();
    struct details x = details_new(d, o->details);
    *v = (struct evaluation){ .K = 1, .nmi = -1 };
    int rc = baseline_eval(&v->metrics, x.rank, x.shown, d, b, o->split, o->seen, pool, e);
    details_end(&x, v, d, o->split, rc == 0);
    v->seconds = clock_s() - start;
    return rc;
}

struct metric_row {
    const char *name;
    size_t off; /* of its values in struct metrics */
};
static const struct metric_row metric_rows[] = { { "hr", offsetof(struct metrics, hr) },
                                                 { "ndcg", offsetof(struct metrics, ndcg) },
                                                 { "mrr", offsetof(struct metrics, mrr) },
                                                 { "recall", offsetof(struct metrics, hr) } };
enum { METRIC_ROWS = sizeof metric_rows / sizeof *metric_rows };

json_t *metrics_json(const struct metrics *m)
{
    json_t *o = json_object();
    for (int i = 0; i < METRIC_ROWS; i++) {
        const double *x = (const double *)(const void *)((const char *)m + metric_rows[i].off);
        for (int c = 0; c < RANK_CUTS; c++) {
            char key[32];
            snprintf(key, sizeof key, "%s@%d", metric_rows[i].name, rank_cut[c]);
            json_object_set_new(o, key, json_real(x[c]));
        }
    }
    return o;
}

bool metrics_from_json(struct metrics *m, const json_t *o)
{
    *m = (struct metrics){ 0 };
    for (int i = 0; i < METRIC_ROWS; i++) {
        double *x = (double *)(void *)((char *)m + metric_rows[i].off);
        for (int c = 0; c < RANK_CUTS; c++) {
            char key[32];
            snprintf(key, sizeof key, "%s@%d", metric_rows[i].name, rank_cut[c]);
            if (!json_is_number(json_object_get(o, key))) return false;
            x[c] = json_number_value(json_object_get(o, key));
        }
    }
    return true;
}

json_t *interests_json(const struct evaluation *v)
{
    if (v->K < 2) return json_null();
    json_t *share = json_array();
    for (int32_t k = 0; k < v->K; k++) json_array_append_new(share, json_real(v->share[k]));
    return json_pack("{s:o, s:f, s:f}", "share", share, "mean_cosine", v->cosine, "mean_active",
                     v->active);
}

json_t *slices_json(const struct evaluation *v)
{
    json_t *o = json_object();
    for (int i = 0; i < SLICES; i++) {
        json_t *m = metrics_json(&v->slices.m[i]);
        json_object_set_new(m, "users", json_integer((json_int_t)v->slices.m[i].n));
        if (i <= SLICE_TAIL) json_object_set_new(m, "items", json_integer(v->slices.items[i]));
        json_object_set_new(o, slice_name[i], m);
    }
    return o;
}

json_t *spread_json(const struct evaluation *v)
{
    char cover[32], gini[32];
    snprintf(cover, sizeof cover, "coverage@%d", SHOWN_DEPTH);
    snprintf(gini, sizeof gini, "gini@%d", SHOWN_DEPTH);
    return json_pack("{s:f, s:f}", cover, v->spread.coverage, gini, v->spread.gini);
}

void evaluation_print(const struct evaluation *v, FILE *f)
{
    if (v->K > 1) {
        fprintf(f, "interests: share of importance");
        for (int32_t k = 0; k < v->K; k++) fprintf(f, " %.3f", v->share[k]);
        fprintf(f, "; mean pairwise cosine %.3f; %.2f active of %d\n", v->cosine, v->active,
                v->K);
    }
    if (v->nmi >= 0) fprintf(f, "interests and clusters: NMI %.4f\n", v->nmi);
    if (!v->details) return;
    fprintf(f, "\n%-16s %8s %8s %8s %8s %8s %8s\n", "slice", "users", "HR@10", "HR@20",
            "NDCG@20", "HR@50", "HR@100");
    for (int i = 0; i < SLICES; i++) {
        const struct metrics *m = &v->slices.m[i];
        if (m->n == 0) continue;
        fprintf(f, "%-16s %8lld %8.4f %8.4f %8.4f %8.4f %8.4f", slice_name[i], (long long)m->n,
                m->hr[1], m->hr[2], m->ndcg[2], m->hr[3], m->hr[4]);
        if (i <= SLICE_TAIL) fprintf(f, "   answers among %d items", v->slices.items[i]);
        fputc('\n', f);
    }
    fprintf(f, "lists of %d: cover %.1f %% of the items, Gini %.3f\n", SHOWN_DEPTH,
            100 * v->spread.coverage, v->spread.gini);
}
