/* read.h — readers of interaction files, chosen by content.  Untrusted bytes: caps of limits.h,
 * good events kept, bad ones counted by reason with the first line of each.
 * Formats: user-sequence text (`user item item ...` a line; a user may have several lines), RecBole .inter
 * (typed TAB header), MovieLens ratings.csv (userId,movieId,rating,timestamp; any CSV whose header names a user and an item
 * column) with movies.csv (movieId,title,genres).
 * Events of one user are ordered by timestamp, ties in file order; user-sequence text is never re-sorted.
 *   struct interactions *x = interactions_new();
 *   read_events(x, "ratings.csv", READ_AUTO, &st, &e);   read_report(&st, "ratings.csv", stderr);
 *   interactions_write(x, "var/ml", 2, &st, &e);         interactions_free(x);
 * Thread: owner. */
#pragma once
#include "core/base/err.h"
#include "core/data/items.h"
#include <stdio.h>

enum read_format { READ_AUTO, READ_SEQ, READ_INTER, READ_MOVIELENS };

#define READ_DROP_MAP(X)                                                                       \
    X(DROP_EMPTY_ID, "empty id")                                                               \
    X(DROP_LONG_ID, "id too long")                                                             \
    X(DROP_FIELDS, "wrong number of fields")                                                   \
    X(DROP_TIME, "bad timestamp")                                                              \
    X(DROP_NUL, "NUL byte")                                                                    \
    X(DROP_UTF8, "id is not UTF-8")                                                            \
    X(DROP_LONG_LINE, "line too long")                                                         \
    X(DROP_SHORT_USER, "user with fewer than the minimum of events")

enum read_drop {
#define READ_DROP_ENUM_(n, t) n,
    READ_DROP_MAP(READ_DROP_ENUM_)
#undef READ_DROP_ENUM_
        DROP_KINDS
};
extern const char *const read_drop_text[DROP_KINDS];
extern const char *const read_format_name[]; /* "auto" "seq" "inter" "movielens" */

/* events = kept + the sum of dropped; a line without a readable event counts as one. */
struct read_stats {
    int64_t lines, events, kept;
    int64_t dropped[DROP_KINDS], first_line[DROP_KINDS];
    int64_t short_users;     /* users behind dropped[DROP_SHORT_USER] */
    const char *short_file;  /* file of the first of them, owned by the interactions */
    enum read_format format; /* READ_AUTO: an empty file */
};

struct interactions; /* events gathered so far: users, items, order */
struct interactions *interactions_new(void);
void interactions_free(struct interactions *x);

/* Pure parsing of one file's bytes into x.  ERR_FORMAT: no known format, or timestamps in one file
 * and none in another; ERR_LIMIT: too many users or items.  An empty file is no error. */
NODISCARD int read_events_mem(struct interactions *x, const char *data, size_t nb,
                              const char *name, enum read_format f, struct read_stats *st,
                              struct err *e);
NODISCARD int read_events(struct interactions *x, const char *path, enum read_format f,
                          struct read_stats *st, struct err *e);

struct title_stats {
    int64_t lines, matched, unknown; /* of items among the events, of others */
    int64_t bad, first_bad;          /* ragged lines, line of the first */
};
/* Titles for items read so far: movies.csv, or CSV or TSV (typed as RecBole's .item or not) with a header that
 * names an item column and one of title, movie_title, name, item_name, attributes (in this order). Bytes that
 * are not UTF-8 are taken for Latin-1. */
NODISCARD int read_titles_mem(struct interactions *x, const char *data, size_t nb,
                              const char *name, struct title_stats *st, struct err *e);
NODISCARD int read_titles(struct interactions *x, const char *path, struct title_stats *st,
                          struct err *e);

/* Orders events, drops users with fewer than min_events, numbers items in order of first appearance,
 * counts popularity on the training part, writes the data set directory (atomically).  st: events
 * and kept events of all files and the short users.  ERR_EMPTY: nothing is left. */
NODISCARD int interactions_write(struct interactions *x, const char *dir, int min_events,
                                 struct read_stats *st, struct err *e);
/* For people, lines "name:line: ...": what read_events took and dropped and why, and which users
 * interactions_write dropped. */
void read_report(const struct read_stats *st, const char *name, FILE *f);
void read_report_users(const struct read_stats *st, FILE *f);
