#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/items.h"
#include "core/data/items_fmt.h"
#include "core/data/text.h"
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

struct heap {
    char *p;
    size_t nb, cap;
};

struct row {
    uint64_t hash;
    size_t id, title; /* offsets in the heaps */
    uint32_t len, len_title;
    int64_t pop;
};

struct items_builder {
    struct heap ids, titles;
    struct row *row;
    int32_t n;
    size_t cap;
    int32_t *slot; /* [n_slots], -1 empty; at most half full, as it is written */
    size_t n_slots;
};

struct items_builder *items_builder_new(void)
{
    struct items_builder *b = xcalloc(1, sizeof *b);
    b->n_slots = 16;
    b->slot = xmalloc(b->n_slots * sizeof *b->slot);
    memset(b->slot, 0xff, b->n_slots * sizeof *b->slot);
    return b;
}

void items_builder_free(struct items_builder *b)
{
    if (!b) return;
    free(b->ids.p);
    free(b->titles.p);
    free(b->row);
    free(b->slot);
    free(b);
}

int32_t items_builder_count(const struct items_builder *b) { return b->n; }

static size_t heap_put(struct heap *h, const char *p, size_t n)
{
    if (n > h->cap - h->nb) {
        h->cap = 2 * h->cap + n + 256;
        h->p = xrealloc(h->p, h->cap, 1);
    }
    size_t at = h->nb;
    if (n) memcpy(h->p + at, p, n);
    h->nb += n;
    return at;
}

/* Slot that holds the id, or the empty one where it would go. */
static size_t slot_of(const struct items_builder *b, const char *id, size_t len, uint64_t hash)
{
    size_t at = hash & (b->n_slots - 1);
    for (; b->slot[at] >= 0; at = (at + 1) & (b->n_slots - 1)) {
        const struct row *r = &b->row[b->slot[at]];
        if (r->hash == hash && r->len == len && memcmp(b->ids.p + r->id, id, len) == 0) break;
    }
    return at;
}

static void slots_grow(struct items_builder *b)
{
    b->n_slots *= 2;
    free(b->slot);
    b->slot = xmalloc(b->n_slots * sizeof *b->slot);
    memset(b->slot, 0xff, b->n_slots * sizeof *b->slot);
    for (int32_t i = 0; i < b->n; i++) {
        size_t at = b->row[i].hash & (b->n_slots - 1);
        while (b->slot[at] >= 0) at = (at + 1) & (b->n_slots - 1);
        b->slot[at] = i;
    }
}

int32_t items_lookup(const struct items_builder *b, const char *id, size_t len)
{
    return b->slot[slot_of(b, id, len, XXH3_64bits(id, len))];
}

int32_t items_add(struct items_builder *b, const char *id, size_t len)
{
    REQUIRE(len >= 1 && len <= LIMIT_ID_BYTES && b->n < LIMIT_USERS, "id of %zu bytes, row %d",
            len, b->n);
    uint64_t hash = XXH3_64bits(id, len);
    size_t at = slot_of(b, id, len, hash);
    if (b->slot[at] >= 0) return b->slot[at];
    if ((size_t)b->n == b->cap) {
        b->cap = 2 * b->cap + 64;
        b->row = xrealloc(b->row, b->cap, sizeof *b->row);
    }
    b->row[b->n] =
        (struct row){ .hash = hash, .id = heap_put(&b->ids, id, len), .len = (uint32_t)len };
    b->slot[at] = b->n++;
    if (2 * (size_t)b->n > b->n_slots) slots_grow(b);
    return b->n - 1;
}

struct str items_builder_id(const struct items_builder *b, int32_t row)
{
    return (struct str){ b->ids.p + b->row[row].id, (int32_t)b->row[row].len };
}

struct str items_builder_title(const struct items_builder *b, int32_t row)
{
    uint32_t len = b->row[row].len_title;
    return (struct str){ len ? b->titles.p + b->row[row].title : "", (int32_t)len };
}

void items_set_title(struct items_builder *b, int32_t row, const char *title, size_t len)
{
    len = text_utf8_cut(title, len, LIMIT_TITLE_BYTES);
    b->row[row].title = heap_put(&b->titles, title, len);
    b->row[row].len_title = (uint32_t)len;
}

void items_set_popularity(struct items_builder *b, int32_t row, int64_t n)
{
    b->row[row].pop = n;
}

/* ---- writing ---- */

static int by_popularity(const void *x, const void *y, void *ctx)
{
    const struct row *row = ctx;
    int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
    if (row[a].pop != row[b].pop) return row[a].pop > row[b].pop ? -1 : 1;
    return (a > b) - (a < b);
}

static uint64_t align_up(uint64_t x)
{
    return (x + ITEMS_ALIGN - 1) / ITEMS_ALIGN * ITEMS_ALIGN;
}

/* Sizes and places of the sections; returns the size of the file. */
static uint64_t lay_out(struct items_section *s, const struct items_builder *b)
{
    uint64_t n = (uint64_t)b->n, nb_title = 0;
    for (int32_t i = 0; i < b->n; i++) nb_title += b->row[i].len_title;
    const struct items_section want[SEC_COUNT] = {
#define SECTION_(name, code, text) [name] = { .tag = (code) },
        ITEMS_SECTION_MAP(SECTION_)
#undef SECTION_
    };
    memcpy(s, want, sizeof want);
    s[SEC_ID_OFF].nb = s[SEC_TITLE_OFF].nb = 8 * (n + 1);
    s[SEC_ID].nb = b->ids.nb;
    s[SEC_TITLE].nb = nb_title;
    s[SEC_POP].nb = 8 * n;
    s[SEC_ORDER].nb = 4 * n;
    s[SEC_HASH].nb = 4 * b->n_slots;
    uint64_t at = align_up(sizeof(struct items_header) + SEC_COUNT * sizeof *s);
    for (int k = 0; k < SEC_COUNT; k++) {
        s[k].off = at;
        at = align_up(at + s[k].nb);
    }
    return at;
}

static void fill_strings(uint64_t *off, char *heap, const struct items_builder *b,
                         struct str (*get)(const struct items_builder *, int32_t))
{
    uint64_t at = 0;
    for (int32_t i = 0; i < b->n; i++) {
        struct str s = get(b, i);
        off[i] = at;
        memcpy(heap + at, s.p, (size_t)s.len);
        at += (uint64_t)s.len;
    }
    off[b->n] = at;
}

int items_write(const struct items_builder *b, const char *path, struct err *e)
{
    if (b->n == 0) return err_set(e, ERR_EMPTY, "%s: nothing to write", path);
    struct items_section s[SEC_COUNT];
    uint64_t nb = lay_out(s, b);
    char *file = xcalloc(1, (size_t)nb);
    struct items_header h = { .magic = ITEMS_MAGIC,
                              .version = ITEMS_VERSION,
                              .n_sections = SEC_COUNT,
                              .nb_file = nb,
                              .n_items = (uint32_t)b->n };
    memcpy(file, &h, sizeof h);
    memcpy(file + sizeof h, s, sizeof s);
    fill_strings((uint64_t *)(file + s[SEC_ID_OFF].off), file + s[SEC_ID].off, b,
                 items_builder_id);
    fill_strings((uint64_t *)(file + s[SEC_TITLE_OFF].off), file + s[SEC_TITLE].off, b,
                 items_builder_title);
    int64_t *pop = (int64_t *)(file + s[SEC_POP].off);
    int32_t *order = (int32_t *)(file + s[SEC_ORDER].off);
    for (int32_t i = 0; i < b->n; i++) {
        pop[i] = b->row[i].pop;
        order[i] = i;
    }
    qsort_r(order, (size_t)b->n, sizeof *order, by_popularity, b->row);
    memcpy(file + s[SEC_HASH].off, b->slot, (size_t)s[SEC_HASH].nb);
    int rc = io_write_atomic(path, file, (size_t)nb, e);
    free(file);
    return rc;
}
