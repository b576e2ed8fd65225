/* clicks.h — impressions in columns: a table with a header (CSV or TSV, packed or not), of which a schema makes rows of
 * embedding tables.  A column is found by its feature's name.
 *   struct clicks c;  clicks_read(&c, &schema, "clicks.csv", &o, &e);  ...  clicks_free(&c);
 * A damaged line is dropped and counted: another number of fields, a label that is not from 0 to 1, no user or item,
 * sequences of different lengths.  Untrusted bytes.  Thread: owner. */
#pragma once
#include "core/data/items.h"
#include "core/data/schema.h"

struct clicks_opts {
    const char *label, *user, *item; /* columns; NULL: not wanted */
    int32_t max_len;                 /* newest steps of a sequence that are kept */
    bool
        fit; /* find what boundaries of numbers are missing; otherwise the schema must have them */
    bool strict; /* a damaged line is an error */
    struct items_builder
        *items; /* gets every item, its features as its first line has them; NULL: not wanted */
};

struct clicks_column {
    int32_t *id; /* [n], or [cu[n]] of tags */
    int32_t *cu; /* [n+1]; NULL but for tags */
    int64_t n_id, cap_id;
};
struct clicks {
    int32_t n;                                   /* impressions */
    float *label;                                /* [n] */
    int32_t *user;                               /* [n] numbers from 0 */
    struct clicks_column column[LIMIT_FEATURES]; /* of the features of users and items */
    int32_t *seq_cu;                             /* [n+1] */
    struct clicks_column step[LIMIT_FEATURES];   /* of the sequence's features, [seq_cu[n]] */
    int64_t bad, first_bad;                      /* damaged lines, number of the first */
    char why[64];                                /* of the first */
    int64_t not_utf8;                            /* cells, whose values count as missing */
    char damage[128];                            /* of a packed file */
    int64_t cap_;
};

/* The schema is checked.  ERR_FORMAT: no header, a column is missing; ERR_EMPTY: no line is left. */
NODISCARD int clicks_read(struct clicks *c, struct schema *s, const char *path,
                          const struct clicks_opts *o, struct err *e);
NODISCARD int clicks_read_mem(struct clicks *c, struct schema *s, const char *data, size_t nb,
                              const char *name, const struct clicks_opts *o, struct err *e);
void clicks_free(struct clicks *c);
