/* schema.h — features of the rank model: what a recipe says about them, and text to rows of embedding tables.
 *   [feature brand]                    [feature tag_brand_list]      [group item]
 *   kind = id                          kind = sequence               features = brand, price
 *   hash_buckets = 100000              of = brand
 *   struct schema s = { 0 };
 *   schema_set(&s, "feature brand", "kind", "id", &e); ...  schema_check(&s, &e);
 *   row = schema_row(&s, f, "4711", 4);            schema_free(&s);
 * Row 0 of every table is for what is missing or not known; values follow:
 *   hash_buckets   1 + XXH3_64bits(the trimmed bytes) mod hash_buckets
 *   vocabulary     1 + place in the list
 *   number         1 + how many boundaries are <= it
 * kinds: id one value; number one number; tags several values of a cell, their embeddings add up; sequence several
 * values in time, oldest first.  `of`: the table and the values of another feature.  Thread: owner; schema_row: any. */
#pragma once
#include "core/base/conf.h"
#include "core/base/limits.h"
#include "core/data/text.h"

enum feature_kind { FEATURE_ID, FEATURE_NUMBER, FEATURE_TAGS, FEATURE_SEQUENCE };
enum schema_group { SCHEMA_USER, SCHEMA_ITEM, SCHEMA_SEQUENCE, SCHEMA_GROUPS };
extern const char *const schema_group_name[SCHEMA_GROUPS]; /* "user" "item" "sequence" */

struct feature {
    char name[LIMIT_FIELD_NAME + 1];
    /* as written: feature_opts */
    int32_t kind, hash_buckets, width, buckets;
    char *vocabulary, *boundaries, *separator, *of;
    bool context;
    /* by schema_check */
    int32_t table;    /* the feature whose table and values these are: itself, or `of` */
    char **word;      /* [n_words] of the vocabulary */
    int32_t *by_text; /* [n_words] their places, by text */
    int32_t n_words;
    double *bound; /* [n_bounds] ascending */
    int32_t n_bounds;
};
extern const struct opt feature_opts[];

struct schema {
    struct feature *f[LIMIT_FEATURES];
    int32_t n;
    char *group[SCHEMA_GROUPS]; /* as written, or NULL */
    /* by schema_check: features of each group in their order */
    int32_t member[SCHEMA_GROUPS][LIMIT_FEATURES], n_members[SCHEMA_GROUPS];
};

/* Is it [feature ...] or [group ...]? */
bool schema_section(const char *section);
/* A key of such a section; key NULL: the section alone, which makes the feature.  ERR_CONFIG. */
NODISCARD int schema_set(struct schema *s, const char *section, const char *key,
                         const char *value, struct err *e);
void schema_free(struct schema *s); /* leaves it empty */

/* Kinds, groups and values agree; fills what the comments above say, again if need be.  Numbers with `buckets`
 * may still lack their boundaries. */
NODISCARD int schema_check(struct schema *s, struct err *e);
int32_t schema_find(const struct schema *s, const char *name, size_t len); /* or -1 */
int32_t schema_group_of(const struct schema *s, int32_t f); /* enum schema_group; -1: none */
/* A number whose boundaries schema_fit has to find. */
bool schema_unfitted(const struct schema *s, int32_t f);
/* Boundaries that part n finite values (sorted here) into `buckets` parts of nearly equal sizes. */
void schema_fit(struct schema *s, int32_t f, double *value, int64_t n);
int32_t schema_rows(const struct schema *s, int32_t f); /* of its table */

/* Of one value; any bytes.  A number that is none: 0. */
int32_t schema_row(const struct schema *s, int32_t f, const char *text, size_t n);
/* Of the values of a cell: of tags and sequences at separators, else one; of tags each row once, and no empty ones.
 * The last at most `most` of them (of tags LIMIT_TAGS at most): their number.  row [most] */
int32_t schema_cell(const struct schema *s, int32_t f, const char *text, size_t n, int32_t *row,
                    int32_t most);
/* The last `most` parts of text, which sep divides. */
struct span schema_newest(struct span text, char sep, int32_t most);
bool schema_has(const int32_t *row, int32_t n, int32_t one); /* is it among them? */
