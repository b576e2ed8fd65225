#include "core/data/schema.h"
#include "core/base/mem.h"
#include "core/base/order.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

const char *const schema_group_name[SCHEMA_GROUPS] = { "user", "item", "sequence" };

const struct opt feature_opts[] = {
    OPT_CHOICE(struct feature, kind, "id", "id|number|tags|sequence",
               "one value, a number, several values of a cell, or several in time"),
    OPT_INT(struct feature, hash_buckets, "0", 0, LIMIT_BUCKETS,
            "rows that values are hashed to; 0: they are listed"),
    OPT_STR(struct feature, vocabulary, NULL, "the values, with commas between"),
    OPT_STR(struct feature, boundaries, NULL,
            "of a number: ascending, with commas between; bucket i holds what lies from "
            "boundary i - 1 to below boundary i"),
    OPT_INT(struct feature, buckets, "0", 0, LIMIT_VOCABULARY,
            "of a number: so many of nearly equal sizes, found on the training data"),
    OPT_INT(struct feature, width, "16", 1, LIMIT_WIDTH, "of the embedding"),
    OPT_STR(struct feature, separator, "|", "between the values of a cell: one character"),
    OPT_STR(struct feature, of, NULL,
            "shares table and values of this feature; a sequence of an item's feature can be "
            "made of a history"),
    OPT_BOOL(struct feature, context, "false",
             "an item's feature that belongs to the request, not to the catalogue"),
    OPT_END
};

/* ---- sections ---- */

/* NAME of "feature NAME" or "group NAME", or NULL. */
static const char *name_after(const char *section, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(section, word, n) != 0 || section[n] != ' ') return NULL;
    return section + n + strspn(section + n, " ");
}

bool schema_section(const char *section)
{
    return name_after(section, "feature") || name_after(section, "group");
}

static bool good_name(const char *s)
{
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    return n > 0 && n <= LIMIT_FIELD_NAME && s[n] == '\0';
}

int32_t schema_find(const struct schema *s, const char *name, size_t len)
{
    for (int32_t f = 0; f < s->n; f++)
        if (strlen(s->f[f]->name) == len && memcmp(s->f[f]->name, name, len) == 0) return f;
    return -1;
}

static int feature_of(struct feature **out, struct schema *s, const char *name, struct err *e)
{
    if (!good_name(name))
        return err_set(e, ERR_CONFIG,
                       "a feature is named by 1 to %d letters, digits, '-' and '_'",
                       LIMIT_FIELD_NAME);
    int32_t f = schema_find(s, name, strlen(name));
    if (f < 0) {
        if (s->n == LIMIT_FEATURES)
            return err_set(e, ERR_CONFIG, "more than %d features", LIMIT_FEATURES);
        f = s->n++;
        s->f[f] = xcalloc(1, sizeof *s->f[f]);
        memcpy(s->f[f]->name, name, strlen(name)); /* checked: it fits */
        conf_defaults(feature_opts, s->f[f]);
    }
    *out = s->f[f];
    return 0;
}

static int set_group(struct schema *s, const char *name, const char *key, const char *value,
                     struct err *e)
{
    for (int g = 0; g < SCHEMA_GROUPS; g++) {
        if (strcmp(name, schema_group_name[g]) != 0) continue;
        if (!key) return 0;
        if (strcmp(key, "features") != 0)
            return err_set(e, ERR_CONFIG, "unknown key '%s'; a group has: features", key);
        free(s->group[g]);
        s->group[g] = xstrdup(value);
        return 0;
    }
    return err_set(e, ERR_CONFIG, "no such group; there are user, item and sequence");
}

static int set(struct schema *s, const char *section, const char *key, const char *value,
               struct err *e)
{
    const char *feature = name_after(section, "feature"), *group = name_after(section, "group");
    if (value && !text_utf8_ok(value, strlen(value)))
        return err_set(e, ERR_CONFIG, "%s: the value is not UTF-8", key);
    if (group) return set_group(s, group, key, value, e);
    if (!feature)
        return err_set(e, ERR_CONFIG,
                       "unknown section; expected [feature NAME] or [group NAME]");
    struct feature *f = NULL;
    TRY(feature_of(&f, s, feature, e));
    return key ? conf_set(feature_opts, f, key, value, e) : 0;
}

int schema_set(struct schema *s, const char *section, const char *key, const char *value,
               struct err *e)
{
    int rc = set(s, section, key, value, e);
    return rc < 0 ? err_ctx(e, "[%.80s]", section) : 0;
}

/* ---- checks ---- */

static void forget(struct feature *f)
{
    for (int32_t i = 0; i < f->n_words; i++) free(f->word[i]);
    free(f->word);
    free(f->by_text);
    free(f->bound);
    f->word = NULL;
    f->by_text = NULL;
    f->bound = NULL;
    f->n_words = f->n_bounds = 0;
}

void schema_free(struct schema *s)
{
    for (int32_t f = 0; f < s->n; f++) {
        forget(s->f[f]);
        conf_free(feature_opts, s->f[f]);
        free(s->f[f]);
    }
    for (int g = 0; g < SCHEMA_GROUPS; g++) free(s->group[g]);
    *s = (struct schema){ 0 };
}

static struct span whole(const char *text)
{
    return (struct span){ text, text ? strlen(text) : 0 };
}

static int32_t parts_of(const char *text)
{
    struct span rest = whole(text), part;
    int32_t n = 0;
    while (text && n <= LIMIT_VOCABULARY && text_part(&rest, ',', &part)) n++;
    return n;
}

static int by_text(const void *a, const void *b, void *ctx)
{
    const struct feature *f = ctx;
    return strcmp(f->word[*(const int32_t *)a], f->word[*(const int32_t *)b]);
}

static int read_vocabulary(struct feature *f, struct err *e)
{
    struct span rest = whole(f->vocabulary), part;
    int32_t most = parts_of(f->vocabulary);
    if (most > LIMIT_VOCABULARY)
        return err_set(e, ERR_CONFIG, "vocabulary: more than %d values; use hash_buckets",
                       LIMIT_VOCABULARY);
    f->word = xcalloc((size_t)most + 1, sizeof *f->word);
    f->by_text = xcalloc((size_t)most + 1, sizeof *f->by_text);
    while (text_part(&rest, ',', &part)) {
        if (part.n == 0) return err_set(e, ERR_CONFIG, "vocabulary: an empty value");
        f->by_text[f->n_words] = f->n_words;
        f->word[f->n_words++] = xstrndup(part.p, part.n);
    }
    qsort_r(f->by_text, (size_t)f->n_words, sizeof *f->by_text, by_text, f);
    for (int32_t i = 1; i < f->n_words; i++)
        if (by_text(&f->by_text[i - 1], &f->by_text[i], f) == 0)
            return err_set(e, ERR_CONFIG, "vocabulary: '%.64s' twice", f->word[f->by_text[i]]);
    return 0;
}

static int read_boundaries(struct feature *f, struct err *e)
{
    struct span rest = whole(f->boundaries), part;
    int32_t most = parts_of(f->boundaries);
    if (most > LIMIT_VOCABULARY)
        return err_set(e, ERR_CONFIG, "boundaries: more than %d", LIMIT_VOCABULARY);
    f->bound = xcalloc((size_t)most + 1, sizeof *f->bound);
    while (text_part(&rest, ',', &part)) {
        double x;
        if (!text_number(part, &x))
            return err_set(e, ERR_CONFIG, "boundaries: '%.*s' is not a number",
                           (int)(part.n < 40 ? part.n : 40), part.p);
        if (f->n_bounds > 0 && x <= f->bound[f->n_bounds - 1])
            return err_set(e, ERR_CONFIG, "boundaries: %g follows %g; they must ascend", x,
                           f->bound[f->n_bounds - 1]);
        f->bound[f->n_bounds++] = x;
    }
    return 0;
}

/* How its values become rows: exactly one way that fits the kind. */
static int check_values(struct feature *f, struct err *e)
{
    const bool hash = f->hash_buckets > 0, words = f->vocabulary != NULL;
    if (f->kind == FEATURE_NUMBER) {
        if (hash || words)
            return err_set(e, ERR_CONFIG, "a number has boundaries or buckets, not %s",
                           hash ? "hash_buckets" : "a vocabulary");
        if (!f->boundaries && f->buckets == 0)
            return err_set(e, ERR_CONFIG, "a number needs boundaries or buckets");
        return f->boundaries ? read_boundaries(f, e) : 0;
    }
    if (f->boundaries || f->buckets > 0)
        return err_set(e, ERR_CONFIG, "%s is for kind = number",
                       f->boundaries ? "boundaries" : "buckets");
    if (hash == words)
        return err_set(e, ERR_CONFIG, "needs one of hash_buckets, vocabulary and of");
    return words ? read_vocabulary(f, e) : 0;
}

static int check_shared(struct schema *s, int32_t i, struct err *e)
{
    struct feature *f = s->f[i];
    f->table = schema_find(s, f->of, strlen(f->of));
    if (f->table < 0) return err_set(e, ERR_CONFIG, "of = %s: no such feature", f->of);
    const struct feature *owner = s->f[f->table];
    if (owner->of)
        return err_set(e, ERR_CONFIG, "of = %s: that is itself of %s", f->of, owner->of);
    if (owner->kind == FEATURE_SEQUENCE)
        return err_set(e, ERR_CONFIG, "of = %s: that is a sequence; name an id", f->of);
    if (f->kind == FEATURE_NUMBER)
        return err_set(e, ERR_CONFIG, "of = %s: a number has boundaries or buckets of its own",
                       f->of);
    if (owner->kind == FEATURE_NUMBER && f->kind != FEATURE_SEQUENCE)
        return err_set(e, ERR_CONFIG, "of = %s: only sequences are made of numbers", f->of);
    if (f->hash_buckets > 0 || f->vocabulary || f->boundaries || f->buckets > 0)
        return err_set(e, ERR_CONFIG,
                       "of = %s: its values are that feature's; leave hash_buckets, "
                       "vocabulary, boundaries and buckets out",
                       f->of);
    f->width = owner->width;
    return 0;
}

static int check_feature(struct schema *s, int32_t i, struct err *e)
{
    struct feature *f = s->f[i];
    forget(f);
    f->table = i;
    if (!f->separator || strlen(f->separator) != 1)
        return err_set(e, ERR_CONFIG, "separator: expected one character");
    return f->of ? check_shared(s, i, e) : check_values(f, e);
}

int32_t schema_group_of(const struct schema *s, int32_t f)
{
    for (int g = 0; g < SCHEMA_GROUPS; g++)
        for (int32_t i = 0; i < s->n_members[g]; i++)
            if (s->member[g][i] == f) return g;
    return -1;
}

static int add_member(struct schema *s, int g, struct span name, struct err *e)
{
    int32_t f = schema_find(s, name.p, name.n);
    if (f < 0)
        return err_set(e, ERR_CONFIG, "features: no [feature %.*s]",
                       (int)(name.n < 64 ? name.n : 64), name.p);
    if (schema_group_of(s, f) >= 0)
        return err_set(e, ERR_CONFIG, "features: %s is in [group %s] already", s->f[f]->name,
                       schema_group_name[schema_group_of(s, f)]);
    if ((s->f[f]->kind == FEATURE_SEQUENCE) != (g == SCHEMA_SEQUENCE))
        return err_set(e, ERR_CONFIG, "features: %s is %sa sequence", s->f[f]->name,
                       g == SCHEMA_SEQUENCE ? "not " : "");
    if (s->f[f]->context && g != SCHEMA_ITEM)
        return err_set(e, ERR_CONFIG, "features: %s: context is for features of items",
                       s->f[f]->name);
    s->member[g][s->n_members[g]++] = f;
    return 0;
}

/* Buckets are found on a number's own column, which only features of groups have. */
static int check_steps(const struct schema *s, struct err *e)
{
    for (int32_t i = 0; i < s->n_members[SCHEMA_SEQUENCE]; i++) {
        const struct feature *f = s->f[s->member[SCHEMA_SEQUENCE][i]];
        if (!schema_unfitted(s, f->table) || schema_group_of(s, f->table) >= 0) continue;
        return err_set(e, ERR_CONFIG,
                       "[feature %s]: of = %s, which is in no group: put it in one, or give it "
                       "boundaries instead of buckets",
                       f->name, f->of);
    }
    return 0;
}

static int check_group(struct schema *s, int g, struct err *e)
{
    struct span rest = whole(s->group[g]), name;
    s->n_members[g] = 0;
    while (s->group[g] && text_part(&rest, ',', &name))
        if (name.n > 0) TRY(add_member(s, g, name, e));
    return 0;
}

int schema_check(struct schema *s, struct err *e)
{
    for (int32_t f = 0; f < s->n; f++)
        if (check_feature(s, f, e) < 0) return err_ctx(e, "[feature %s]", s->f[f]->name);
    for (int g = 0; g < SCHEMA_GROUPS; g++) s->n_members[g] = 0;
    for (int g = 0; g < SCHEMA_GROUPS; g++)
        if (check_group(s, g, e) < 0) return err_ctx(e, "[group %s]", schema_group_name[g]);
    return check_steps(s, e);
}

/* ---- numbers ---- */

bool schema_unfitted(const struct schema *s, int32_t f)
{
    return s->f[f]->kind == FEATURE_NUMBER && !s->f[f]->boundaries;
}

/* The boundaries are kept as text, and read from there: a bundle has the same ones. */
void schema_fit(struct schema *s, int32_t f, double *value, int64_t n)
{
    struct feature *x = s->f[f];
    REQUIRE(schema_unfitted(s, f), "%s has boundaries", x->name);
    qsort(value, (size_t)n, sizeof *value, order_f64);
    char *text = xcalloc((size_t)x->buckets + 1, 32), *at = text;
    double last = n > 0 ? value[0] : 0; /* below it there is nothing */
    for (int32_t i = 1; n > 0 && i < x->buckets; i++) {
        char one[32];
        snprintf(one, sizeof one, "%.9g", value[(int64_t)((double)n * i / x->buckets)]);
        double bound = strtod(one, NULL);
        if (bound <= last) continue; /* a value that fills several buckets */
        at += sprintf(at, "%s%s", at > text ? "," : "", one);
        last = bound;
    }
    if (at == text) sprintf(text, "%.9g", last);
    x->boundaries = text;
    forget(x);
    struct err e = { 0 };
    REQUIRE(read_boundaries(x, &e) == 0, "%s: %s", x->name, e.msg);
}

int32_t schema_rows(const struct schema *s, int32_t f)
{
    const struct feature *x = s->f[s->f[f]->table];
    if (x->kind == FEATURE_NUMBER) return 2 + x->n_bounds;
    return 1 + (x->vocabulary ? x->n_words : x->hash_buckets);
}

/* ---- text to rows ---- */

static int32_t number_row(const struct feature *x, double v)
{
    int32_t lo = 0,
            hi = x->n_bounds; /* boundaries below lo are <= v, those from hi on are not */
    while (lo < hi) {
        int32_t mid = lo + (hi - lo) / 2;
        if (x->bound[mid] <= v)
            lo = mid + 1;
        else
            hi = mid;
    }
    return 1 + lo;
}

static int compare(struct span s, const char *word)
{
    size_t n = strlen(word), least = s.n < n ? s.n : n;
    int c = memcmp(s.p, word, least);
    return c ? c : (s.n > n) - (s.n < n);
}

static int32_t word_row(const struct feature *x, struct span s)
{
    int32_t lo = 0, hi = x->n_words;
    while (lo < hi) {
        int32_t mid = lo + (hi - lo) / 2;
        int c = compare(s, x->word[x->by_text[mid]]);
        if (c == 0) return 1 + x->by_text[mid];
        if (c > 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return 0;
}

int32_t schema_row(const struct schema *s, int32_t f, const char *text, size_t n)
{
    const struct feature *x = s->f[s->f[f]->table];
    struct span v = text_trim((struct span){ text, n });
    if (v.n == 0) return 0;
    double number;
    if (x->kind == FEATURE_NUMBER) return text_number(v, &number) ? number_row(x, number) : 0;
    if (v.n > LIMIT_ID_BYTES || !text_utf8_ok(v.p, v.n)) return 0; /* no catalogue has it */
    if (x->vocabulary) return word_row(x, v);
    return 1 + (int32_t)(XXH3_64bits(v.p, v.n) % (uint64_t)x->hash_buckets);
}

struct span schema_newest(struct span text, char sep, int32_t most)
{
    int32_t seen = 0;
    for (size_t i = text.n; i > 0; i--)
        if (text.p[i - 1] == sep && ++seen == most)
            return (struct span){ text.p + i, text.n - i };
    return text;
}

bool schema_has(const int32_t *row, int32_t n, int32_t one)
{
    for (int32_t i = 0; i < n; i++)
        if (row[i] == one) return true;
    return false;
}

int32_t schema_cell(const struct schema *s, int32_t f, const char *text, size_t n, int32_t *row,
                    int32_t most)
{
    const struct feature *x = s->f[f];
    if (x->kind != FEATURE_TAGS && x->kind != FEATURE_SEQUENCE) {
        row[0] = schema_row(s, f, text, n);
        return 1;
    }
    struct span rest = text_trim((struct span){ text, n }), part;
    int32_t k = 0;
    if (rest.n == 0) return 0;
    if (x->kind == FEATURE_TAGS && most > LIMIT_TAGS) most = LIMIT_TAGS;
    rest = schema_newest(rest, x->separator[0], most);
    while (k < most && text_part(&rest, x->separator[0], &part)) {
        row[k] = schema_row(s, f, part.p, part.n);
        k += x->kind == FEATURE_SEQUENCE || (part.n > 0 && !schema_has(row, k, row[k]));
    }
    return k;
}
