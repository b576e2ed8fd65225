/* read.h — readers of interaction files, chosen by content.  Untrusted bytes: caps of limits.h,
 * good events kept, bad ones counted by reason with the first line of each.
 * Formats: user-sequence text (`user item item ...` a line; a user may have several lines), RecBole .inter
 * (typed TAB header), CSV (comma or semicolon, RFC 4180 quotes within a line) and TSV with a header that names a user and an
 * item column, in any order, with time and event type or not.  gzip and zstd are unpacked.
 * Events of one user are ordered by timestamp, ties in file order; user-sequence text is never re-sorted.
 *   struct interactions *x = interactions_new();
 *   read_events(x, "clicks.csv.gz", NULL, &st, &e);   read_report(&st, "clicks.csv.gz", stderr);
 *   interactions_write(x, "var/ml", &(struct write_opts){ .min_events = 2 }, &st, &e);   interactions_free(x);
 * Thread: owner. */
#pragma once
#include "core/base/err.h"
#include "core/data/columns.h"
#include "core/data/event_types.h"
#include "core/data/items.h"
#include "core/data/split.h"
#include <stdio.h>

enum read_format { READ_AUTO, READ_SEQ, READ_INTER, READ_CSV, READ_TSV };

#define READ_DROP_MAP(X)                                                                       \
    X(DROP_EMPTY_ID, "empty id")                                                               \
    X(DROP_LONG_ID, "id too long")                                                             \
    X(DROP_CONTROL, "tab or control character in an id")                                       \
    X(DROP_UTF8, "id is not UTF-8")                                                            \
    X(DROP_FIELDS, "wrong number of fields")                                                   \
    X(DROP_TIME,                                                                               \
      "timestamp is neither a number of s, ms, us, ns nor ISO 8601, from 1970 to 2100")        \
    X(DROP_LONG_LINE, "line too long")                                                         \
    X(DROP_EVENT_TYPE, "event type not asked for")                                             \
    X(DROP_SHORT_USER, "user with fewer than the minimum of events")                           \
    X(DROP_RARE_ITEM, "item with fewer than the minimum of events")

enum read_drop {
#define READ_DROP_ENUM_(n, t) n,
    READ_DROP_MAP(READ_DROP_ENUM_)
#undef READ_DROP_ENUM_
        DROP_KINDS
};
extern const char *const read_drop_text[DROP_KINDS];
extern const char *const read_format_name[]; /* "auto" "seq" "inter" "csv" "tsv" */

struct read_opts {
    enum read_format format;
    struct column_names columns; /* which names are for what; of tables */
    const char
        *header; /* names of the columns, comma-separated, of a table that has no header */
    const struct event_types *types; /* NULL: all events, each with weight 1 */
};

enum { READ_TYPES = 12 }; /* event types that are counted one by one */
struct type_count {
    char name[32]; /* cut */
    int64_t n;
};

/* events = kept + the sum of dropped; a line without a readable event counts as one. */
struct read_stats {
    int64_t lines, events, kept;
    int64_t dropped[DROP_KINDS], first_line[DROP_KINDS];
    int64_t short_users, rare_items; /* behind dropped[DROP_SHORT_USER], [DROP_RARE_ITEM] */
    const char *short_file;  /* file of the first short user, owned by the interactions */
    enum read_format format; /* READ_AUTO: an empty file */
    char columns[256];       /* "user = userId, item = movieId", of tables */
    const char *packed;      /* "gzip", "zstd" or NULL */
    char damage[128];        /* of a packed file, "" when all is well */
    struct type_count type[READ_TYPES]; /* as they appear; the rest is in other_types */
    int n_types;
    int64_t other_types;
    bool all_types;  /* none were asked for */
    bool file_order; /* a table without a time column, which nobody said it lacks */
};

struct interactions; /* events gathered so far: users, items, order */
struct interactions *interactions_new(void);
void interactions_free(struct interactions *x);
struct items_builder *interactions_items(struct interactions *x); /* x's */

/* Pure parsing of one file's bytes into x; o may be NULL.  ERR_FORMAT: no known format, a column that is not
 * there, or timestamps in one file and none in another; ERR_LIMIT: too many users or items.  An empty file is no
 * error. */
NODISCARD int read_events_mem(struct interactions *x, const char *data, size_t nb,
                              const char *name, const struct read_opts *o,
                              struct read_stats *st, struct err *e);
NODISCARD int read_events(struct interactions *x, const char *path, const struct read_opts *o,
                          struct read_stats *st, struct err *e);

struct write_opts {
    int32_t min_events; /* of a user; shorter ones are dropped */
    int32_t
        min_item_events; /* of an item; 0 and 1 keep all.  Both are repeated until nothing changes: the k-core */
    struct split_opts split; /* zeros: leave-one-out */
};
/* Orders events, drops short users and rare items, numbers items in order of first appearance,
 * counts popularity on the training part, writes the data set directory (atomically).  st: the events that
 * readers kept, how many of them stay, and what was dropped here.  ERR_EMPTY: nothing is left.  x's events
 * become the data set's and are gone afterwards. */
NODISCARD int interactions_write(struct interactions *x, const char *dir,
                                 const struct write_opts *o, struct read_stats *st,
                                 struct err *e);
/* For people, lines "name:line: ...": what read_events took and dropped and why, and which users
 * and items interactions_write dropped. */
void read_report(const struct read_stats *st, const char *name, FILE *f);
void read_report_users(const struct read_stats *st, FILE *f);
