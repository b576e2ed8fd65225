#include "core/serve/score.h"
#include "core/base/clock.h"
#include "core/data/text.h"
#include "core/serve/rank_model.h"
#include "core/serve/reply.h"
#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { DIGITS = 9 };

struct scoring {
    const struct rank_model *m;
    const struct score_request *r;
    struct arena *mem;
    struct score_answer *a;
    const struct score_value *given[LIMIT_FEATURES]; /* by feature */
    const int32_t *item; /* [n_candidates] rows of the catalogue, -1: unknown */
    struct err *e;
};

/* ---- what the request gives ---- */

static int check_number(const struct scoring *s, int32_t f, const struct score_value *v)
{
    double x;
    const struct span text = text_trim((struct span){ v->text.p, (size_t)v->text.len });
    if (s->m->schema.f[f]->kind != FEATURE_NUMBER || text.n == 0 || text_number(text, &x))
        return 0;
    return err_set(s->e, ERR_INVALID, "user: %s is a number, not \"%.*s\"",
                   s->m->schema.f[f]->name, text.n < 40 ? (int)text.n : 40, text.p);
}

static int take_value(struct scoring *s, const struct score_value *v)
{
    const struct schema *schema = &s->m->schema;
    int32_t f = schema_find(schema, v->name.p, (size_t)v->name.len);
    int g = f >= 0 ? schema_group_of(schema, f) : -1;
    if (g >= 0 && (g != SCHEMA_ITEM || schema->f[f]->context)) {
        TRY(check_number(s, f, v));
        s->given[f] = v;
        return 0;
    }
    if (!s->r->strict) return 0;
    if (g == SCHEMA_ITEM)
        return err_set(s->e, ERR_UNKNOWN_FIELD,
                       "user: \"%s\" is a feature of items, which the catalogue has",
                       schema->f[f]->name);
    return err_set(s->e, ERR_UNKNOWN_FIELD, "user: the model has no feature \"%.*s\"",
                   v->name.len < 60 ? v->name.len : 60, v->name.p);
}

/* ---- columns ---- */

static int32_t cell(const struct scoring *s, int32_t f, int32_t *row, int32_t most)
{
    const struct score_value *v = s->given[f];
    if (v) return schema_cell(&s->m->schema, f, v->text.p, (size_t)v->text.len, row, most);
    row[0] = 0;
    return s->m->schema.f[f]->kind == FEATURE_TAGS ? 0 : 1;
}

/* The same for every candidate. */
static struct ranker_column given_column(const struct scoring *s, int32_t f)
{
    const int32_t n = s->r->n_candidates;
    int32_t *row = ARENA_NEW(s->mem, int32_t, LIMIT_TAGS), k = cell(s, f, row, LIMIT_TAGS);
    int32_t *id = ARENA_NEW(s->mem, int32_t, (size_t)n * (size_t)(k ? k : 1)), *cu = NULL;
    for (int32_t i = 0; i < n; i++)
        for (int32_t j = 0; j < k; j++) id[i * k + j] = row[j];
    if (s->m->schema.f[f]->kind == FEATURE_TAGS) {
        cu = ARENA_NEW(s->mem, int32_t, n + 1);
        for (int32_t i = 0; i <= n; i++) cu[i] = i * k;
    }
    return (struct ranker_column){ id, cu };
}

static struct ranker_column tags_column(const struct scoring *s, int32_t f)
{
    const int32_t n = s->r->n_candidates, *from = s->m->cu[f];
    int32_t *cu = ARENA_NEW(s->mem, int32_t, n + 1);
    cu[0] = 0;
    for (int32_t i = 0; i < n; i++)
        cu[i + 1] = cu[i] + (s->item[i] < 0 ? 0 : from[s->item[i] + 1] - from[s->item[i]]);
    int32_t *id = ARENA_NEW(s->mem, int32_t, cu[n] + 1);
    for (int32_t i = 0; i < n; i++)
        if (cu[i + 1] > cu[i])
            memcpy(id + cu[i], s->m->row[f] + from[s->item[i]],
                   (size_t)(cu[i + 1] - cu[i]) * sizeof *id);
    return (struct ranker_column){ id, cu };
}

static struct ranker_column item_column(const struct scoring *s, int32_t f)
{
    if (s->m->cu[f]) return tags_column(s, f);
    const int32_t n = s->r->n_candidates;
    int32_t *id = ARENA_NEW(s->mem, int32_t, n);
    for (int32_t i = 0; i < n; i++) {
        const struct str *c = &s->r->candidate[i];
        id[i] = s->item[i] >= 0         ? s->m->row[f][s->item[i]]
                : f == s->m->id_feature ? schema_row(&s->m->schema, f, c->p, (size_t)c->len)
                                        : 0;
    }
    return (struct ranker_column){ id, NULL };
}

/* ---- the sequence ---- */

static bool sequence_given(const struct scoring *s)
{
    const struct schema *x = &s->m->schema;
    for (int32_t k = 0; k < x->n_members[SCHEMA_SEQUENCE]; k++)
        if (s->given[x->member[SCHEMA_SEQUENCE][k]]) return true;
    return false;
}

/* Steps as the request spells them: each feature of the sequence [most] rows, all of one length. */
static int given_steps(struct scoring *s, int32_t **step, int32_t most, int32_t *len)
{
    const struct schema *x = &s->m->schema;
    for (int32_t k = 0; k < x->n_members[SCHEMA_SEQUENCE]; k++) {
        const int32_t f = x->member[SCHEMA_SEQUENCE][k];
        const struct score_value *v = s->given[f];
        int32_t n = v ? schema_cell(x, f, v->text.p, (size_t)v->text.len, step[k], most) : 0;
        if (k > 0 && n != *len)
            return err_set(s->e, ERR_INVALID, "user: %s has another length than %s",
                           x->f[f]->name, x->f[x->member[SCHEMA_SEQUENCE][0]]->name);
        *len = n;
    }
    return 0;
}

/* The newest known items of the history, and their features. */
static int history_steps(struct scoring *s, int32_t **step, int32_t most, int32_t *len)
{
    const struct schema *x = &s->m->schema;
    const struct score_request *r = s->r;
    if (r->n_history > 0 && s->m->no_history >= 0)
        return err_set(
            s->e, ERR_INVALID,
            "history: this model's sequence has %s, which is no feature of items; give it "
            "in \"user\"",
            x->f[s->m->no_history]->name);
    int32_t *item = ARENA_NEW(s->mem, int32_t, r->n_history + 1), n = 0;
    const int32_t skip = r->n_history > LIMIT_HISTORY ? r->n_history - LIMIT_HISTORY : 0;
    for (int32_t i = skip; i < r->n_history; i++) {
        item[n] = items_find(s->m->items, r->history[i].p, (size_t)r->history[i].len);
        if (item[n] >= 0)
            n++;
        else
            s->a->missing++;
    }
    *len = n < most ? n : most;
    s->a->used = *len;
    s->a->truncated = skip + n - *len;
    for (int32_t k = 0; k < x->n_members[SCHEMA_SEQUENCE]; k++) {
        const int32_t *row = s->m->row[x->f[x->member[SCHEMA_SEQUENCE][k]]->table];
        for (int32_t i = 0; i < *len; i++) step[k][i] = row[item[n - *len + i]];
    }
    return 0;
}

static int sequence(struct scoring *s, struct ranker_batch *b)
{
    const struct schema *x = &s->m->schema;
    const int32_t most = ranker_config(s->m->ranker)->max_len,
                  n = x->n_members[SCHEMA_SEQUENCE];
    int32_t **step = ARENA_NEW(s->mem, int32_t *, n + 1), len = 0;
    int32_t *cu = ARENA_NEW(s->mem, int32_t, 2), *pos = ARENA_NEW(s->mem, int32_t, most);
    for (int32_t k = 0; k < n; k++) step[k] = ARENA_NEW(s->mem, int32_t, most);
    const bool given = sequence_given(s);
    if (given && s->r->n_history > 0)
        return err_set(s->e, ERR_INVALID,
                       "history: \"user\" has the sequence itself; leave one out");
    TRY(given ? given_steps(s, step, most, &len) : history_steps(s, step, most, &len));
    cu[0] = 0;
    cu[1] = len;
    seqpack_positions(pos, cu, 1, most, POS_FIRST);
    b->seq = (struct seqpack){ .B = 1, .N = len, .cu = cu, .pos = pos };
    b->step = (const int32_t *const *)step;
    b->seq_of = ARENA_NEW0(s->mem, int32_t, s->r->n_candidates);
    return 0;
}

/* ---- scores ---- */

static void find_candidates(struct scoring *s)
{
    const int32_t n = s->r->n_candidates;
    int32_t *item = ARENA_NEW(s->mem, int32_t, n), *unknown = ARENA_NEW(s->mem, int32_t, n);
    for (int32_t i = 0; i < n; i++) {
        const struct str *c = &s->r->candidate[i];
        item[i] = items_find(s->m->items, c->p, (size_t)c->len);
        if (item[i] < 0) unknown[s->a->n_unknown++] = i;
    }
    s->item = item;
    s->a->unknown = unknown;
}

static int finish(struct scoring *s, const float *logit)
{
    const int32_t n = s->r->n_candidates;
    float *score = ARENA_NEW(s->mem, float, n);
    for (int32_t i = 0; i < n; i++) {
        score[i] = 1 / (1 + expf(-logit[i]));
        if (!isfinite(score[i]))
            return err_set(s->e, ERR_INTERNAL, "the model computed a score that is not finite");
    }
    s->a->score = score;
    s->a->n = n;
    return 0;
}

int score_candidates(struct score_answer *a, struct tape *tp, const struct gen *g,
                     const struct score_request *r, struct err *e)
{
    const uint64_t start = clock_ns();
    *a = (struct score_answer){ .received = r->n_history };
    if (gen_info(g)->kind != GEN_RANK)
        return err_set(e, ERR_INVALID, "model \"%s\" retrieves candidates: use /v1/recommend",
                       gen_info(g)->name);
    REQUIRE(r->n_candidates >= 1 && r->n_candidates <= LIMIT_RANK, "%d candidates",
            r->n_candidates);
    tape_begin(tp, 0, 0, false);
    struct scoring s = { .m = gen_rank(g), .r = r, .mem = tape_arena(tp), .a = a, .e = e };
    int32_t feature[LIMIT_FEATURES], n = rank_inputs(&s.m->schema, feature);
    struct ranker_column *input = ARENA_NEW(s.mem, struct ranker_column, n);
    struct ranker_batch b = { .B = r->n_candidates, .input = input };
    for (int32_t i = 0; i < r->n_values; i++) TRY(take_value(&s, &r->value[i]));
    find_candidates(&s);
    for (int32_t i = 0; i < n; i++)
        input[i] =
            s.m->row[feature[i]] ? item_column(&s, feature[i]) : given_column(&s, feature[i]);
    TRY(sequence(&s, &b));
    TRY(finish(&s, ranker_forward(s.m->ranker, tp, &b).logit->x));
    a->rank_ms = (double)(clock_ns() - start) * 1e-6;
    return 0;
}

/* ---- the answer ---- */

void score_reply(struct buf *b, const struct score_answer *a, const struct gen *g,
                 const struct score_request *r, double took_ms)
{
    const struct gen_info *info = gen_info(g);
    buf_puts(b, "{\"model\":{\"name\":");
    buf_json_str(b, info->name, strlen(info->name));
    buf_printf(b, ",\"version\":\"%" PRId64 "\",\"items\":%d},\"scores\":[", info->version,
               info->n_items);
    for (int32_t i = 0; i < a->n; i++) {
        if (i) buf_putc(b, ',');
        reply_num(b, (double)a->score[i], DIGITS);
    }
    buf_puts(b, "],\"unknown\":[");
    for (int32_t i = 0; i < a->n_unknown; i++) {
        const struct str *c = &r->candidate[a->unknown[i]];
        if (i) buf_putc(b, ',');
        buf_json_str(b, c->p, (size_t)c->len);
    }
    buf_printf(b, "],\"history\":{\"received\":%d,\"used\":%d,\"unknown\":%d,\"truncated\":%d}",
               a->received, a->used, a->missing, a->truncated);
    if (took_ms >= 0) {
        buf_puts(b, ",\"took_ms\":");
        reply_num(b, took_ms, 4);
    }
    buf_putc(b, '}');
}
