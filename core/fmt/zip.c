/* An archive ends with an end record (22 bytes and a comment), before which a 64-bit one may stand, found through a
 * locator.  It tells where the central directory lies: an entry's name, method, sizes and the place of its local header,
 * which has lengths of its own for what stands between it and the data. */
#include "core/fmt/zip.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include <stdlib.h>
#include <string.h>

enum {
    END_BYTES = 22,
    LOCATOR_BYTES = 20,
    END64_BYTES = 56,
    CENTRAL_BYTES = 46,
    LOCAL_BYTES = 30,
    COMMENT_BYTES = 65535,
    ENCRYPTED = 1,
    EXTRA_64 = 1
};

struct zip {
    struct zip_entry *entry; /* [n] */
    int32_t n;
};

struct bytes {
    const uint8_t *p;
    size_t nb;
};

static uint64_t le(const uint8_t *p, int nb)
{
    uint64_t v = 0;
    while (nb-- > 0) v = v << 8 | p[nb];
    return v;
}

/* n bytes at a place, or NULL. */
static const uint8_t *at(struct bytes b, uint64_t pos, uint64_t n)
{
    return pos <= b.nb && n <= b.nb - pos ? b.p + pos : NULL;
}

static const uint8_t *signed_at(struct bytes b, uint64_t pos, uint64_t n, const char *signature)
{
    const uint8_t *p = at(b, pos, n);
    return p && memcmp(p, signature, 4) == 0 ? p : NULL;
}

/* The last place where an end record can be. */
static const uint8_t *find_end(struct bytes b)
{
    for (size_t back = END_BYTES; back <= b.nb && back <= END_BYTES + COMMENT_BYTES; back++) {
        const uint8_t *p = signed_at(b, b.nb - back, END_BYTES, "PK\5\6");
        if (p && le(p + 20, 2) == back - END_BYTES) return p;
    }
    return NULL;
}

/* Where the central directory lies and how many entries it has. */
static int find_central(uint64_t *pos, uint64_t *n, struct bytes b, struct err *e)
{
    const uint8_t *end = find_end(b), *loc, *end64;
    if (!end) return err_set(e, ERR_FORMAT, "a ZIP archive without its end: file truncated?");
    *n = le(end + 10, 2);
    *pos = le(end + 16, 4);
    if (le(end + 4, 2) != 0 && le(end + 4, 2) != 0xffff)
        return err_set(e, ERR_FORMAT, "a ZIP archive in several parts");
    uint64_t end_pos = (uint64_t)(end - b.p);
    if (end_pos < LOCATOR_BYTES ||
        !(loc = signed_at(b, end_pos - LOCATOR_BYTES, LOCATOR_BYTES, "PK\6\7")))
        return 0;
    end64 = signed_at(b, le(loc + 8, 8), END64_BYTES, "PK\6\6");
    if (!end64)
        return err_set(e, ERR_FORMAT, "the ZIP archive's 64-bit end is not where it should be");
    *n = le(end64 + 32, 8);
    *pos = le(end64 + 48, 8);
    return 0;
}

struct place { /* of an entry, in the central directory's words */
    uint64_t packed, nb, local;
};

/* Takes those members from the 64-bit extra field that are all ones, in its fixed order. */
static void widen(struct place *x, const uint8_t *extra, uint64_t nb_extra)
{
    uint64_t *member[] = { &x->nb, &x->packed, &x->local };
    for (uint64_t i = 0; i + 4 <= nb_extra;) {
        uint64_t id = le(extra + i, 2), nb = le(extra + i + 2, 2), from = i + 4;
        if (nb > nb_extra - from) return;
        i = from + nb;
        if (id != EXTRA_64) continue;
        for (int m = 0; m < 3; m++) {
            if (*member[m] != 0xffffffff || from + 8 > i) continue;
            *member[m] = le(extra + from, 8);
            from += 8;
        }
    }
}

static int find_data(struct zip_entry *out, const struct place *x, struct bytes b,
                     struct err *e)
{
    const uint8_t *local = signed_at(b, x->local, LOCAL_BYTES, "PK\3\4");
    if (!local)
        return err_set(e, ERR_FORMAT, "entry %s: not where the archive says", out->name);
    uint64_t pos = x->local + LOCAL_BYTES + le(local + 26, 2) + le(local + 28, 2);
    out->data = at(b, pos, x->nb);
    out->nb = (size_t)x->nb;
    if (!out->data)
        return err_set(e, ERR_FORMAT, "entry %s: ends after the archive: file truncated?",
                       out->name);
    return 0;
}

/* The entry at p, which has *nb bytes. */
static int read_entry(struct zip *z, uint64_t *nb, uint64_t pos, struct bytes b, struct err *e)
{
    const uint8_t *p = signed_at(b, pos, CENTRAL_BYTES, "PK\1\2"), *name;
    if (!p) return err_set(e, ERR_FORMAT, "the ZIP archive's directory is damaged");
    uint64_t n_name = le(p + 28, 2), n_extra = le(p + 30, 2);
    *nb = CENTRAL_BYTES + n_name + n_extra + le(p + 32, 2);
    if (!(name = at(b, pos + CENTRAL_BYTES, n_name + n_extra)))
        return err_set(e, ERR_FORMAT, "the ZIP archive's directory ends in the middle");
    if (n_name == 0 || n_name > LIMIT_TENSOR_NAME || memchr(name, 0, n_name))
        return err_set(e, ERR_FORMAT, "a name of %d bytes in a ZIP archive, at most %d",
                       (int)n_name, LIMIT_TENSOR_NAME);
    struct zip_entry *out = &z->entry[z->n++];
    out->name = xstrndup((const char *)name, n_name);
    if (le(p + 8, 2) & ENCRYPTED || le(p + 10, 2) != 0)
        return err_set(e, ERR_FORMAT,
                       "entry %s is packed or encrypted: torch.save stores; pack the "
                       "archive without compression",
                       out->name);
    struct place x = { le(p + 20, 4), le(p + 24, 4), le(p + 42, 4) };
    widen(&x, name + n_name, n_extra);
    if (x.packed != x.nb)
        return err_set(e, ERR_FORMAT, "entry %s: two sizes, yet it is stored", out->name);
    return find_data(out, &x, b, e);
}

static int by_name(const void *a, const void *b)
{
    const struct zip_entry *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int read_central(struct zip *z, struct bytes b, struct err *e)
{
    uint64_t pos = 0, n = 0, nb = 0;
    TRY(find_central(&pos, &n, b, e));
    if (n > LIMIT_TENSORS)
        return err_set(e, ERR_FORMAT, "a ZIP archive of %llu entries, at most %d",
                       (unsigned long long)n, LIMIT_TENSORS);
    z->entry = xcalloc((size_t)n + 1, sizeof *z->entry);
    for (uint64_t i = 0; i < n; i++, pos += nb) TRY(read_entry(z, &nb, pos, b, e));
    qsort(z->entry, (size_t)z->n, sizeof *z->entry, by_name);
    for (int32_t i = 1; i < z->n; i++)
        if (strcmp(z->entry[i].name, z->entry[i - 1].name) == 0)
            return err_set(e, ERR_FORMAT, "entry %s is there twice", z->entry[i].name);
    return 0;
}

int zip_open_mem(struct zip **out, const void *data, size_t nb, struct err *e)
{
    struct zip *z = xcalloc(1, sizeof *z);
    int rc = read_central(z, (struct bytes){ data, nb }, e);
    if (rc < 0)
        zip_close(z);
    else
        *out = z;
    return rc;
}

void zip_close(struct zip *z)
{
    if (!z) return;
    for (int32_t i = 0; i < z->n; i++) free(z->entry[i].name);
    free(z->entry);
    free(z);
}

int32_t zip_count(const struct zip *z) { return z->n; }
const struct zip_entry *zip_at(const struct zip *z, int32_t i) { return &z->entry[i]; }

const struct zip_entry *zip_find(const struct zip *z, const char *name)
{
    struct zip_entry key = { .name = (char *)(uintptr_t)name };
    return bsearch(&key, z->entry, (size_t)z->n, sizeof *z->entry, by_name);
}
