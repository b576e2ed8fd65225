/* Attention of every instruction set against double, forward and backward. */
#include "core/base/mem.h"
#include "core/num/num.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct num_ops *isa[3];
static int n_isa;
static struct rng rng;

static void set_up(void)
{
    n_isa = num_available(isa);
    rng = rng_make(13, RNG_TEST);
}

static const struct shape {
    int32_t n, D, H;
    bool causal, mask;
    float p;
} shapes[] = {
    { 1, 4, 2, true, false, 0 },       { 2, 6, 2, true, false, .5f },
    { 10, 64, 2, true, false, 0 },     { 50, 64, 2, true, false, .5f },
    { 50, 64, 2, false, true, 0 },     { 17, 38, 2, true, true, .2f },
    { 33, 3, 3, false, false, .3f },   { 64, 16, 1, true, false, 0 },
    { 65, 16, 1, true, false, .5f },   { 130, 8, 2, false, true, .5f },
    { 200, 8, 1, true, true, .1f },    { 5, 256, 2, true, false, 0 },
    { 20, 128, 2, false, false, .9f }, { 3, 65, 1, false, true, 0 },
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* All in double; every array as in k_attn.h. */
struct reference {
    double *y, *lse, *dqkv;
};

struct problem {
    struct shape s;
    struct k_attn_cfg cfg;
    uint8_t *key; /* NULL without mask */
    float *qkv, *dy;
    struct reference ref;
};

static float *normals(int64_t n)
{
    float *x = xmalloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = rng_normal(&rng);
    return x;
}

/* Weights w[n] of one query; the log-sum-exp is returned. */
static double weights(const struct problem *p, double *w, int32_t i, int32_t h)
{
    const int32_t D = p->s.D, n = p->s.n, dh = D / p->s.H;
    double top = -HUGE_VAL, sum = 0;
    for (int32_t j = 0; j < n; j++) {
        w[j] = -HUGE_VAL;
        if ((p->s.causal && j > i) || (p->key && !p->key[j])) continue;
        w[j] = 0;
        for (int32_t c = 0; c < dh; c++)
            w[j] += (double)p->qkv[i * 3 * D + h * dh + c] *
                    (double)p->qkv[j * 3 * D + D + h * dh + c] * (double)p->cfg.scale;
        top = fmax(top, w[j]);
    }
    for (int32_t j = 0; j < n; j++) sum += w[j] = w[j] == -HUGE_VAL ? 0 : exp(w[j] - top);
    for (int32_t j = 0; j < n && sum > 0; j++) w[j] /= sum;
    return sum > 0 ? top + log(sum) : -HUGE_VAL;
}

static double kept(const struct problem *p, int32_t i, int32_t h, int32_t j)
{
    const struct drop *d = &p->cfg.drop;
    uint64_t row = drop_row(d, (int64_t)i * p->s.H + h);
    return drop_keeps(d, row, (uint32_t)j) ? (double)d->scale : 0;
}

/* One query of one head: its outputs and its share of the gradients. */
static void reference_row(struct problem *p, int32_t i, int32_t h, double *w, double *dp)
{
    const int32_t D = p->s.D, n = p->s.n, dh = D / p->s.H;
    double *y = p->ref.y + i * D + h * dh, *dq = p->ref.dqkv + i * 3 * D + h * dh;
    const float *dy = p->dy + i * D + h * dh, *q = p->qkv + i * 3 * D + h * dh;
    double dot = 0;
    p->ref.lse[i * p->s.H + h] = weights(p, w, i, h);
    for (int32_t j = 0; j < n; j++) {
        const float *v = p->qkv + j * 3 * D + 2 * D + h * dh;
        const double keep = kept(p, i, h, j);
        dp[j] = 0;
        for (int32_t c = 0; c < dh; c++) {
            y[c] += w[j] * keep * (double)v[c];
            dp[j] += keep * (double)dy[c] * (double)v[c];
            p->ref.dqkv[j * 3 * D + 2 * D + h * dh + c] += w[j] * keep * (double)dy[c];
        }
        dot += w[j] * dp[j];
    }
    for (int32_t j = 0; j < n; j++) {
        const double ds = w[j] * (dp[j] - dot) * (double)p->cfg.scale;
        for (int32_t c = 0; c < dh; c++) {
            dq[c] += ds * (double)p->qkv[j * 3 * D + D + h * dh + c];
            p->ref.dqkv[j * 3 * D + D + h * dh + c] += ds * (double)q[c];
        }
    }
}

static void problem_make(struct problem *p, struct shape s)
{
    const size_t n = (size_t)s.n, D = (size_t)s.D;
    *p = (struct problem){ .s = s };
    p->cfg = (struct k_attn_cfg){ .D = s.D,
                                  .H = s.H,
                                  .scale = 1 / sqrtf((float)s.D / (float)s.H),
                                  .causal = s.causal,
                                  .drop = s.p > 0 ? drop_make(41, s.p) : drop_none() };
    p->qkv = normals((int64_t)(n * 3 * D));
    p->dy = normals((int64_t)(n * D));
    if (s.mask) {
        p->key = xmalloc(n);
        for (size_t j = 0; j < n; j++) p->key[j] = j > 0 && rng_below(&rng, 3) > 0;
    }
    p->ref.y = xcalloc(n * D, sizeof(double));
    p->ref.lse = xcalloc(n * (size_t)s.H, sizeof(double));
    p->ref.dqkv = xcalloc(n * 3 * D, sizeof(double));
    double *w = xcalloc(n, sizeof *w), *dp = xcalloc(n, sizeof *dp);
    for (int32_t h = 0; h < s.H; h++)
        for (int32_t i = 0; i < s.n; i++) reference_row(p, i, h, w, dp);
    free(w);
    free(dp);
}

static void problem_free(struct problem *p)
{
    free(p->key);
    free(p->qkv);
    free(p->dy);
    free(p->ref.y);
    free(p->ref.lse);
    free(p->ref.dqkv);
}

static void near(const float *got, const double *want, int64_t n, const char *what,
                 const struct problem *p, const char *name)
{
    double top = 0;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(want[i])) top = fmax(top, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(want[i] == (double)got[i] ||
                          fabs((double)got[i] - want[i]) <= 3e-6 * (top + 1),
                      "%s, n=%d D=%d H=%d: %s[%lld] = %.9g, not %.9g", name, p->s.n, p->s.D,
                      p->s.H, what, (long long)i, (double)got[i], want[i]);
}

static void check(struct problem *p, const struct num_ops *v)
{
    const int64_t n = p->s.n, D = p->s.D, H = p->s.H;
    const int32_t cu[] = { 0, p->s.n };
    float *y = normals(n * D), *plain = normals(n * D), *lse = normals(n * H);
    float *dqkv = xcalloc((size_t)(n * 3 * D), sizeof *dqkv);
    float *scratch = xaligned(v->attn->scratch(&p->cfg, p->s.n) * sizeof *scratch);
    v->attn->fwd(y, lse, p->qkv, p->key, cu, 1, &p->cfg, scratch);
    v->attn->fwd(plain, NULL, p->qkv, p->key, cu, 1, &p->cfg, scratch);
    ck_assert_int_eq(memcmp(plain, y, (size_t)(n * D) * sizeof *y), 0);
    near(y, p->ref.y, n * D, "y", p, v->isa);
    near(lse, p->ref.lse, n * H, "lse", p, v->isa);
    v->attn->bwd(dqkv, p->dy, y, lse, p->qkv, p->key, cu, 1, &p->cfg, scratch);
    near(dqkv, p->ref.dqkv, n * 3 * D, "dqkv", p, v->isa);
    /* a second pass adds the same again */
    v->attn->bwd(dqkv, p->dy, y, lse, p->qkv, p->key, cu, 1, &p->cfg, scratch);
    for (int64_t i = 0; i < n * 3 * D; i++) dqkv[i] *= .5f;
    near(dqkv, p->ref.dqkv, n * 3 * D, "dqkv twice", p, v->isa);
    free(y);
    free(plain);
    free(lse);
    free(dqkv);
    free(scratch);
}

START_TEST(attention_matches_double_in_value_and_gradient)
{
    struct problem p;
    problem_make(&p, shapes[_i]);
    for (int k = 0; k < n_isa; k++) check(&p, isa[k]);
    problem_free(&p);
}
END_TEST

/* The sequence in pieces of random lengths, each over what is kept of those before it. */
static void check_pieces(struct problem *p, const struct num_ops *v, const float *whole)
{
    const int32_t n = p->s.n, D = p->s.D, n_pages = (n + ATTN_PAGE - 1) / ATTN_PAGE;
    const size_t nb_page = (2 * (size_t)D * ATTN_PAGE + 3) * sizeof(float);
    float *y = normals((int64_t)n * D), **page = xcalloc((size_t)n_pages, sizeof *page);
    float *scratch = xaligned(v->attn->scratch(&p->cfg, n) * sizeof *scratch);
    for (int32_t i = 0; i < n_pages; i++) {
        page[i] = xaligned(nb_page);
        memset(page[i], 0xff, nb_page); /* NaNs: nobody may read what was not kept */
    }
    const struct k_attn_kept kept = { page, 3, 3 + (ptrdiff_t)D * ATTN_PAGE };
    for (int32_t from = 0, m; from < n; from += m) {
        m = 1 + (int32_t)rng_below(&rng, (uint64_t)(n - from));
        if (rng_below(&rng, 2)) m = 1;
        const float *rows = p->qkv + (ptrdiff_t)from * 3 * D;
        v->attn->keep(&kept, rows, from, m, &p->cfg);
        v->attn->more(y + (ptrdiff_t)from * D, rows, &kept, from, m, &p->cfg, scratch);
    }
    near(y, p->ref.y, (int64_t)n * D, "y in pieces", p, v->isa);
    ck_assert_int_eq(memcmp(y, whole, (size_t)n * (size_t)D * sizeof *y), 0);
    for (int32_t i = 0; i < n_pages; i++) free(page[i]);
    free(page);
    free(y);
    free(scratch);
}

START_TEST(attention_over_what_was_kept_has_the_bits_of_the_whole_sequence)
{
    struct shape s = shapes[_i];
    s.causal = true;
    s.mask = false;
    s.p = 0;
    struct problem p;
    problem_make(&p, s);
    const int32_t cu[] = { 0, s.n };
    float *y = normals((int64_t)s.n * s.D);
    for (int k = 0; k < n_isa; k++) {
        float *scratch = xaligned(isa[k]->attn->scratch(&p.cfg, s.n) * sizeof *scratch);
        isa[k]->attn->fwd(y, NULL, p.qkv, NULL, cu, 1, &p.cfg, scratch);
        for (int rounds = 0; rounds < 8; rounds++) check_pieces(&p, isa[k], y);
        free(scratch);
    }
    free(y);
    problem_free(&p);
}
END_TEST

START_TEST(attention_survives_scores_that_overflow_an_exponential)
{
    struct problem p;
    problem_make(&p, (struct shape){ 70, 4, 1, true, false, 0 });
    for (int32_t i = 0; i < 70 * 12; i++) p.qkv[i] *= 60;
    float y[70 * 4], dqkv[70 * 12] = { 0 }, lse[70];
    const int32_t cu[] = { 0, 70 };
    for (int k = 0; k < n_isa; k++) {
        float *scratch = xaligned(isa[k]->attn->scratch(&p.cfg, 70) * sizeof *scratch);
        isa[k]->attn->fwd(y, lse, p.qkv, NULL, cu, 1, &p.cfg, scratch);
        isa[k]->attn->bwd(dqkv, p.dy, y, lse, p.qkv, NULL, cu, 1, &p.cfg, scratch);
        for (int i = 0; i < 70 * 4; i++) ck_assert(isfinite(y[i]));
        for (int i = 0; i < 70 * 12; i++) ck_assert(isfinite(dqkv[i]));
        free(scratch);
    }
    problem_free(&p);
}
END_TEST

/* Short sequences share blocks; nobody may notice. */
START_TEST(a_sequence_has_the_same_bits_whatever_is_packed_beside_it)
{
    enum { N = 64, D = 12, H = 2, B = 14 };
    static const int32_t cu[B + 1] = { 0, 3, 4, 9, 9, 16, 32, 34, 51, 52, 53, 54, 58, 61, N };
    static float qkv[N * 3 * D], dy[N * D], y[2][N * D], lse[2][N * H], dqkv[2][N * 3 * D];
    uint8_t key[N];
    for (int i = 0; i < N * 3 * D; i++) qkv[i] = rng_normal(&rng);
    for (int i = 0; i < N * D; i++) dy[i] = rng_normal(&rng);
    for (int i = 0; i < N; i++) key[i] = rng_below(&rng, 4) > 0;
    for (int mode = 0; mode < 4 * n_isa; mode++) {
        const struct num_ops *v = isa[mode / 4];
        const struct k_attn_cfg cfg = { .D = D,
                                        .H = H,
                                        .scale = .4f,
                                        .causal = mode & 1,
                                        .drop = mode & 2 ? drop_make(17, .3f) : drop_none() };
        const uint8_t *mask = mode & 2 ? key : NULL;
        float *scratch = xaligned(v->attn->scratch(&cfg, 17) * sizeof *scratch);
        memset(dqkv, 0, sizeof dqkv);
        v->attn->fwd(y[0], lse[0], qkv, mask, cu, B, &cfg, scratch);
        v->attn->bwd(dqkv[0], dy, y[0], lse[0], qkv, mask, cu, B, &cfg, scratch);
        for (int b = B - 1; b >= 0; b--) {
            v->attn->fwd(y[1], lse[1], qkv, mask, cu + b, 1, &cfg, scratch);
            v->attn->bwd(dqkv[1], dy, y[1], lse[1], qkv, mask, cu + b, 1, &cfg, scratch);
        }
        ck_assert_int_eq(memcmp(y[0], y[1], sizeof y[0]), 0);
        ck_assert_int_eq(memcmp(lse[0], lse[1], sizeof lse[0]), 0);
        for (int i = 0; i < N * 3 * D; i++) /* 0 and -0 are the same */
            ck_assert_double_eq((double)dqkv[0][i], (double)dqkv[1][i]);
        free(scratch);
    }
}
END_TEST

Suite *suite_attn(void);
Suite *suite_attn(void)
{
    Suite *s = suite_create("attn");
    TCase *t = tcase_create("attn");
    tcase_set_timeout(t, 240);
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_loop_test(t, attention_matches_double_in_value_and_gradient, 0, N_SHAPES);
    tcase_add_loop_test(t, attention_over_what_was_kept_has_the_bits_of_the_whole_sequence, 0,
                        N_SHAPES);
    tcase_add_test(t, attention_survives_scores_that_overflow_an_exponential);
    tcase_add_test(t, a_sequence_has_the_same_bits_whatever_is_packed_beside_it);
    suite_add_tcase(s, t);
    return s;
}
