/* rank_data.c — impressions as batches, their scores, and how good those are. */
#include "core/base/mem.h"
#include "core/eval/auc.h"
#include "models/rank_train.h"
#include <math.h>
#include <string.h>

/* Bags of the chosen rows, packed. */
static struct ranker_column bags(const struct clicks_column *x, const int32_t *row, int32_t n,
                                 struct arena *mem)
{
    int32_t *cu = ARENA_NEW(mem, int32_t, n + 1);
    cu[0] = 0;
    for (int32_t i = 0; i < n; i++) cu[i + 1] = cu[i] + x->cu[row[i] + 1] - x->cu[row[i]];
    int32_t *id = ARENA_NEW(mem, int32_t, cu[n] + 1);
    for (int32_t i = 0; i < n; i++)
        memcpy(id + cu[i], x->id + x->cu[row[i]], (size_t)(cu[i + 1] - cu[i]) * sizeof *id);
    return (struct ranker_column){ id, cu };
}

static struct ranker_column column(const struct clicks_column *x, const int32_t *row, int32_t n,
                                   struct arena *mem)
{
    if (x->cu) return bags(x, row, n, mem);
    int32_t *id = ARENA_NEW(mem, int32_t, n);
    for (int32_t i = 0; i < n; i++) id[i] = x->id[row[i]];
    return (struct ranker_column){ id, NULL };
}

static void sequences(struct ranker_batch *b, const struct schema *s, const struct clicks *c,
                      const int32_t *row, int32_t n, struct arena *mem)
{
    int32_t *cu = ARENA_NEW(mem, int32_t, n + 1), longest = 0;
    cu[0] = 0;
    for (int32_t i = 0; i < n; i++) {
        const int32_t len = c->seq_cu[row[i] + 1] - c->seq_cu[row[i]];
        cu[i + 1] = cu[i] + len;
        longest = len > longest ? len : longest;
    }
    int32_t *pos = ARENA_NEW(mem, int32_t, cu[n] + 1), steps = s->n_members[SCHEMA_SEQUENCE];
    const int32_t **step = ARENA_NEW(mem, const int32_t *, steps + 1);
    seqpack_positions(pos, cu, n, longest, POS_FIRST);
    for (int32_t k = 0; k < steps; k++) {
        const int32_t *from = c->step[s->member[SCHEMA_SEQUENCE][k]].id;
        int32_t *id = ARENA_NEW(mem, int32_t, cu[n] + 1);
        for (int32_t i = 0; i < n; i++)
            if (cu[i + 1] > cu[i])
                memcpy(id + cu[i], from + c->seq_cu[row[i]],
                       (size_t)(cu[i + 1] - cu[i]) * sizeof *id);
        step[k] = id;
    }
    b->seq = (struct seqpack){ .B = n, .N = cu[n], .cu = cu, .pos = pos };
    b->step = step;
}

struct ranker_batch rank_batch(const struct schema *s, const struct clicks *c,
                               const int32_t *row, int32_t n, struct arena *mem)
{
    int32_t feature[LIMIT_FEATURES], k = rank_inputs(s, feature);
    struct ranker_column *input = ARENA_NEW(mem, struct ranker_column, k);
    struct ranker_batch b = { .B = n, .input = input };
    for (int32_t i = 0; i < k; i++) input[i] = column(&c->column[feature[i]], row, n, mem);
    sequences(&b, s, c, row, n, mem);
    return b;
}

void rank_scores(float *score, const struct ranker *m, const struct schema *s,
                 const struct clicks *c, int32_t from, int32_t to, struct par *pool)
{
    enum { BATCH = 2048 };
    struct arena *mem = arena_new("rank scores", 1 << 20, 0);
    struct tape *tp = tape_new(mem, pool);
    int32_t row[BATCH];
    for (int32_t at = from; at < to; at += BATCH) {
        const int32_t n = to - at < BATCH ? to - at : BATCH;
        for (int32_t i = 0; i < n; i++) row[i] = at + i;
        tape_begin(tp, 0, 0, false);
        struct ranker_batch b = rank_batch(s, c, row, n, mem);
        const float *x = ranker_forward(m, tp, &b).logit->x;
        for (int32_t i = 0; i < n; i++) score[at - from + i] = 1 / (1 + expf(-x[i]));
    }
    tape_free(tp);
    arena_free(mem);
}

struct rank_metrics rank_measure(const float *score, const struct clicks *c, int32_t from,
                                 int32_t to)
{
    struct rank_metrics m = { .n = to - from };
    const float *label = c->label + from;
    m.auc = auc(score, label, m.n);
    m.gauc = auc_grouped(score, label, c->user + from, m.n);
    m.log_loss = log_loss(score, label, m.n);
    for (int32_t i = 0; i < to - from; i++) m.clicks += (double)label[i] / (double)m.n;
    return m;
}

/* JSON has no NaN: an AUC of one class is left out. */
json_t *rank_metrics_json(const struct rank_metrics *m)
{
    json_t *o = json_object();
    const struct {
        const char *name;
        double x;
    } all[] = { { "auc", m->auc },
                { "gauc", m->gauc },
                { "log_loss", m->log_loss },
                { "clicks", m->clicks } };
    json_object_set_new(o, "impressions", json_integer(m->n));
    for (int i = 0; i < 4; i++)
        if (isfinite(all[i].x)) json_object_set_new(o, all[i].name, json_real(all[i].x));
    return o;
}
