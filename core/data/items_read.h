/* items_read.h — what people know about items: titles and attribute fields, for items that are there: those among the
 * events read so far.
 *   struct items_stats st;  read_items(interactions_items(x), "movies.csv", NULL, &st, &e);   items_report(&st, "movies.csv", stderr);
 * Formats: CSV or TSV with a header (typed as RecBole's .item or not) that names an item column; a JSON object of
 * item id -> list of attributes (S3-Rec's item2attributes), one bag called "attributes".
 * Of a table every column but the item's and the title's becomes a field: of numbers where all are numbers (but for
 * whole ones in a column called ...id), else of values, several in one cell separated by '|' (by spaces in RecBole's
 * token_seq).  Columns in which nearly every entry has a value of its own (links, descriptions, ids) are left out
 * unless they are named.  NA, NaN, NULL, None and \\N are nothing.  gzip and zstd are unpacked.
 * Untrusted bytes; those that are not UTF-8 are taken for Latin-1.  Thread: owner of the items. */
#pragma once
#include "core/data/read.h"

struct items_opts {
    struct column_names columns; /* COL_ITEM, COL_TITLE */
    const char *header;          /* names of the columns where the file has none */
    const char
        *fields; /* "genres,year:number,brand:values": these and no others; NULL: guess */
    bool add;    /* takes items that are not there yet, and no others */
};

struct items_field_stats {
    char name[48];
    enum field_kind kind;
    int64_t filled,
        values; /* entries that have any; distinct values, 0 where they were not counted */
};
struct items_stats {
    int64_t matched, unknown; /* entries (lines) of items that are taken, of others */
    char first_unknown[64];   /* id of the first of those, perhaps cut */
    int64_t bad,
        first_bad; /* ragged lines, line of the first; of JSON entries that are no list, and 0 */
    int64_t titles;     /* entries with one */
    int64_t bad_values; /* empty, too long, with control characters, or no number */
    int n_fields;
    struct items_field_stats field[LIMIT_FIELDS];
    char left_out[256]; /* columns that did not become fields, and why */
    char damage[128];   /* of a packed file */
};

/* Pure parsing of one file's bytes.  ERR_FORMAT: no entry of an item that is there, no item column, a column or field that is not there, or neither
 * a title nor any field. */
NODISCARD int read_items_mem(struct items_builder *items, const char *data, size_t nb,
                             const char *name, const struct items_opts *o,
                             struct items_stats *st, struct err *e);
NODISCARD int read_items(struct items_builder *items, const char *path,
                         const struct items_opts *o, struct items_stats *st, struct err *e);
void items_report(const struct items_stats *st, const char *name, FILE *f); /* for people */
