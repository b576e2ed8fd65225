/* columns.h — which column of a table is what: named by the caller, otherwise guessed from the header.
 *   struct columns c; struct column_names want = { { [COL_USER] = "visitor" } };
 *   columns_find(&c, header, ',', 1u << COL_USER | 1u << COL_ITEM, &want, "f.csv", 1, &e);    c.at[COL_USER]
 * Thread: any (pure). */
#pragma once
#include "core/base/err.h"
#include "core/data/text.h"

enum column { COL_USER, COL_ITEM, COL_TIME, COL_EVENT, COL_TITLE, COL_KINDS };
extern const char *const column_text[COL_KINDS]; /* "user" "item" "time" "event" "title" */

/* By kind; NULL: to be guessed, "-": there is none. */
struct column_names {
    const char *name[COL_KINDS];
};
enum { FIELDS_MAX = 256 }; /* fields one header or record may have */
struct columns {
    int at[COL_KINDS]; /* -1: there is none */
    size_t n;          /* fields of the header */
    bool quotes;       /* fields may be quoted */
    char sep;
};

/* Looks for the kinds of a mask of 1 << COL_...; the others are -1.  ERR_FORMAT names the file and line: a named
 * column that is not there, two of one name, too many columns. */
NODISCARD int columns_find(struct columns *c, struct span header, char sep, unsigned kinds,
                           const struct column_names *want, const char *file, int64_t line,
                           struct err *e);
/* A column's name without RecBole's ":token"; *type, unless NULL, is what follows the colon. */
struct span columns_name(struct field f, struct span *type);
/* Of the fields of a line: a tab where it has one, else the more frequent of ',' and ';'. */
char columns_separator(struct span line);
/* The one that gives a line n fields; else the same. */
char columns_separator_of(struct span line, size_t n);
/* RecBole: every field of the header ends in ":token", ":token_seq", ":float" or ":float_seq". */
bool columns_typed(struct span header);
/* Content of a field that is used as an id, trimmed; buf [2 LIMIT_ID_BYTES] is for doubled quotes.  A longer id
 * keeps a length that is refused. */
struct span columns_id(struct field f, char *buf);
/* "'a', 'b', 'c'" of a header, for messages. */
void columns_list(char *out, size_t n, struct span header, char sep);
/* "user = userId, item = movieId" of the kinds that were found. */
void columns_describe(char *out, size_t n, const struct columns *c, struct span header);
