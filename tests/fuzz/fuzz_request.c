/* Request bodies, and the problem reply that what is wrong with them turns into.  The first byte says what the others
 * are: bits of enum mode, none of them: a body of /v1/recommend. */
#include "core/base/err.h"
#include "core/base/limits.h"
#include "server/header.h"
#include "server/problem.h"
#include "server/req.h"
#include "server/when.h"
#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum mode {
    ENCODE = 1,
    LOOSE = 2, /* not strict */
    TEXT = 4,  /* header values and a date instead of a body */
    RANK = 8,
    SEARCH = 16,
    SIMILAR = 32,
    BATCH = 64
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

static void check_ids(const struct str *s, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        REQUIRE(s[i].len > 0 && s[i].len <= LIMIT_ID_BYTES, "id of %d bytes", s[i].len);
        REQUIRE(!memchr(s[i].p, '\0', (size_t)s[i].len), "NUL in an id");
    }
}

/* Every byte is there. */
static void buf_check(struct str s)
{
    struct buf b = { 0 };
    buf_put(&b, s.p, (size_t)s.len);
    buf_free(&b);
}

static int32_t check_clauses(const struct filter_clause *c, int32_t n)
{
    REQUIRE(n >= 0 && n <= LIMIT_FILTER_CLAUSES, "%d clauses", n);
    for (int32_t i = 0; i < n; i++) {
        check_ids(&c[i].key, 1);
        REQUIRE(c[i].n_values >= 0 && c[i].n_values <= LIMIT_FILTER_VALUES, "%d values",
                c[i].n_values);
        for (int32_t j = 0; j < c[i].n_values; j++) {
            check_ids(&c[i].value[j].text, 1);
            REQUIRE(!isinf(c[i].value[j].number), "value %d", j);
        }
    }
    return n;
}

/* An item that has nothing passes when no clause asks for something. */
static void check_filter(const struct filter *f)
{
    int32_t asks = check_clauses(f->must, f->n_must), ask_not = 0;
    for (int32_t i = 0; i < f->n_must; i++)
        asks -= f->must[i].op == FILTER_EXISTS && !f->must[i].exists;
    check_clauses(f->must_not, f->n_must_not);
    for (int32_t i = 0; i < f->n_must_not; i++)
        ask_not += f->must_not[i].op == FILTER_EXISTS && !f->must_not[i].exists;
    bool passes = filter_match(f, &(struct attrs){ 0 });
    REQUIRE(passes == (asks == 0 && ask_not == 0), "%d clauses", f->n_must);
}

static void check_vectors(const struct req_recommend *r)
{
    const int32_t n = r->rec.n_vectors;
    REQUIRE(n >= 1 && n <= LIMIT_INTERESTS, "%d vectors", n);
    REQUIRE(r->n_floats % n == 0 && r->n_floats / n >= 1 && r->n_floats / n <= LIMIT_WIDTH,
            "%d numbers", r->n_floats);
    for (int32_t i = 0; i < r->n_floats; i++)
        REQUIRE(isfinite(r->rec.vectors[i]), "number %d", i);
}

static void check_request(const struct req_recommend *r)
{
    const struct rec_request *q = &r->rec;
    REQUIRE(q->limit >= 1 && q->limit <= LIMIT_RESULTS, "limit %d", q->limit);
    REQUIRE(q->interests >= 0 && q->interests <= LIMIT_INTERESTS, "interests %d", q->interests);
    REQUIRE(q->candidates >= 0 && q->candidates <= LIMIT_CANDIDATES, "candidates %d",
            q->candidates);
    REQUIRE(q->n_history >= 0 && q->n_history <= LIMIT_HISTORY_PARSED, "history %d",
            q->n_history);
    REQUIRE(q->n_exclude >= 0 && q->n_exclude <= LIMIT_EXCLUDE, "exclude %d", q->n_exclude);
    REQUIRE(q->strength >= 0 && q->strength <= 1, "strength %g", (double)q->strength);
    REQUIRE(q->rrf_k >= 0 && isfinite(q->rrf_k), "k %g", (double)q->rrf_k);
    REQUIRE(q->min_per_interest >= 0 && q->min_per_interest <= LIMIT_RESULTS, "least %d",
            q->min_per_interest);
    REQUIRE(q->ef >= 0 && q->ef <= LIMIT_EF && q->nprobe >= 0 && q->nprobe <= LIMIT_EF,
            "ef %d, nprobe %d", q->ef, q->nprobe);
    REQUIRE(q->n_weights >= 0 && q->n_weights <= LIMIT_INTERESTS, "%d weights", q->n_weights);
    for (int32_t i = 0; i < q->n_weights; i++)
        REQUIRE(q->weights[i] >= 0 && isfinite(q->weights[i]), "weight %d", i);
    if (q->source == REC_VECTORS) check_vectors(r);
    if (q->source == REC_ITEMS)
        REQUIRE(q->n_history >= 1 && q->n_history <= LIMIT_INTERESTS, "%d items", q->n_history);
    check_ids(q->history, q->n_history);
    check_ids(q->exclude, q->n_exclude);
    check_ids(q->lists, q->n_lists);
    if (q->diversity_field.len) check_ids(&q->diversity_field, 1);
    if (q->filter) check_filter(q->filter);
    if (r->model.p) check_ids(&r->model, 1);
    if (r->user_id.p) check_ids(&r->user_id, 1);
}

static void check_rank(const struct req_recommend *r)
{
    REQUIRE(r->rank.n_candidates >= 1 && r->rank.n_candidates <= LIMIT_RANK, "%d candidates",
            r->rank.n_candidates);
    REQUIRE(r->rank.n_values >= 0 && r->rank.n_values <= LIMIT_FEATURES, "%d values",
            r->rank.n_values);
    check_ids(r->rank.candidate, r->rank.n_candidates);
    check_ids(r->rec.history, r->rec.n_history);
    for (int32_t i = 0; i < r->rank.n_values; i++) {
        const struct score_value *v = &r->rank.value[i];
        REQUIRE(v->name.len >= 0 && v->text.len >= 0, "value %d", i);
        buf_check(v->name);
        buf_check(v->text);
    }
}

/* Whatever was wrong, the reply must be JSON. */
static void check_problem(const struct faults *f, const char *instance)
{
    struct buf b = { .cap_max = LIMIT_REPLY_BYTES };
    json_error_t e;
    problem_write(&b, &(struct problem){ .code = f->n ? f->at[0].code : ERR_NOT_FOUND,
                                         .detail = f->n ? f->at[0].detail : instance,
                                         .instance = instance,
                                         .request_id = "fuzz",
                                         .faults = f });
    json_t *j = json_loadb(b.data, b.len, JSON_REJECT_DUPLICATES, &e);
    REQUIRE(j, "problem is not JSON: %s: %s", e.text, b.data);
    json_decref(j);
    buf_free(&b);
}

static void try_text(const char *text, size_t n)
{
    struct faults none = { 0 };
    int64_t ms;
    (void)header_is_json(text);
    (void)header_accepts_json(text);
    if (header_good_id(text)) REQUIRE(n >= 1 && n <= LIMIT_REQUEST_ID, "id of %zu bytes", n);
    const int timeout = header_timeout_ms(text);
    REQUIRE(timeout >= -1 && timeout <= 3600000, "%d ms", timeout);
    (void)when_rfc3339(&ms, text, n);
    check_problem(&none, text);
}

static void try_batch(const char *body, size_t nb, bool strict, struct arena *a)
{
    struct faults f = { 0 };
    struct req_recommend *r;
    struct str model;
    int32_t n;
    int rc = req_parse_batch(&r, &n, &model, body, nb, strict, a, &f);
    REQUIRE((rc == 0) == (f.n == 0), "code %d with %d faults", rc, f.n);
    if (rc < 0) {
        check_problem(&f, "/v1/recommend/batch");
        return;
    }
    REQUIRE(n >= 1 && n <= LIMIT_BATCH_ROWS, "%d requests", n);
    if (model.p) check_ids(&model, 1);
    for (int32_t i = 0; i < n; i++) check_request(&r[i]);
}

static void try_request(unsigned mode, const char *body, size_t nb, struct arena *a)
{
    const bool strict = !(mode & LOOSE);
    struct faults f = { 0 };
    struct req_recommend r;
    int rc = mode & RANK      ? req_parse_rank(&r, body, nb, strict, a, &f)
             : mode & SEARCH  ? req_parse_search(&r, body, nb, strict, a, &f)
             : mode & SIMILAR ? req_parse_similar(&r, body, nb, strict, a, &f)
             : mode & ENCODE  ? req_parse_encode(&r, body, nb, strict, a, &f)
                              : req_parse_recommend(&r, body, nb, strict, a, &f);
    REQUIRE((rc == 0) == (f.n == 0), "code %d with %d faults", rc, f.n);
    if (rc < 0)
        check_problem(&f, "/v1/recommend");
    else if (mode & RANK)
        check_rank(&r);
    else
        check_request(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    if (nb == 0) return 0;
    const unsigned mode = *data++;
    const char *body = (const char *)data;
    nb--;
    if (mode & TEXT) {
        char *text = malloc(nb + 1);
        if (!text) return 0;
        memcpy(text, data, nb);
        text[nb] = '\0';
        try_text(text, strlen(text));
        free(text);
        return 0;
    }
    struct arena *a = arena_new("fuzz", 4096, 1 << 20);
    if (mode & BATCH)
        try_batch(body, nb, !(mode & LOOSE), a);
    else
        try_request(mode, body, nb, a);
    arena_free(a);
    return 0;
}
