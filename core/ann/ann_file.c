#include "core/ann/ann_file.h"
#include "core/base/mem.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    METRIC_IP = 0,
    MAX_LEVELS = 64,     /* FAISS draws about ln(V)/ln(M) of them */
    MAX_LINKS = 1 << 12, /* of one node on all levels */
    MAX_EF = 1 << 16,
};

struct cursor {
    const uint8_t *p, *end;
};

/* A length-prefixed array inside the file; its elements may lie unaligned. */
struct array {
    const uint8_t *p;
    size_t n;
};

static int bad(struct err *e, const char *what)
{
    return err_set(e, ERR_BAD_BUNDLE, "index file: %s", what);
}

static int take(void *out, struct cursor *c, size_t nb, struct err *e)
{
    if ((size_t)(c->end - c->p) < nb) return bad(e, "truncated");
    memcpy(out, c->p, nb);
    c->p += nb;
    return 0;
}

static int take_array(struct array *a, struct cursor *c, size_t nb_elem, struct err *e)
{
    uint64_t n;
    TRY(take(&n, c, sizeof n, e));
    if (n > (size_t)(c->end - c->p) / nb_elem) return bad(e, "truncated array");
    *a = (struct array){ .p = c->p, .n = (size_t)n };
    c->p += a->n * nb_elem;
    return 0;
}

static int32_t i32_at(const struct array *a, size_t i)
{
    int32_t v;
    memcpy(&v, a->p + i * sizeof v, sizeof v);
    return v;
}

static uint64_t u64_at(const struct array *a, size_t i)
{
    uint64_t v;
    memcpy(&v, a->p + i * sizeof v, sizeof v);
    return v;
}

/* The fields every FAISS index starts with. */
static int check_header(struct cursor *c, int32_t V, int32_t D, struct err *e)
{
    int32_t d, metric;
    int64_t n, unused;
    uint8_t trained;
    TRY(take(&d, c, sizeof d, e));
    TRY(take(&n, c, sizeof n, e));
    TRY(take(&unused, c, sizeof unused, e));
    TRY(take(&unused, c, sizeof unused, e));
    TRY(take(&trained, c, sizeof trained, e));
    TRY(take(&metric, c, sizeof metric, e));
    if (d != D)
        return err_set(e, ERR_BAD_BUNDLE, "index file: dimension %d, expected %d", d, D);
    if (n != V)
        return err_set(e, ERR_BAD_BUNDLE, "index file: %lld rows, expected %d", (long long)n,
                       V);
    if (trained != 1) return bad(e, "not trained");
    if (metric != METRIC_IP) return bad(e, "its metric is not inner product");
    return 0;
}

/* n rows that lie one behind the other. */
static int check_values(const uint8_t *p, size_t n, int32_t D, struct err *e)
{
    for (size_t i = 0; i < n * (size_t)D; i++) {
        float x;
        memcpy(&x, p + i * sizeof x, sizeof x);
        if (!isfinite(x))
            return err_set(e, ERR_BAD_BUNDLE, "index file: row %zu is not finite",
                           i / (size_t)D);
    }
    return 0;
}

static int check_flat(struct cursor *c, int32_t V, int32_t D, struct err *e)
{
    struct array rows;
    TRY(check_header(c, V, D, e));
    TRY(take_array(&rows, c, sizeof(float), e));
    if (rows.n != (size_t)V * (size_t)D)
        return bad(e, "number of values is not rows times dimension");
    return check_values(rows.p, (size_t)V, D, e);
}

/* FAISS's struct HNSW: row i owns links[offset[i] .. offset[i+1]), level l of them from
 * cum[l] to cum[l+1]. */
struct graph {
    struct array cum, level, offset, link;
};

static int check_node(const struct graph *g, int32_t V, size_t i, struct err *e)
{
    int32_t n_levels = i32_at(&g->level, i);
    if (n_levels < 1 || (size_t)n_levels >= g->cum.n)
        return bad(e, "a node's level is out of range");
    uint64_t from = u64_at(&g->offset, i), n = (uint64_t)i32_at(&g->cum, (size_t)n_levels);
    if (from > g->link.n || n > g->link.n - from || u64_at(&g->offset, i + 1) != from + n)
        return bad(e, "a node's links are out of range");
    for (int32_t l = 0; l < n_levels; l++) {
        uint64_t end = from + (uint64_t)i32_at(&g->cum, (size_t)l + 1);
        for (uint64_t j = from + (uint64_t)i32_at(&g->cum, (size_t)l); j < end; j++) {
            int32_t to = i32_at(&g->link, j);
            if (to == -1) break; /* FAISS stops reading a level here as well */
            if (to < 0 || to >= V) return bad(e, "a link leads nowhere");
            if (i32_at(&g->level, (size_t)to) <= l)
                return bad(e, "a link leads to a lower level");
        }
    }
    return 0;
}

static int check_levels(const struct graph *g, struct err *e)
{
    if (g->cum.n < 2 || g->cum.n > MAX_LEVELS)
        return bad(e, "number of levels is out of range");
    if (i32_at(&g->cum, 0) != 0) return bad(e, "links don't start at 0");
    for (size_t l = 1; l < g->cum.n; l++) {
        int32_t n = i32_at(&g->cum, l);
        if (n <= i32_at(&g->cum, l - 1) || n > MAX_LINKS)
            return bad(e, "links of a level are out of range");
    }
    return 0;
}

static int check_graph(struct ann_file *f, struct cursor *c, int32_t V, struct err *e)
{
    struct graph g;
    struct array probas;
    int32_t entry, max_level, ef_construction, ef_search, beam;
    TRY(take_array(&probas, c, sizeof(double), e));
    TRY(take_array(&g.cum, c, sizeof(int32_t), e));
    TRY(take_array(&g.level, c, sizeof(int32_t), e));
    TRY(take_array(&g.offset, c, sizeof(uint64_t), e));
    TRY(take_array(&g.link, c, sizeof(int32_t), e));
    TRY(take(&entry, c, sizeof entry, e));
    TRY(take(&max_level, c, sizeof max_level, e));
    TRY(take(&ef_construction, c, sizeof ef_construction, e));
    TRY(take(&ef_search, c, sizeof ef_search, e));
    TRY(take(&beam, c, sizeof beam, e));

    TRY(check_levels(&g, e));
    if (probas.n > MAX_LEVELS) return bad(e, "number of levels is out of range");
    if (g.level.n != (size_t)V || g.offset.n != (size_t)V + 1)
        return bad(e, "graph and rows differ in number");
    if (u64_at(&g.offset, 0) != 0 || u64_at(&g.offset, (size_t)V) != g.link.n)
        return bad(e, "links are not all owned");
    for (size_t i = 0; i < (size_t)V; i++) {
        int32_t n_levels = i32_at(&g.level, i);
        if (n_levels < 1 || (size_t)n_levels >= g.cum.n)
            return bad(e, "a node's level is out of range");
    }
    for (size_t i = 0; i < (size_t)V; i++) TRY(check_node(&g, V, i, e));
    if (entry < 0 || entry >= V || i32_at(&g.level, (size_t)entry) - 1 != max_level)
        return bad(e, "the entry point is out of range");
    if (ef_construction < 1 || ef_construction > MAX_EF || ef_search < 1 ||
        ef_search > MAX_EF || beam != 1)
        return bad(e, "search parameters are out of range");
    f->M = i32_at(&g.cum, 1) / 2; /* level 0 has twice as many links as the others */
    f->width = ef_search;
    return 0;
}

/* ---- IVF ---- */

struct
    lists { /* of an IVF index: how many rows each has, then rows and their numbers list by list */
    int32_t n, V, D;
    uint64_t *size; /* [n] */
    uint8_t *seen;  /* [V]: 1 where a list has the row */
};

/* Sizes are stored for every list, or as (list, size) for those that have rows. */
static int take_sizes(struct lists *l, struct cursor *c, struct err *e)
{
    char form[4];
    struct array a;
    TRY(take(form, c, sizeof form, e));
    TRY(take_array(&a, c, sizeof(uint64_t), e));
    if (memcmp(form, "full", 4) == 0) {
        if (a.n != (size_t)l->n) return bad(e, "number of lists differs");
        for (size_t i = 0; i < a.n; i++) l->size[i] = u64_at(&a, i);
    } else if (memcmp(form, "sprs", 4) == 0 && a.n % 2 == 0) {
        for (size_t i = 0; i < a.n; i += 2) {
            const uint64_t list = u64_at(&a, i);
            if (list >= (uint64_t)l->n || (i > 0 && list <= u64_at(&a, i - 2)))
                return bad(e, "lists are out of order");
            l->size[list] = u64_at(&a, i + 1);
        }
    } else {
        return bad(e, "sizes of its lists can't be read");
    }
    uint64_t left = (uint64_t)l->V;
    for (int32_t i = 0; i < l->n; i++) {
        if (l->size[i] > left) return bad(e, "lists hold more rows than there are");
        left -= l->size[i];
    }
    return left > 0 ? bad(e, "lists hold fewer rows than there are") : 0;
}

static int check_list(struct lists *l, struct cursor *c, size_t n, struct err *e)
{
    const size_t nb_row = (size_t)l->D * sizeof(float), left = (size_t)(c->end - c->p);
    if (left / (nb_row + sizeof(int64_t)) < n) return bad(e, "truncated list");
    TRY(check_values(c->p, n, l->D, e));
    c->p += n * nb_row;
    for (size_t i = 0; i < n; i++) {
        int64_t row;
        TRY(take(&row, c, sizeof row, e));
        if (row < 0 || row >= l->V) return bad(e, "a list's row is out of range");
        if (l->seen[row]++) return bad(e, "a row is in two lists");
    }
    return 0;
}

static int check_lists(struct lists *l, struct cursor *c, struct err *e)
{
    char type[4];
    uint64_t n, nb_row;
    TRY(take(type, c, sizeof type, e));
    TRY(take(&n, c, sizeof n, e));
    TRY(take(&nb_row, c, sizeof nb_row, e));
    if (memcmp(type, "ilar", 4) != 0) return bad(e, "its lists are of another kind");
    if (n != (uint64_t)l->n) return bad(e, "number of lists differs");
    if (nb_row != (uint64_t)l->D * sizeof(float))
        return bad(e, "its rows are not as they were");
    TRY(take_sizes(l, c, e));
    for (int32_t i = 0; i < l->n; i++) TRY(check_list(l, c, (size_t)l->size[i], e));
    return 0;
}

/* The map from rows to lists, which FAISS may keep: none. */
static int check_no_map(struct cursor *c, struct err *e)
{
    uint8_t type;
    struct array map;
    TRY(take(&type, c, sizeof type, e));
    TRY(take_array(&map, c, sizeof(int64_t), e));
    return type != 0 || map.n != 0 ? bad(e, "it has a map of its rows") : 0;
}

static int check_ivf(struct ann_file *f, struct cursor *c, int32_t V, int32_t D, struct err *e)
{
    uint64_t n, n_probe;
    char type[4];
    TRY(check_header(c, V, D, e));
    TRY(take(&n, c, sizeof n, e));
    TRY(take(&n_probe, c, sizeof n_probe, e));
    if (n < 1 || n > (uint64_t)V) return bad(e, "number of lists is out of range");
    if (n_probe < 1 || n_probe > n) return bad(e, "search parameters are out of range");
    TRY(take(type, c, sizeof type, e));
    if (memcmp(type, "IxFI", 4) != 0) return bad(e, "its centroids are no flat index");
    TRY(check_flat(c, (int32_t)n, D, e));
    TRY(check_no_map(c, e));
    struct lists l = { .n = (int32_t)n, .V = V, .D = D };
    l.size = xcalloc((size_t)n, sizeof *l.size);
    l.seen = xcalloc((size_t)V, 1);
    int rc = check_lists(&l, c, e);
    free(l.seen);
    free(l.size);
    f->n_lists = (int32_t)n;
    f->width = (int32_t)n_probe;
    return rc;
}

int ann_file_check(struct ann_file *f, const void *data, size_t nb, int32_t V, int32_t D,
                   struct err *e)
{
    struct cursor c = { .p = data, .end = (const uint8_t *)data + nb };
    char type[4];
    *f = (struct ann_file){ 0 };
    if (V < 1 || D < 1) return bad(e, "no rows expected");
    TRY(take(type, &c, sizeof type, e));
    if (memcmp(type, "IwFl", 4) == 0) {
        TRY(check_ivf(f, &c, V, D, e));
    } else {
        if (memcmp(type, "IHNf", 4) == 0) {
            TRY(check_header(&c, V, D, e));
            TRY(check_graph(f, &c, V, e));
            TRY(take(type, &c, sizeof type, e));
        }
        if (memcmp(type, "IxFI", 4) != 0)
            return bad(e, "no flat, HNSW or IVF index by inner product");
        TRY(check_flat(&c, V, D, e));
    }
    if (c.p != c.end) return bad(e, "bytes left over at its end");
    return 0;
}
