/* The rank model and its losses against a float64 reference (tests/vectors/gen_rank.py). */
#include "models/rank_loss.h"
#include "tests/golden.h"
#include <check.h>
#include <stdio.h>

enum { USER, TAGS, ITEM, BRAND, N_TABLES };

static int32_t rows(const struct golden *r, const char *name, int32_t dim)
{
    const struct safet_tensor *t = safet_find(r->file, name);
    ck_assert_msg(t, "%s: no tensor %s", r->name, name);
    return (int32_t)t->shape[dim];
}

static struct ranker *model(const struct golden *r)
{
    static const char *const names[N_TABLES] = { "user", "tags", "item", "brand" };
    struct ranker_shape s = { .n_tables = N_TABLES,
                              .n_inputs = 3,
                              .n_steps = 2,
                              .input = { USER, TAGS, ITEM },
                              .step = { ITEM, BRAND } };
    for (int i = 0; i < N_TABLES; i++) {
        char name[64];
        snprintf(name, sizeof name, "embedding.%s.weight", names[i]);
        s.table[i] = (struct ranker_table){ names[i], rows(r, name, 0), rows(r, name, 1) };
    }
    struct ranker_cfg c;
    conf_defaults(ranker_opts, &c);
    c.hidden = rows(r, "pos.weight", 1);
    c.max_len = rows(r, "pos.weight", 0) - 1;
    c.layers = (int32_t)golden_config(r, "config.layers", 0);
    c.heads = (int32_t)golden_config(r, "config.heads", 0);
    c.output = (int32_t)golden_config(r, "config.output", 0);
    c.top_1 = rows(r, "top.0.weight", 1);
    c.top_2 = rows(r, "top.1.weight", 1);
    c.dropout = c.attn_dropout = 0;
    struct err e = { 0 };
    ck_assert_msg(ranker_check(&c, &s, &e) == 0, "%s", e.msg);
    struct ranker *m = ranker_new(&c, &s, true);
    golden_load(r, ranker_params(m));
    return m;
}

static const int32_t *ints(const struct golden *r, const char *name)
{
    return golden_i32(r, name, golden_length(r, name));
}

static void view(const struct golden *r, const char *name, struct view *v, int i)
{
    static int32_t pos[2][64];
    char key[32];
    snprintf(key, sizeof key, "%s.cu", name);
    const int32_t *cu = ints(r, key), B = (int32_t)golden_length(r, key) - 1;
    seqpack_positions(pos[i], cu, B, 64, POS_FIRST);
    v->seq = (struct seqpack){ .B = B, .N = cu[B], .cu = cu, .pos = pos[i] };
    snprintf(key, sizeof key, "%s.row", name);
    v->ids = (int32_t *)(uintptr_t)ints(r, key);
}

static void check_losses(struct golden *r, const struct ranker *m, const struct ranker_batch *b)
{
    struct rank_loss_cfg c = { .contrast_weight = golden_config(r, "config.contrast_weight", 0),
                               .temperature = golden_config(r, "config.temperature", 1),
                               .l2_regularization = golden_config(r, "config.l2", 0),
                               .embedding_regularization =
                                   golden_config(r, "config.embedding", 0) };
    struct view v[2];
    view(r, "view1", &v[0], 0);
    view(r, "view2", &v[1], 1);
    tape_begin(r->tp, GROUPS_ALL, 1, true);
    struct rank_losses l = rank_loss(m, r->tp, &c, b, golden_f32(r, "label", b->B), v);
    golden_out(r, "out.logit", l.logit->x, b->B);
    golden_out(r, "out.click", l.click->x, 1);
    golden_out(r, "out.contrast", l.contrast->x, 1);
    golden_out(r, "out.l2", l.l2->x, 1);
    golden_out(r, "out.embedding", l.embedding->x, 1);
    golden_out(r, "out.loss", l.total->x, 1);
    static const char *const running[] = { "top.0.norm.mean", "top.0.norm.var",
                                           "top.1.norm.mean", "top.1.norm.var" };
    for (int i = 0; i < 4; i++) {
        char name[64];
        const struct param *p = params_find(ranker_params(m), running[i]);
        snprintf(name, sizeof name, "out.%s", running[i]);
        golden_out(r, name, p->t.x, p->t.cols);
    }
    tape_backward(r->tp, l.total);
}

static void ranks(struct golden *r)
{
    struct ranker *m = model(r);
    const int32_t *step[] = { ints(r, "seq.item"), ints(r, "seq.brand") };
    const struct ranker_column input[] = { { ints(r, "user"), NULL },
                                           { ints(r, "tags"), ints(r, "tags.cu") },
                                           { ints(r, "item"), NULL } };
    struct ranker_batch b = { .B = r->in.B,
                              .input = input,
                              .seq = r->in,
                              .step = step,
                              .momentum = golden_config(r, "config.momentum", 0) };
    if (golden_config(r, "config.train", 0) > 0) {
        check_losses(r, m, &b);
    } else {
        struct ranked y = ranker_forward(m, r->tp, &b);
        golden_out(r, "out.logit", y.logit->x, b.B);
        tape_backward(r->tp, golden_dot(r->tp, y.logit, golden_f32(r, "R", b.B)));
    }
    golden_grads(r, ranker_params(m));
    ranker_free(m);
}

static const char *const files[] = { "rank", "rank_mean", "rank_last" };

START_TEST(rank_model_and_losses_agree_with_the_reference) { golden_run(files[_i], ranks); }
END_TEST

Suite *suite_rank_golden(void);
Suite *suite_rank_golden(void)
{
    Suite *s = suite_create("rank_golden");
    TCase *t = tcase_create("files");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, rank_model_and_losses_agree_with_the_reference, 0,
                        sizeof files / sizeof files[0]);
    suite_add_tcase(s, t);
    return s;
}
