/* Bytes as a table of impressions, or (behind an 's') as lines "section<tab>key<tab>value" of a schema, which then reads
 * the bytes as cells. */
#include "core/base/mem.h"
#include "core/data/clicks.h"
#include "core/data/text.h"
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb);

enum { MAX_LEN = 5 };

static void check_rows(const struct schema *s, int32_t f, const int32_t *row, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        REQUIRE(row[i] >= 0 && row[i] < schema_rows(s, f), "%s: row %d of %d", s->f[f]->name,
                row[i], schema_rows(s, f));
}

static void check_clicks(const struct clicks *c, const struct schema *s)
{
    for (int32_t f = 0; f < s->n; f++) {
        const struct clicks_column *x = &c->column[f];
        const int g = schema_group_of(s, f);
        if (g == SCHEMA_SEQUENCE)
            check_rows(s, f, c->step[f].id, c->seq_cu[c->n]);
        else if (g >= 0)
            check_rows(s, f, x->id, x->cu ? x->cu[c->n] : c->n);
    }
    for (int32_t i = 0; i < c->n; i++)
        REQUIRE(c->seq_cu[i + 1] - c->seq_cu[i] <= MAX_LEN, "line %d is too long", i);
}

static void fuzz_table(const uint8_t *data, size_t nb)
{
    static const char *const keys[][3] = {
        { "feature u", "vocabulary", "a,b" },   { "feature i", "hash_buckets", "7" },
        { "feature p", "kind", "number" },      { "feature p", "buckets", "3" },
        { "feature t", "kind", "tags" },        { "feature t", "hash_buckets", "5" },
        { "feature s", "kind", "sequence" },    { "feature s", "of", "i" },
        { "feature q", "kind", "sequence" },    { "feature q", "of", "p" },
        { "group user", "features", "u" },      { "group item", "features", "i,p,t" },
        { "group sequence", "features", "s,q" }
    };
    struct schema s = { 0 };
    struct clicks c;
    struct err e = { 0 };
    struct items_builder *items = items_builder_new();
    struct clicks_opts o = {
        .label = "c", .user = "u", .item = "i", .max_len = MAX_LEN, .fit = true, .items = items
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        REQUIRE(schema_set(&s, keys[i][0], keys[i][1], keys[i][2], &e) == 0, "%s", e.msg);
    REQUIRE(schema_check(&s, &e) == 0, "%s", e.msg);
    int rc = clicks_read_mem(&c, &s, (const char *)data, nb, "fuzz", &o, &e);
    REQUIRE((rc < 0) == (e.code != 0), "%d: '%s'", rc, e.msg);
    if (rc == 0) check_clicks(&c, &s);
    clicks_free(&c);
    items_builder_free(items);
    schema_free(&s);
}

static void fuzz_schema(const uint8_t *data, size_t nb)
{
    struct schema s = { 0 };
    struct err e = { 0 };
    struct text_lines l = text_begin((const char *)data, nb);
    struct span line, part;
    int rc = 0;
    while (rc == 0 && text_line(&l, &line)) {
        char *word[3] = { NULL };
        for (int i = 0; i < 3 && text_part(&line, '\t', &part); i++)
            word[i] = xstrndup(part.p, part.n);
        if (word[2]) rc = schema_set(&s, word[0], word[1], word[2], &e);
        for (int i = 0; i < 3; i++) free(word[i]);
    }
    if (rc == 0) rc = schema_check(&s, &e);
    REQUIRE((rc < 0) == (e.code != 0) && (rc < 0) == (e.msg[0] != '\0'), "%d: '%s'", rc, e.msg);
    for (int32_t f = 0; rc == 0 && f < s.n; f++) {
        int32_t row[8];
        if (schema_unfitted(&s, s.f[f]->table))
            schema_fit(&s, s.f[f]->table, (double[]){ 1 }, 1);
        check_rows(&s, f, row, schema_cell(&s, f, (const char *)data, nb, row, 8));
    }
    schema_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t nb)
{
    if (nb > 0 && data[0] == 's')
        fuzz_schema(data + 1, nb - 1);
    else
        fuzz_table(data, nb);
    return 0;
}
