#include "models/mutual.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdlib.h>

struct cell {
    int64_t key; /* a (n_b + 1) + b, "none" last */
    double p;
};

static int by_key(const void *x, const void *y)
{
    int64_t a = ((const struct cell *)x)->key, b = ((const struct cell *)y)->key;
    return (a > b) - (a < b);
}

static int32_t size_of(const struct item_field *f, int32_t v)
{
    int32_t n = f->cu[v + 1] - f->cu[v];
    return n > 0 ? n : 1;
}

static int32_t value_of(const struct item_field *f, int32_t v, int32_t k)
{
    return f->cu[v + 1] > f->cu[v] ? f->id[f->cu[v] + k] : f->n_values;
}

/* P of every value of a field. */
static double *margin(const struct item_field *f, int32_t V)
{
    double *p = xcalloc((size_t)f->n_values + 1, sizeof *p);
    for (int32_t v = 0; v < V; v++)
        for (int32_t k = 0; k < size_of(f, v); k++)
            p[value_of(f, v, k)] += 1.0 / ((double)V * size_of(f, v));
    return p;
}

/* The pairs of values that occur, each once with its P; their number. */
static int64_t joint(struct cell **out, const struct item_field *a, const struct item_field *b,
                     int32_t V)
{
    int64_t n = 0, m = 0;
    for (int32_t v = 0; v < V; v++) n += (int64_t)size_of(a, v) * size_of(b, v);
    struct cell *c = *out = xcalloc((size_t)n, sizeof *c);
    n = 0;
    for (int32_t v = 0; v < V; v++)
        for (int32_t i = 0; i < size_of(a, v); i++)
            for (int32_t j = 0; j < size_of(b, v); j++, n++)
                c[n] = (struct cell){ value_of(a, v, i) * (b->n_values + (int64_t)1) +
                                          value_of(b, v, j),
                                      1.0 / ((double)V * size_of(a, v) * size_of(b, v)) };
    qsort(c, (size_t)n, sizeof *c, by_key);
    for (int64_t i = 0; i < n; i++) {
        if (m > 0 && c[m - 1].key == c[i].key)
            c[m - 1].p += c[i].p;
        else
            c[m++] = c[i];
    }
    return m;
}

void mutual_information(double *mi, const struct item_fields *f)
{
    double **p = xcalloc((size_t)f->n, sizeof *p);
    for (int32_t i = 0; i < f->n; i++) p[i] = margin(&f->field[i], f->n_items);
    for (int32_t i = 0; i < f->n; i++)
        for (int32_t j = i; j < f->n; j++) {
            const int64_t width = f->field[j].n_values + (int64_t)1;
            struct cell *c;
            int64_t n = joint(&c, &f->field[i], &f->field[j], f->n_items);
            double sum = 0;
            for (int64_t k = 0; k < n; k++)
                sum += c[k].p * log(c[k].p / (p[i][c[k].key / width] * p[j][c[k].key % width]));
            mi[i * f->n + j] = mi[j * f->n + i] = sum;
            free(c);
        }
    for (int32_t i = 0; i < f->n; i++) free(p[i]);
    free(p);
}
