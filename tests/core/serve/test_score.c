/* A rank model asked for scores: tags and numbers of the catalogue, histories that can't be used, damaged bundles. */
#include "core/base/mem.h"
#include "core/fmt/ckpt.h"
#include "core/num/num.h"
#include "core/serve/rank_model.h"
#include "core/serve/score.h"
#include "tests/fixture_bundle.h"
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *dir;
static struct arena *mem;
static struct tape *tp;
static struct gen *gen;
static struct err e;

static const char *const keys[][3] = {
    { "feature id", "hash_buckets", "50" },
    { "feature brand", "vocabulary", "a,b,c" },
    { "feature price", "kind", "number" },
    { "feature price", "boundaries", "1,2,3" },
    { "feature tags", "kind", "tags" },
    { "feature tags", "vocabulary", "x,y,z" },
    { "feature place", "vocabulary", "top,side" },
    { "feature place", "context", "true" },
    { "feature age", "kind", "number" },
    { "feature age", "boundaries", "20,40" },
    { "feature likes", "kind", "tags" },
    { "feature likes", "of", "tags" },
    { "feature seq", "kind", "sequence" },
    { "feature seq", "of", "brand" },
    { "feature prices", "kind", "sequence" },
    { "feature prices", "of", "price" },
    { "group user", "features", "age, likes" },
    { "group item", "features", "id, brand, price, tags, place" },
    { "group sequence", "features", "seq, prices" },
};

static void make_items(const char *path)
{
    static const struct {
        const char *id, *brand, *tags;
        double price;
    } item[] = { { "i1", "a", "x", 0.5 }, { "i2", "b", "y", 1.5 }, { "i3", "c", "", 2.5 } };
    struct items_builder *b = items_builder_new();
    int32_t brand = items_field_add(b, "brand", 5, FIELD_VALUES),
            price = items_field_add(b, "price", 5, FIELD_NUMBER),
            tags = items_field_add(b, "tags", 4, FIELD_VALUES);
    for (int i = 0; i < 3; i++) {
        int32_t row = items_add(b, item[i].id, 2);
        items_add_value(b, brand, row, item[i].brand, 1);
        items_set_number(b, price, row, item[i].price);
        if (*item[i].tags) items_add_value(b, tags, row, item[i].tags, 1);
    }
    items_add_value(b, tags, 0, "z", 1);
    ck_assert_msg(items_write(b, path, &e) == 0, "%s", e.msg);
    items_builder_free(b);
}

/* A bundle with random weights; sequence: what the sequence's second feature is of. */
static void make(const char *sequence)
{
    struct schema s = { 0 };
    struct ranker_cfg c;
    struct ranker_shape shape;
    struct rank_columns columns;
    struct bundle_writer w;
    conf_defaults(ranker_opts, &c);
    conf_defaults(rank_column_opts, &columns);
    c.hidden = 16;
    c.layers = 1;
    c.max_len = 3;
    c.top_1 = 8;
    c.top_2 = 0;
    ck_assert(conf_set(rank_column_opts, &columns, "item", "id", &e) == 0);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ck_assert_msg(schema_set(&s, keys[i][0], keys[i][1], keys[i][2], &e) == 0, "%s", e.msg);
    ck_assert_msg(schema_set(&s, "feature prices", "of", sequence, &e) == 0, "%s", e.msg);
    ck_assert_msg(schema_check(&s, &e) == 0, "%s", e.msg);
    rank_shape(&shape, &s);
    ck_assert_msg(ranker_check(&c, &shape, &e) == 0, "%s", e.msg);
    struct ranker *m = ranker_new(&c, &shape, false);
    params_init(ranker_params(m), 1);
    for (int32_t i = 0; i < params_count(ranker_params(m)); i++) {
        struct param *p = params_at(ranker_params(m), i); /* so that everything counts */
        for (int32_t j = 0; j < p->t.cols * p->t.rows && p->decay; j++) p->t.x[j] += 0.1f;
    }
    char *model = xasprintf("%s/ads", dir);
    ck_assert_msg(bundle_begin(&w, model, 1, &e) == 0, "%s", e.msg);
    char *items = xasprintf("%s/" BUNDLE_ITEMS, w.tmp_dir),
         *weights = xasprintf("%s/" BUNDLE_WEIGHTS, w.tmp_dir);
    make_items(items);
    ck_assert_msg(ckpt_save(weights, ranker_params(m), GROUPS_ALL, &e) == 0, "%s", e.msg);
    json_t *mf = json_pack("{s:s, s:o, s:o, s:o, s:i, s:{}, s:{}}", "kind", "rank", "ranker",
                           bundle_opts_to_json(ranker_opts, &c), "columns",
                           bundle_opts_to_json(rank_column_opts, &columns), "schema",
                           rank_schema_json(&s), "items", 3, "recipe", "metrics");
    ck_assert_msg(bundle_commit(&w, mf, &e) == 0, "%s", e.msg);
    ck_assert_msg(gen_open(&gen, model, &e) == 0, "%s", e.msg);
    json_decref(mf);
    ranker_free(m);
    schema_free(&s);
    conf_free(rank_column_opts, &columns);
    free(items);
    free(weights);
    free(model);
}

static void set_up(void)
{
    num_init();
    e = (struct err){ 0 };
    dir = fixture_tmpdir();
    mem = arena_new("score", 1 << 16, 0);
    tp = tape_new(mem, NULL);
    gen = NULL;
}

static void tear_down(void)
{
    gen_unref(gen);
    tape_free(tp);
    arena_free(mem);
    fixture_rmdir(dir);
    free(dir);
}

static struct str str(const char *s) { return (struct str){ s, (int32_t)strlen(s) }; }

struct asked {
    struct str candidate[8], history[8];
    struct score_value value[8];
    struct score_request r;
};

/* Words with blanks between; values are name=text. */
static void ask(struct asked *q, const char *candidates, const char *history,
                const char *values)
{
    static char text[3][256];
    const char *const from[] = { candidates, history, values };
    *q = (struct asked){ 0 };
    q->r = (struct score_request){
        .value = q->value, .history = q->history, .candidate = q->candidate, .strict = true
    };
    for (int i = 0; i < 3; i++) {
        char *save = NULL;
        snprintf(text[i], sizeof text[i], "%s", from[i]);
        for (char *w = strtok_r(text[i], " ", &save); w; w = strtok_r(NULL, " ", &save)) {
            char *eq = strchr(w, '=');
            if (i == 0) q->candidate[q->r.n_candidates++] = str(w);
            if (i == 1) q->history[q->r.n_history++] = str(w);
            if (i != 2) continue;
            *eq = '\0';
            q->value[q->r.n_values++] = (struct score_value){ str(w), str(eq + 1) };
        }
    }
}

static struct score_answer good(struct asked *q, float *score)
{
    struct score_answer a;
    ck_assert_msg(score_candidates(&a, tp, gen, &q->r, &e) == 0, "%s", e.msg);
    ck_assert_int_eq(a.n, q->r.n_candidates);
    memcpy(score, a.score, (size_t)a.n * sizeof *score);
    return a;
}

/* What the model itself says of rows looked up by hand: candidates i1 (z and x) and "new". */
START_TEST(scores_are_those_of_the_rows_that_the_schema_gives)
{
    make("price");
    const struct rank_model *m = gen_rank(gen);
    struct asked q;
    float score[8];
    ask(&q, "i1 new", "i2 nobody i3", "age=30 likes=y|x place=side");
    struct score_answer a = good(&q, score);
    ck_assert_int_eq(a.n_unknown, 1);
    ck_assert_int_eq(a.unknown[0], 1);
    ck_assert_int_eq(a.used, 2);
    ck_assert_int_eq(a.missing, 1);

    const int32_t age[] = { 2, 2 }, likes[] = { 2, 1, 2, 1 }, likes_cu[] = { 0, 2, 4 };
    const int32_t id[] = { schema_row(&m->schema, 0, "i1", 2),
                           schema_row(&m->schema, 0, "new", 3) };
    const int32_t brand[] = { 1, 0 }, price[] = { 1, 0 }, place[] = { 2, 2 };
    const int32_t tags[] = { 1, 3 }, tags_cu[] = { 0, 2, 2 };
    const int32_t seq[] = { 2, 3 }, prices[] = { 2, 3 }, cu[] = { 0, 2 }, pos[] = { 0, 1 };
    const int32_t *const step[] = { seq, prices };
    const int32_t of[] = { 0, 0 };
    const struct ranker_column input[] = { { age, NULL },   { likes, likes_cu },
                                           { id, NULL },    { brand, NULL },
                                           { price, NULL }, { tags, tags_cu },
                                           { place, NULL } };
    struct ranker_batch b = { .B = 2,
                              .input = input,
                              .seq = { .B = 1, .N = 2, .cu = cu, .pos = pos },
                              .step = step,
                              .seq_of = of };
    tape_begin(tp, 0, 0, false);
    const float *x = ranker_forward(m->ranker, tp, &b).logit->x;
    for (int i = 0; i < 2; i++) ck_assert_float_eq(score[i], 1 / (1 + expf(-x[i])));
    ck_assert_float_ne(score[0], score[1]);
}
END_TEST

START_TEST(every_value_counts_and_a_missing_one_is_row_0)
{
    static const char *const others[] = { "age=10", "likes=z", "place=top", "age=30 likes=" };
    struct asked q;
    float with[8], without[8];
    make("price");
    ask(&q, "i1 i2 i3", "", "");
    good(&q, without);
    for (int i = 0; i < 4; i++) {
        ask(&q, "i1 i2 i3", "", others[i]);
        good(&q, with);
        ck_assert_msg(with[0] != without[0], "%s changes nothing", others[i]);
    }
    ask(&q, "i1 i2 i3", "", "age= place=nowhere");
    good(&q, with);
    ck_assert_mem_eq(with, without, 3 * sizeof *with);
}
END_TEST

START_TEST(a_sequence_may_be_spelt)
{
    struct asked q;
    float history[8], spelt[8];
    make("price");
    ask(&q, "i1 i2", "i1 i2 i3 i1", "");
    ck_assert_int_eq(good(&q, history).truncated, 1);
    ask(&q, "i1 i2", "", "seq=b|c|a prices=1.5|2.5|0.5");
    good(&q, spelt);
    ck_assert_mem_eq(history, spelt, 2 * sizeof *spelt);
}
END_TEST

static const struct {
    const char *history, *values, *message;
    int code;
} wrong[] = {
    { "", "agee=3", "no feature \"agee\"", ERR_UNKNOWN_FIELD },
    { "", "brand=a", "a feature of items", ERR_UNKNOWN_FIELD },
    { "", "age=old", "age is a number, not \"old\"", ERR_INVALID },
    { "i1", "seq=a prices=1", "leave one out", ERR_INVALID },
    { "", "seq=a", "prices has another length than seq", ERR_INVALID },
};

START_TEST(what_does_not_fit_the_model_is_named)
{
    struct asked q;
    struct score_answer a;
    make("price");
    ask(&q, "i1", wrong[_i].history, wrong[_i].values);
    ck_assert_int_eq(score_candidates(&a, tp, gen, &q.r, &e), wrong[_i].code);
    ck_assert_msg(strstr(e.msg, wrong[_i].message), "%s", e.msg);
    q.r.strict = false;
    e = (struct err){ 0 };
    ck_assert_int_eq(score_candidates(&a, tp, gen, &q.r, &e),
                     wrong[_i].code == ERR_UNKNOWN_FIELD ? 0 : wrong[_i].code);
}
END_TEST

START_TEST(a_sequence_of_what_items_lack_takes_no_history)
{
    struct asked q;
    struct score_answer a;
    make("age");
    ask(&q, "i1", "i2", "");
    ck_assert_int_eq(score_candidates(&a, tp, gen, &q.r, &e), ERR_INVALID);
    ck_assert_msg(strstr(e.msg, "prices, which is no feature of items"), "%s", e.msg);
    e = (struct err){ 0 };
    ask(&q, "i1", "", "seq=a prices=33");
    ck_assert_int_eq(score_candidates(&a, tp, gen, &q.r, &e), 0);
}
END_TEST

START_TEST(the_reply_is_json)
{
    struct asked q;
    struct score_answer a;
    struct buf b = { 0 };
    make("price");
    ask(&q, "i2 n\"o", "i1", "");
    ck_assert_int_eq(score_candidates(&a, tp, gen, &q.r, &e), 0);
    score_reply(&b, &a, gen, &q.r, 0.25);
    json_t *j = json_loads(b.data, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_ptr_nonnull(j);
    ck_assert_float_eq((float)json_real_value(json_array_get(json_object_get(j, "scores"), 0)),
                       a.score[0]);
    ck_assert_str_eq(json_string_value(json_array_get(json_object_get(j, "unknown"), 0)),
                     "n\"o");
    ck_assert_double_eq(json_real_value(json_object_get(j, "took_ms")), 0.25);
    json_decref(j);
    buf_free(&b);
}
END_TEST

Suite *suite_score(void);
Suite *suite_score(void)
{
    Suite *s = suite_create("score");
    TCase *t = tcase_create("score");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, scores_are_those_of_the_rows_that_the_schema_gives);
    tcase_add_test(t, every_value_counts_and_a_missing_one_is_row_0);
    tcase_add_test(t, a_sequence_may_be_spelt);
    tcase_add_loop_test(t, what_does_not_fit_the_model_is_named, 0,
                        sizeof wrong / sizeof *wrong);
    tcase_add_test(t, a_sequence_of_what_items_lack_takes_no_history);
    tcase_add_test(t, the_reply_is_json);
    suite_add_tcase(s, t);
    return s;
}
