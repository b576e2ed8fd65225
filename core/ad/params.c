#include "core/ad/tape.h"
#include "core/base/mem.h"
#include <stdlib.h>
#include <string.h>

struct entry {
    struct param *p; /* by itself, so that pointers to it stay valid */
    enum init_kind kind;
    float spread;
};

struct params {
    struct entry *e;
    int32_t n, cap;
    bool trainable;
};

struct params *params_new(bool trainable)
{
    struct params *ps = xcalloc(1, sizeof *ps);
    ps->trainable = trainable;
    return ps;
}

void params_free(struct params *ps)
{
    if (!ps) return;
    for (int32_t i = 0; i < ps->n; i++) {
        free(ps->e[i].p->name);
        free(ps->e[i].p->t.x);
        free(ps->e[i].p->t.g);
        free(ps->e[i].p);
    }
    free(ps->e);
    free(ps);
}

static size_t size_of(const struct param *p) { return (size_t)p->t.rows * (size_t)p->t.cols; }

static float *zeroed(size_t n)
{
    float *x = xaligned(n * sizeof *x);
    memset(x, 0, n * sizeof *x);
    return x;
}

struct param *params_add(struct params *ps, const char *name, int32_t rows, int32_t cols,
                         uint32_t group, enum init_kind kind, float spread)
{
    REQUIRE(rows > 0 && cols > 0, "parameter %s is [%d,%d]", name, rows, cols);
    REQUIRE(!params_find(ps, name), "parameter %s declared twice", name);
    if (ps->n == ps->cap) {
        ps->cap = ps->cap ? ps->cap * 2 : 32;
        ps->e = xrealloc(ps->e, (size_t)ps->cap, sizeof *ps->e);
    }
    struct param *p = xcalloc(1, sizeof *p);
    p->name = xstrdup(name);
    p->group = group;
    p->decay = kind == INIT_NORMAL || kind == INIT_UNIFORM;
    p->t.rows = rows;
    p->t.cols = cols;
    p->t.x = zeroed(size_of(p));
    p->t.g = ps->trainable ? zeroed(size_of(p)) : NULL;
    ps->e[ps->n++] = (struct entry){ p, kind, spread };
    return p;
}

struct param *params_want(struct params *ps, const char *name, int32_t rows, int32_t cols,
                          uint32_t group, enum init_kind kind, float spread)
{
    struct param *p = params_find(ps, name);
    if (!p) return params_add(ps, name, rows, cols, group, kind, spread);
    REQUIRE(p->t.rows == rows && p->t.cols == cols, "parameter %s is [%d,%d] and [%d,%d]", name,
            p->t.rows, p->t.cols, rows, cols);
    return p;
}

int32_t params_count(const struct params *ps) { return ps->n; }
struct param *params_at(const struct params *ps, int32_t i) { return ps->e[i].p; }

struct param *params_find(const struct params *ps, const char *name)
{
    for (int32_t i = 0; i < ps->n; i++)
        if (strcmp(ps->e[i].p->name, name) == 0) return ps->e[i].p;
    return NULL;
}

int64_t params_size(const struct params *ps)
{
    int64_t n = 0;
    for (int32_t i = 0; i < ps->n; i++) n += (int64_t)size_of(ps->e[i].p);
    return n;
}

/* FNV-1a: a parameter's random stream hangs on its name, not on the order of declaration. */
static uint64_t name_hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++) h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

static float first_value(const struct entry *e, struct rng *r)
{
    switch (e->kind) {
    case INIT_NORMAL: return e->spread * rng_normal(r);
    case INIT_UNIFORM: return e->spread * (float)(2 * rng_f64(r) - 1);
    case INIT_ONE: return 1;
    case INIT_ZERO: break;
    }
    return 0;
}

void params_init(struct params *ps, uint64_t seed)
{
    for (int32_t i = 0; i < ps->n; i++) {
        struct param *p = ps->e[i].p;
        struct rng r = rng_make(seed ^ name_hash(p->name), RNG_INIT);
        for (size_t j = 0; j < size_of(p); j++) p->t.x[j] = first_value(&ps->e[i], &r);
    }
}

void params_part(struct param *p)
{
    free(p->t.g);
    p->t.g = NULL;
}

void params_zero_grad(struct params *ps)
{
    for (int32_t i = 0; i < ps->n; i++)
        if (ps->e[i].p->t.g) memset(ps->e[i].p->t.g, 0, size_of(ps->e[i].p) * sizeof(float));
}

void params_copy(struct params *dst, const struct params *src)
{
    REQUIRE(dst->n == src->n, "%d parameters into %d", src->n, dst->n);
    for (int32_t i = 0; i < src->n; i++) {
        REQUIRE(size_of(dst->e[i].p) == size_of(src->e[i].p), "%s differs in size",
                src->e[i].p->name);
        memcpy(dst->e[i].p->t.x, src->e[i].p->t.x, size_of(src->e[i].p) * sizeof(float));
    }
}
