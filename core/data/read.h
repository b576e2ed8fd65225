/* read.h — readers of interaction files, chosen by content.  Untrusted bytes: caps of limits.h,
 * good rows kept, bad ones counted by reason with the first line of each.
 * Formats: user-sequence text (`user item item ...` a line), RecBole .inter (typed TAB header),
 * MovieLens ratings.csv (userId,movieId,rating,timestamp) with movies.csv (movieId,title,genres).
 * Events of one user are ordered by timestamp, ties in file order; user-sequence text is never re-sorted.
 * Thread: owner. */
#pragma once
#include "core/base/err.h"
#include "core/data/items.h"
#include <stdio.h>

enum read_format { READ_AUTO, READ_SEQ, READ_INTER, READ_MOVIELENS };

#define READ_DROP_MAP(X)                                                                        \
    X(DROP_EMPTY_ID, "empty id")                                                               \
    X(DROP_LONG_ID, "id too long")                                                             \
    X(DROP_FIELDS, "wrong number of fields")                                                   \
    X(DROP_TIME, "bad timestamp")                                                              \
    X(DROP_NUL, "NUL byte")                                                                    \
    X(DROP_SHORT_USER, "user with fewer than the minimum of events")

enum read_drop {
#define READ_DROP_ENUM_(n, t) n,
    READ_DROP_MAP(READ_DROP_ENUM_)
#undef READ_DROP_ENUM_
    DROP_KINDS
};

struct read_stats {
    int64_t lines, events, kept;
    int64_t dropped[DROP_KINDS], first_line[DROP_KINDS];
    enum read_format format;
};

struct interactions; /* events gathered so far: users, items, order */
struct interactions *interactions_new(void);
void interactions_free(struct interactions *x);
/* Pure parsing of one file's bytes into x. */
NODISCARD int read_events_mem(struct interactions *x, const char *data, size_t nb,
                              const char *name, enum read_format f, struct read_stats *st,
                              struct err *e);
NODISCARD int read_events(struct interactions *x, const char *path, enum read_format f,
                          struct read_stats *st, struct err *e);
/* Titles: movies.csv or TSV `item TAB ... ` with a header naming item and title. */
NODISCARD int read_titles(struct interactions *x, const char *path, struct err *e);
/* Orders events, drops users with fewer than min_events, numbers items in order of first appearance,
 * counts popularity on the training part, writes the data set directory (atomically). */
NODISCARD int interactions_write(struct interactions *x, const char *dir, int min_events,
                                 struct read_stats *st, struct err *e);
/* What was read, dropped and why, for people. */
void read_report(const struct read_stats *st, const char *name, FILE *f);
