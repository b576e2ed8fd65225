/* The whole answer against a slow and obvious one: every item scored, sorted, filtered one by one, merged and chosen by
 * the definitions of recommend.h, merge.h and pick.h. */
#include "core/base/mem.h"
#include "core/num/num.h"
#include "core/serve/recommend.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_V = 400, MOST_K = 8, MOST_IDS = 40, CHANGES = 80 };

static char *dir;
static struct gen *gen;
static struct corpus corpus;
static struct rec_worker *worker, *other;
static struct arena *mem;
static struct lives *lives;

static void setup(void)
{
    num_init();
    dir = fixture_tmpdir();
    worker = rec_worker_new();
    other = rec_worker_new();
    mem = arena_new("answer", 1 << 16, 0);
    gen = NULL;
    lives = NULL;
}

static void teardown(void)
{
    live_drop((struct live_view *)(uintptr_t)corpus.live);
    lives_close(lives);
    gen_unref(gen);
    rec_worker_free(worker);
    rec_worker_free(other);
    arena_free(mem);
    fixture_rmdir(dir);
    free(dir);
}

static void open_world(const struct fixture *fx)
{
    struct err e = { 0 };
    char *path = xasprintf("%s/%s", dir, fx->name);
    fixture_bundle(fx, dir);
    ck_assert_msg(gen_open(&gen, path, &e) == 0, "%s", e.msg);
    corpus = (struct corpus){ .gen = gen };
    free(path);
}

/* ---- what changes ---- */

static struct str text_of(const char *s) { return (struct str){ s, (int32_t)strlen(s) }; }

/* Deletes, replaces and adds items, and makes a blocklist, in a store of its own. */
static void change_items(struct rng *rng)
{
    const int32_t D = gen_info(gen)->D, V = gen_info(gen)->n_items;
    struct err e = { 0 };
    char *store = xasprintf("%s/store", dir);
    ck_assert_msg(lives_open(&lives, store, &e) == 0, "%s", e.msg);
    ck_assert_msg(lives_add(lives, gen, &e) == 0, "%s", e.msg);
    struct live *l = lives_find(lives, gen_info(gen)->name, strlen(gen_info(gen)->name));
    struct str listed[10];
    char name[10][12];
    for (int32_t i = 0; i < CHANGES; i++) {
        char id[16], category[8];
        float *v = ARENA_NEW(mem, float, D);
        const struct str value = text_of(category);
        const struct attr attr[2] = {
            { .name = text_of("category"), .value = &value, .n_values = 1 },
            { .name = text_of("price"), .number = rng_below(rng, 20) }
        };
        snprintf(id, sizeof id, "i%u", rng_below(rng, (uint32_t)V + 30));
        snprintf(category, sizeof category, "c%u", rng_below(rng, 9)); /* two of them are new */
        for (int32_t d = 0; d < D; d++)
            v[d] = rng_normal(rng) *
                   corpus_vector(&corpus, (int32_t)rng_below(rng, (uint32_t)V))[d];
        struct item_change c = { .id = text_of(id),
                                 .attrs = { attr, (int32_t)rng_below(rng, 3) } };
        if (rng_below(rng, 3) == 0)
            c.deleted = true;
        else
            c.vector = v, c.dim = D, c.has_attrs = true;
        ck_assert_msg(live_write(lives, l, &c, 1, NULL, &e) == 0, "%s", e.msg);
    }
    for (int i = 0; i < 10; i++) {
        snprintf(name[i], sizeof name[i], "i%u", rng_below(rng, (uint32_t)V + 30));
        listed[i] = text_of(name[i]);
    }
    const struct blocklist b = {
        .name = text_of("sold"), .id = listed, .n = 10, .expires_ms = INT64_MAX
    };
    ck_assert_msg(live_put_list(lives, &b, &e) == 0, "%s", e.msg);
    corpus.live = live_take(l);
    free(store);
}

/* ---- the obvious answer ---- */

struct obvious {
    struct rec_answer v; /* vectors and shares */
    bool allowed[MOST_V];
    int32_t active[MOST_K], n_active;
    int32_t list[MOST_K][MOST_V], n_list[MOST_K];
    float product[MOST_K][MOST_V]; /* by active interest and row */
    struct cand c[MOST_V];
    int32_t n;
};

static bool is_one_of(int32_t row, const struct str *ids, int32_t n)
{
    const struct str id = corpus_id(&corpus, row);
    for (int32_t i = 0; i < n; i++)
        if (ids[i].len == id.len && memcmp(ids[i].p, id.p, (size_t)id.len) == 0) return true;
    return false;
}

static int32_t n_rows(void)
{
    return gen_info(gen)->n_items + (corpus.live ? corpus.live->n : 0);
}

static bool is_alive(int32_t row)
{
    const struct live_view *v = corpus.live;
    const int32_t i = row - gen_info(gen)->n_items;
    if (!v) return true;
    return i < 0 ? !live_dead(v, row) : v->alive[i >> 6] >> (i & 63) & 1;
}

static struct attrs attrs_of(int32_t row)
{
    const int32_t V = gen_info(gen)->n_items;
    return row < V ? attrs_of_item(gen_items(gen), row, mem)
                   : *live_attrs(corpus.live, row - V);
}

static bool passes(const struct filter *f, int32_t row)
{
    const struct attrs item = attrs_of(row);
    return !f || filter_match(f, &item);
}

static bool may_return(const struct rec_request *r, const struct filter *f, int32_t row)
{
    if (!is_alive(row)) return false;
    for (int32_t i = 0; corpus.live && i < r->n_lists; i++) {
        const struct live_list *l =
            live_list(corpus.live, r->lists[i].p, (size_t)r->lists[i].len);
        if (l && is_one_of(row, l->id, l->n_ids)) return false;
    }
    if (r->exclude_seen && is_one_of(row, r->history, r->n_history)) return false;
    if (is_one_of(row, r->exclude, r->n_exclude)) return false;
    return passes(f, row);
}

static const float *sort_by;
static int by_product(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sort_by[x] != sort_by[y]) return sort_by[x] > sort_by[y] ? -1 : 1;
    return x - y;
}

static int by_score(const void *a, const void *b)
{
    const struct cand *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->row - y->row;
}

static void make_lists(struct obvious *o, const struct rec_request *r)
{
    const int32_t V = n_rows(), D = gen_info(gen)->D;
    int32_t depth = r->candidates ? r->candidates : 100;
    if (depth < r->limit) depth = r->limit;
    for (int32_t k = 0; k < o->v.n_interests; k++)
        if (o->v.interest[k].active) o->active[o->n_active++] = k;
    for (int32_t a = 0; a < o->n_active; a++) {
        int32_t n = 0;
        for (int32_t row = 0; row < V; row++) {
            o->product[a][row] = num->vec->dot(o->v.phi + (size_t)o->active[a] * (size_t)D,
                                               corpus_vector(&corpus, row), D);
            if (o->allowed[row]) o->list[a][n++] = row;
        }
        sort_by = o->product[a];
        qsort(o->list[a], (size_t)n, sizeof(int32_t), by_product);
        o->n_list[a] = n < depth ? n : depth;
    }
}

static int32_t place(const struct obvious *o, int32_t a, int32_t row) /* from 1; 0: not in it */
{
    for (int32_t i = 0; i < o->n_list[a]; i++)
        if (o->list[a][i] == row) return i + 1;
    return 0;
}

static void merge_by_score(struct obvious *o, const struct rec_request *r)
{
    for (int32_t row = 0; row < n_rows(); row++) {
        struct cand c = { .row = row };
        bool found = false;
        float most = -INFINITY, sum = 0;
        for (int32_t a = 0; a < o->n_active; a++) {
            const int32_t at = place(o, a, row);
            const float w = r->n_weights ? r->weights[o->active[a]] : 1;
            const float term = r->merge == MERGE_RRF
                                   ? at ? w / ((r->rrf_k > 0 ? r->rrf_k : 60) + (float)at) : 0
                                   : o->product[a][row];
            found |= at > 0;
            sum = a == 0 ? term : sum + term;
            if (r->merge == MERGE_RRF && !at) continue;
            if (term > most) {
                most = term;
                c.best = a;
            }
        }
        c.score = r->merge == MERGE_MAX || r->merge == MERGE_QUOTA ? most : sum;
        if (found) o->c[o->n++] = c;
    }
    qsort(o->c, (size_t)o->n, sizeof o->c[0], by_score);
}

static void merge_by_turn(struct obvious *o)
{
    bool taken[MOST_V] = { false };
    int32_t order[MOST_K], at[MOST_K] = { 0 };
    for (int32_t a = 0; a < o->n_active; a++) order[a] = a;
    for (int32_t i = 0; i < o->n_active; i++) /* by share, the first on ties */
        for (int32_t j = o->n_active - 1; j > i; j--)
            if (o->v.interest[o->active[order[j]]].share >
                o->v.interest[o->active[order[j - 1]]].share) {
                int32_t t = order[j];
                order[j] = order[j - 1];
                order[j - 1] = t;
            }
    for (int32_t round = 0; round < MOST_V; round++)
        for (int32_t t = 0; t < o->n_active; t++) {
            const int32_t a = order[t];
            while (at[a] < o->n_list[a] && taken[o->list[a][at[a]]]) at[a]++;
            if (at[a] == o->n_list[a]) continue;
            const int32_t row = o->list[a][at[a]];
            taken[row] = true;
            o->c[o->n++] = (struct cand){ o->product[a][row], row, a };
        }
}

static void owed_to(int32_t *owed, const struct obvious *o, const struct rec_request *r)
{
    float share[MOST_K];
    for (int32_t a = 0; a < o->n_active; a++) {
        share[a] = o->v.interest[o->active[a]].share;
        owed[a] = r->limit / o->n_active;
        if (owed[a] > r->min_per_interest) owed[a] = r->min_per_interest;
    }
    if (r->merge == MERGE_QUOTA)
        pick_quota(owed, o->n_active, share, r->min_per_interest, r->limit);
    for (int32_t a = 0; a < o->n_active; a++) {
        int32_t has = 0;
        for (int32_t i = 0; i < o->n; i++) has += o->c[i].best == a;
        if (owed[a] > has) owed[a] = has;
    }
}

static struct str category_of(int32_t row)
{
    const struct attrs item = attrs_of(row);
    for (int32_t i = 0; i < item.n; i++)
        if (item.at[i].name.len == 8 && memcmp(item.at[i].name.p, "category", 8) == 0)
            return item.at[i].value[0];
    return (struct str){ NULL, 0 };
}

static bool same_category(int32_t u, int32_t v)
{
    const struct str x = category_of(u), y = category_of(v);
    return x.len > 0 && x.len == y.len && memcmp(x.p, y.p, (size_t)x.len) == 0;
}

static float cosine(int32_t u, int32_t v)
{
    const int32_t D = gen_info(gen)->D;
    const float *x = corpus_vector(&corpus, u), *y = corpus_vector(&corpus, v);
    const float n = sqrtf(num->vec->dot(x, x, D)) * sqrtf(num->vec->dot(y, y, D));
    return n > 0 ? num->vec->dot(x, y, D) / n : 0;
}

static int32_t choose(struct cand *out, const struct obvious *o, const struct rec_request *r)
{
    bool used[MOST_V] = { false };
    int32_t owed[MOST_K], n = 0;
    float most = -INFINITY, least = INFINITY;
    owed_to(owed, o, r);
    for (int32_t i = 0; i < o->n; i++) {
        most = fmaxf(most, o->c[i].score);
        least = fminf(least, o->c[i].score);
    }
    while (n < r->limit) {
        int32_t owed_sum = 0, best = -1;
        float best_value = 0;
        for (int32_t a = 0; a < o->n_active; a++) owed_sum += owed[a];
        for (int32_t i = 0; i < o->n; i++) {
            if (used[i] || (r->limit - n <= owed_sum && owed[o->c[i].best] == 0)) continue;
            float rel = most > least ? (o->c[i].score - least) / (most - least) : 1;
            float value = -(float)i; /* in order */
            float same = 0, near = -INFINITY;
            for (int32_t j = 0; j < n; j++) {
                same += same_category(out[j].row, o->c[i].row);
                near = fmaxf(near, cosine(out[j].row, o->c[i].row));
            }
            if (r->diversity == DIVERSITY_CATEGORY && r->strength > 0)
                value = rel - r->strength * same;
            if (r->diversity == DIVERSITY_MMR && r->strength > 0)
                value = n ? rel - r->strength * (rel + near) : rel;
            if (best < 0 || value > best_value) {
                best = i;
                best_value = value;
            }
        }
        if (best < 0) break;
        used[best] = true;
        if (owed[o->c[best].best] > 0) owed[o->c[best].best]--;
        out[n++] = o->c[best];
    }
    return n;
}

static int32_t answer_obviously(struct cand *out, const struct rec_request *asked)
{
    struct obvious *o = xcalloc(1, sizeof *o);
    struct rec_request r = *asked;
    arena_reset(mem);
    r.encode_only = true;
    ck_assert_int_eq(recommend(&o->v, other, &corpus, &r, NULL), 0);
    for (int32_t row = 0; row < n_rows(); row++)
        o->allowed[row] = may_return(asked, asked->filter, row);
    make_lists(o, asked);
    if (asked->merge == MERGE_ROUND_ROBIN)
        merge_by_turn(o);
    else
        merge_by_score(o, asked);
    int32_t n = choose(out, o, asked);
    for (int32_t i = 0; i < n; i++) out[i].best = o->active[out[i].best];
    free(o);
    return n;
}

/* ---- random requests ---- */

struct made {
    struct rec_request r;
    char text[2][MOST_IDS][12];
    struct str id[2][MOST_IDS];
    float weight[MOST_K];
    struct filter filter;
    struct filter_clause clause[3];
    struct filter_value value[2];
};

static void make_ids(struct made *m, int which, int32_t n, struct rng *rng)
{
    for (int32_t i = 0; i < n; i++) {
        int32_t row = (int32_t)rng_below(rng, (uint32_t)gen_info(gen)->n_items + 3);
        int len = snprintf(m->text[which][i], sizeof m->text[which][i], "i%d", row);
        m->id[which][i] = (struct str){ m->text[which][i], len };
    }
}

static struct filter_clause one_of(struct made *m, const char *key, const char *text)
{
    m->value[0] = (struct filter_value){ { text, (int32_t)strlen(text) }, NAN };
    return (struct filter_clause){
        .key = { key, (int32_t)strlen(key) }, .op = FILTER_ANY, .value = m->value, .n_values = 1
    };
}

static void make_filter(struct made *m, struct rng *rng)
{
    static const char *const category[] = { "c0", "c1", "c5", "none such" };
    m->clause[0] = one_of(m, "category", category[rng_below(rng, 4)]);
    m->clause[1] = (struct filter_clause){
        .key = { "price", 5 },
        .op = FILTER_RANGE,
        .range = { .gte = (double)rng_below(rng, 20), .gt = NAN, .lte = NAN, .lt = NAN }
    };
    m->clause[2] = (struct filter_clause){ .key = { "colour", 6 }, .op = FILTER_EXISTS };
    m->clause[2].exists = rng_below(rng, 2);
    m->filter.must = m->clause + rng_below(rng, 3);
    m->filter.n_must = 1 + (m->filter.must < m->clause + 2 && rng_below(rng, 3) == 0);
    m->filter.must_not = m->clause + rng_below(rng, 3);
    m->filter.n_must_not = rng_below(rng, 2) ? 1 : 0;
    m->r.filter = &m->filter;
}

static void make_request(struct made *m, struct rng *rng)
{
    static const int32_t limits[] = { 1, 5, 20, 100 };
    struct rec_request *r = &m->r;
    memset(m, 0, sizeof *m);
    rec_request_defaults(r);
    r->history = m->id[0];
    r->n_history = 1 + (int32_t)rng_below(rng, 12);
    r->exclude = m->id[1];
    r->n_exclude = rng_below(rng, 3) ? 0 : (int32_t)rng_below(rng, MOST_IDS);
    make_ids(m, 0, r->n_history, rng);
    make_ids(m, 1, r->n_exclude, rng);
    m->id[0][0] = (struct str){ "i1", 2 }; /* something is known */
    r->limit = limits[rng_below(rng, 4)];
    r->candidates = rng_below(rng, 2) ? 0 : 1 + (int32_t)rng_below(rng, 150);
    r->interests = rng_below(rng, 3) ? 0 : 1 + (int32_t)rng_below(rng, 3);
    r->exclude_seen = rng_below(rng, 3) != 0;
    r->merge = (enum merge_how)rng_below(rng, 5);
    r->min_per_interest =
        rng_below(rng, 2) && r->merge != MERGE_ROUND_ROBIN ? (int32_t)rng_below(rng, 8) : 0;
    r->rrf_k = rng_below(rng, 2) ? 0 : (float)rng_below(rng, 100);
    for (int32_t k = 0; k < MOST_K; k++) m->weight[k] = (float)rng_below(rng, 5);
    if (rng_below(rng, 2)) {
        r->weights = m->weight;
        r->n_weights = gen_info(gen)->K;
    }
    r->diversity = (enum diversity)rng_below(rng, 3);
    r->strength = (float)rng_below(rng, 5) / 4;
    r->fallback = (enum rec_fallback)rng_below(rng, 3);
    static const struct str lists[] = { { "sold", 4 }, { "no such list", 12 } };
    if (rng_below(rng, 2)) make_filter(m, rng);
    if (rng_below(rng, 2)) {
        r->lists = lists;
        r->n_lists = 2;
    }
}

static void ask(struct rec_answer *a, const struct rec_request *r)
{
    struct err e = { 0 };
    ck_assert_msg(recommend(a, worker, &corpus, r, &e) == 0, "%s", e.msg);
}

static void check_same(const struct rec_answer *a, const struct cand *want, int32_t n)
{
    ck_assert_int_eq(a->n_items, n);
    for (int32_t i = 0; i < n; i++) {
        ck_assert_int_eq(a->item[i].row, want[i].row);
        ck_assert_msg(a->item[i].score == want[i].score, "place %d: %.9g, not %.9g", i,
                      (double)a->item[i].score, (double)want[i].score);
        ck_assert_int_eq(a->item[i].interest, want[i].best);
    }
}

/* The base's row of a row's item, or -1. */
static int32_t base_of(int32_t row)
{
    const struct str id = corpus_id(&corpus, row);
    return items_find(gen_items(gen), id.p, (size_t)id.len);
}

static int by_popularity(const void *a, const void *b)
{
    const int32_t x = base_of(*(const int32_t *)a), y = base_of(*(const int32_t *)b);
    const int64_t p = items_popularity(gen_items(gen), x),
                  q = items_popularity(gen_items(gen), y);
    return p != q ? (p < q ? 1 : -1) : x - y;
}

static int32_t most_popular(int32_t *row, const struct rec_request *r, const struct filter *f)
{
    int32_t n = 0;
    for (int32_t i = 0; i < n_rows(); i++)
        if (base_of(i) >= 0 && may_return(r, f, i)) row[n++] = i;
    qsort(row, (size_t)n, sizeof *row, by_popularity);
    return n < r->limit ? n : r->limit;
}

static void check_popular(const struct rec_answer *a, const struct rec_request *r)
{
    int32_t row[MOST_V], n = 0;
    const char *used = "none";
    if (r->fallback != REC_FALLBACK_NONE) {
        n = most_popular(row, r, r->filter);
        used = r->filter ? "popular_within_filter" : "popular";
    }
    if (n == 0 && r->filter && r->fallback == REC_FALLBACK_POPULAR) {
        n = most_popular(row, r, NULL);
        used = "popular";
    }
    ck_assert_str_eq(a->fallback_used, used);
    ck_assert_int_eq(a->n_items, n);
    for (int32_t i = 0; i < n; i++) ck_assert_int_eq(a->item[i].row, row[i]);
}

static const struct {
    int32_t V, K, L;
    float scale;
} worlds[] = { { 40, 4, 8, 4 }, { 300, 4, 20, 4 }, { 300, 0, 20, 1 }, { 250, 8, 50, 2 } };

static void open_world_at(int i)
{
    struct fixture fx = fixture_defaults();
    fx.V = worlds[i].V;
    fx.K = worlds[i].K;
    fx.L = worlds[i].L;
    fx.scale = worlds[i].scale;
    fx.attributes = true;
    open_world(&fx);
}

/* The second half of the rounds is after items have changed. */
START_TEST(every_option_gives_the_obvious_answer)
{
    enum { TRIALS = 300 };
    struct made *m = xcalloc(1, sizeof *m);
    struct rng rng = rng_make((uint64_t)_i + 17, RNG_TEST);
    int filled = 0;
    open_world_at(_i);
    for (int trial = 0; trial < TRIALS; trial++) {
        struct rec_answer a;
        struct cand want[MOST_V];
        if (trial == TRIALS / 2) change_items(&rng);
        make_request(m, &rng);
        ask(&a, &m->r);
        int32_t n = answer_obviously(want, &m->r);
        if (n == 0) {
            ck_assert_str_eq(a.fallback, "filtered_out");
            check_popular(&a, &m->r);
            continue;
        }
        ck_assert_ptr_null(a.fallback);
        check_same(&a, want, n);
        filled++;
    }
    ck_assert_int_gt(filled, TRIALS / 2);
    free(m);
}
END_TEST

/* Nothing is known of the user: the most popular items that may be returned, before and after items have changed. */
START_TEST(strangers_get_the_obvious_popular_items)
{
    enum { TRIALS = 100 };
    struct made *m = xcalloc(1, sizeof *m);
    struct rng rng = rng_make((uint64_t)_i + 29, RNG_TEST);
    int changed = 0;
    open_world_at(_i);
    for (int trial = 0; trial < TRIALS; trial++) {
        struct rec_answer a;
        if (trial == TRIALS / 4) change_items(&rng);
        make_request(m, &rng);
        m->r.n_history = 0;
        arena_reset(mem);
        ask(&a, &m->r);
        ck_assert_str_eq(a.fallback, "empty_history");
        check_popular(&a, &m->r);
        for (int32_t i = 0; i < a.n_items; i++)
            changed += a.item[i].row >= gen_info(gen)->n_items;
    }
    ck_assert_int_gt(changed, 0);
    free(m);
}
END_TEST

START_TEST(answers_do_not_depend_on_the_batch_or_the_order)
{
    enum { N = 40 };
    struct made *m = xcalloc(N, sizeof *m);
    struct rec_job *job = xcalloc(N, sizeof *job), *jobs[N];
    struct rng rng = rng_make((uint64_t)_i + 71, RNG_TEST);
    open_world_at(_i);
    change_items(&rng);
    for (int32_t i = 0; i < N; i++) {
        make_request(&m[i], &rng);
        job[i].request = &m[i].r;
        jobs[i] = &job[i];
    }
    for (int round = 0; round < 6; round++) {
        for (int32_t i = N - 1; i > 0; i--) {
            const int32_t j = (int32_t)rng_below(&rng, (uint32_t)i + 1);
            struct rec_job *t = jobs[i];
            jobs[i] = jobs[j];
            jobs[j] = t;
        }
        const int32_t n = 1 + (int32_t)rng_below(&rng, N);
        rec_run(other, &corpus, jobs, n);
        for (int32_t i = 0; i < n; i++) {
            struct rec_answer alone;
            const struct rec_answer *a = &jobs[i]->answer;
            ck_assert_int_eq(jobs[i]->err.code, 0);
            ck_assert_int_eq(recommend(&alone, worker, &corpus, jobs[i]->request, NULL), 0);
            ck_assert_int_eq(a->n_items, alone.n_items);
            for (int32_t k = 0; k < a->n_items; k++) {
                ck_assert_int_eq(a->item[k].row, alone.item[k].row);
                ck_assert(fabsf(a->item[k].score - alone.item[k].score) <=
                          1e-6f * (1 + fabsf(alone.item[k].score)));
                ck_assert_int_eq(a->item[k].interest, alone.item[k].interest);
            }
        }
    }
    free(m);
    free(job);
}
END_TEST

Suite *suite_answer(void);
Suite *suite_answer(void)
{
    const int n = sizeof worlds / sizeof worlds[0];
    Suite *s = suite_create("answer");
    TCase *t = tcase_create("answer");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, every_option_gives_the_obvious_answer, 0, n);
    tcase_add_loop_test(t, strangers_get_the_obvious_popular_items, 0, n);
    tcase_add_loop_test(t, answers_do_not_depend_on_the_batch_or_the_order, 0, n);
    suite_add_tcase(s, t);
    return s;
}
