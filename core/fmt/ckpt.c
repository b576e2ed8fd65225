#include "core/fmt/ckpt.h"
#include "core/base/mem.h"
#include "core/fmt/safet.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Index of the first value that is NaN or infinite, -1 when all are finite.  Read as bits: all
 * ones in the exponent. */
static int64_t find_nonfinite(const float *x, int64_t n)
{
    enum { BLOCK = 4096 };
    for (int64_t at = 0; at < n; at += BLOCK) {
        int64_t end = at + BLOCK < n ? at + BLOCK : n;
        uint32_t bad = 0;
        for (int64_t i = at; i < end; i++) {
            uint32_t bits;
            memcpy(&bits, &x[i], sizeof bits);
            bad |= (bits & 0x7f800000u) == 0x7f800000u;
        }
        if (!bad) continue;
        for (int64_t i = at; i < end; i++)
            if (!__builtin_isfinite(x[i])) return i;
    }
    return -1;
}

int ckpt_check_finite(const char *name, const float *x, int64_t n, int32_t cols, struct err *e)
{
    int64_t at = find_nonfinite(x, n);
    if (at < 0) return 0;
    return err_set(e, ERR_FORMAT, "tensor %s: row %" PRId64 ", column %" PRId64 " is %s", name,
                   at / cols, at % cols, __builtin_isnan(x[at]) ? "NaN" : "infinite");
}

int ckpt_check_params(const struct params *ps, struct err *e)
{
    for (int32_t i = 0; i < params_count(ps); i++) {
        const struct param *p = params_at(ps, i);
        TRY(ckpt_check_finite(p->name, p->t.x, (int64_t)p->t.rows * p->t.cols, p->t.cols, e));
    }
    return 0;
}

int ckpt_save(const char *path, const struct params *ps, uint32_t groups, struct err *e)
{
    static const char *const meta[] = { "format", "intent", NULL };
    return ckpt_save_with(path, ps, groups, meta, e);
}

int ckpt_save_with(const char *path, const struct params *ps, uint32_t groups,
                   const char *const *meta, struct err *e)
{
    int32_t n = 0;
    struct safet_tensor *t = xcalloc((size_t)params_count(ps) + 1, sizeof *t);
    int rc = 0;
    for (int32_t i = 0; i < params_count(ps) && rc == 0; i++) {
        const struct param *p = params_at(ps, i);
        if (!(p->group & groups)) continue;
        t[n] = (struct safet_tensor){ .name = p->name,
                                      .dtype = SAFET_F32,
                                      .rank = 2,
                                      .shape = { p->t.rows, p->t.cols },
                                      .data = p->t.x,
                                      .n = (int64_t)p->t.rows * p->t.cols };
        rc = ckpt_check_finite(p->name, p->t.x, t[n++].n, p->t.cols, e);
    }
    if (rc == 0) rc = safet_write(path, t, n, meta, e);
    free(t);
    return rc;
}

static int load_param(struct param *p, const struct safet *s, struct err *e)
{
    const struct safet_tensor *t = safet_find(s, p->name);
    if (!t) return err_set(e, ERR_FORMAT, "tensor %s is missing", p->name);
    if (t->dtype != SAFET_F32) return err_set(e, ERR_FORMAT, "tensor %s: not F32", p->name);
    if (t->rank != 2)
        return err_set(e, ERR_FORMAT, "tensor %s: %d dimensions, 2 expected", p->name, t->rank);
    if (t->shape[0] != p->t.rows || t->shape[1] != p->t.cols)
        return err_set(e, ERR_FORMAT,
                       "tensor %s: shape [%" PRId64 ",%" PRId64 "], [%d,%d] expected", p->name,
                       t->shape[0], t->shape[1], p->t.rows, p->t.cols);
    TRY(ckpt_check_finite(p->name, t->data, t->n, p->t.cols, e));
    memcpy(p->t.x, t->data, (size_t)t->n * sizeof(float));
    return 0;
}

static int check_known(const struct params *ps, uint32_t groups, const struct safet *s,
                       struct err *e)
{
    for (int32_t i = 0; i < safet_count(s); i++) {
        const struct param *p = params_find(ps, safet_at(s, i)->name);
        if (!p || !(p->group & groups))
            return err_set(e, ERR_FORMAT, "tensor %s is not one of the model's",
                           safet_at(s, i)->name);
    }
    return 0;
}

static int load(struct params *ps, uint32_t groups, bool part, const char *path, struct err *e)
{
    struct safet *s;
    TRY(safet_open(&s, path, e));
    int rc = part ? 0 : check_known(ps, groups, s, e);
    for (int32_t i = 0; i < params_count(ps) && rc == 0; i++)
        if (params_at(ps, i)->group & groups) rc = load_param(params_at(ps, i), s, e);
    safet_close(s);
    if (rc < 0) err_ctx(e, "%s", path);
    return rc;
}

int ckpt_load(struct params *ps, uint32_t groups, const char *path, struct err *e)
{
    return load(ps, groups, false, path, e);
}

int ckpt_load_part(struct params *ps, uint32_t groups, const char *path, struct err *e)
{
    return load(ps, groups, true, path, e);
}
