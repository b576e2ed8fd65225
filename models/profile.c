#include "models/profile.h"
#include "core/num/rate.h"
#include <stdbool.h>
#include <string.h>

static double seconds(const struct prof_part *q)
{
    return q->seconds[PROF_FORWARD] + q->seconds[PROF_BACKWARD];
}
static double flop(const struct prof_part *q)
{
    return q->flop[PROF_FORWARD] + q->flop[PROF_BACKWARD];
}
static double bytes(const struct prof_part *q)
{
    return (q->floats[PROF_FORWARD] + q->floats[PROF_BACKWARD]) * sizeof(float);
}

/* What the issue of speed is about: products, attention and the loss; the rest moves memory. */
static bool computes(const struct prof_part *q)
{
    return q->in > 0 || strncmp(q->name, "attn", 4) == 0; /* attn, attn_last */
}
static bool encodes(const struct prof_part *q)
{
    static const char *const op[] = { "linear",   "ffn",     "attn",  "attn_last", "norm",
                                      "add_norm", "dropout", "embed", "seg_last" };
    for (size_t i = 0; i < sizeof op / sizeof *op; i++)
        if (strcmp(op[i], q->name) == 0) return true;
    return false;
}

/* Nothing instead of a zero. */
static void number(FILE *out, int width, int digits, double x)
{
    if (x > 0)
        fprintf(out, " %*.*f", width, digits, x);
    else
        fprintf(out, " %*s", width, "");
}

struct totals {
    double all, compute, encoder, encoder_ideal;
};

static void print_part(FILE *out, const struct prof_part *q, int64_t steps, struct par *pool,
                       double copy, struct totals *t)
{
    char name[40];
    double s = seconds(q), sgemm = 0;
    snprintf(name, sizeof name, q->in ? "%s %dx%d" : "%s", q->name, q->in, q->out);
    if (q->in && q->rows >= q->calls)
        sgemm = rate_sgemm(pool, (int32_t)(q->rows / q->calls), q->in, q->out);
    if (encodes(q)) {
        t->encoder += s;
        t->encoder_ideal += sgemm > 0 ? flop(q) / sgemm : 0;
    }
    if (computes(q)) t->compute += s;
    double per = 1e3 / (double)steps, rate = flop(q) / s;
    fprintf(out, "%-20s %5.1f %8.3f %8.3f %5.1f%%", name, (double)q->calls / (double)steps,
            q->seconds[PROF_FORWARD] * per, q->seconds[PROF_BACKWARD] * per, 100 * s / t->all);
    number(out, 8, 1, rate * 1e-9);
    number(out, 7, 1, sgemm * 1e-9);
    number(out, 6, 2, sgemm > 0 ? rate / sgemm : 0);
    number(out, 7, 1, bytes(q) / s * 1e-9);
    number(out, 6, 2, bytes(q) / s / copy);
    fputc('\n', out);
}

void profile_print(FILE *out, const struct prof *p, int64_t steps, struct par *pool)
{
    if (steps < 1) return;
    struct totals t = { 0 };
    double copy = rate_copy(pool), square = rate_sgemm(pool, 1024, 1024, 1024);
    for (int i = 0; i < prof_count(p); i++) t.all += seconds(prof_part(p, i));
    fprintf(out,
            "%lld steps of %.3f ms, %d threads; cblas_sgemm 1024x1024x1024 %.1f GFLOP/s, "
            "memcpy %.1f GB/s\n",
            (long long)steps, t.all * 1e3 / (double)steps, par_threads(pool), square * 1e-9,
            copy * 1e-9);
    fprintf(out, "%-20s %5s %8s %8s %6s %8s %7s %6s %7s %6s\n", "part", "calls", "fwd ms",
            "bwd ms", "share", "GFLOP/s", "sgemm", "ratio", "GB/s", "ratio");
    for (int i = 0; i < prof_count(p); i++)
        print_part(out, prof_part(p, i), steps, pool, copy, &t);
    fprintf(out, "products, attention and loss %.1f%%, all else %.1f%%",
            100 * t.compute / t.all, 100 * (1 - t.compute / t.all));
    if (t.encoder > 0)
        fprintf(out, "; encoder at %.0f%% of cblas_sgemm's rate on its products",
                100 * t.encoder_ideal / t.encoder);
    fputc('\n', out);
}
