/* The file: 8 bytes of little-endian header length n, n bytes of JSON, then the data area.  The
 * header is an object: name -> {"dtype","shape","data_offsets":[begin,end)}, offsets counted
 * from the data area, plus "__metadata__": {string: string}.  The tensors must tile the data
 * area. */
#include "core/fmt/safet.h"
#include "core/base/buf.h"
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_BYTES = 8, DATA_ALIGN = 8, MAX_RANK = 4 };

static const struct {
    const char *name;
    size_t nb;
} dtypes[SAFET_DTYPES] = {
    [SAFET_F32] = { "F32", 4 }, [SAFET_F64] = { "F64", 8 }, [SAFET_I32] = { "I32", 4 },
    [SAFET_I64] = { "I64", 8 }, [SAFET_U8] = { "U8", 1 },
};

struct entry { /* a tensor and where it lies in the data area */
    struct safet_tensor t;
    uint64_t begin, end;
};

struct safet {
    struct io_map map;      /* only of safet_open */
    json_t *header;         /* owns names and metadata */
    struct entry *entry;    /* [n], by offset */
    struct entry **by_name; /* [n] */
    int32_t n;
};

static uint64_t read_le64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

static int parse_dtype(struct entry *en, const json_t *obj, struct err *e)
{
    const char *s = json_string_value(json_object_get(obj, "dtype"));
    if (!s)
        return err_set(e, ERR_FORMAT, "tensor %s: \"dtype\" is missing or not a string",
                       en->t.name);
    for (int d = 0; d < SAFET_DTYPES; d++)
        if (strcmp(s, dtypes[d].name) == 0) {
            en->t.dtype = (enum safet_dtype)d;
            return 0;
        }
    return err_set(e, ERR_FORMAT,
                   "tensor %s: dtype %.16s is not supported (F32, F64, I32, I64, U8)",
                   en->t.name, s);
}

static int parse_shape(struct entry *en, const json_t *obj, struct err *e)
{
    const json_t *shape = json_object_get(obj, "shape");
    const char *name = en->t.name;
    if (!json_is_array(shape))
        return err_set(e, ERR_FORMAT, "tensor %s: \"shape\" is missing or not an array", name);
    size_t rank = json_array_size(shape);
    if (rank > MAX_RANK)
        return err_set(e, ERR_FORMAT, "tensor %s: %zu dimensions, at most %d", name, rank,
                       MAX_RANK);
    en->t.rank = (int32_t)rank;
    en->t.n = 1;
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        json_int_t v = json_integer_value(dim);
        if (!json_is_integer(dim) || v < 0)
            return err_set(e, ERR_FORMAT, "tensor %s: dimension %zu is not a count", name, i);
        if (__builtin_mul_overflow(en->t.n, (int64_t)v, &en->t.n))
            return err_set(e, ERR_FORMAT, "tensor %s: the shape overflows", name);
        en->t.shape[i] = v;
    }
    return 0;
}

static int parse_offsets(struct entry *en, const json_t *obj, uint64_t nb_data, struct err *e)
{
    const json_t *off = json_object_get(obj, "data_offsets");
    const json_t *lo = json_array_get(off, 0), *hi = json_array_get(off, 1);
    const char *name = en->t.name;
    if (json_array_size(off) != 2 || !json_is_integer(lo) || !json_is_integer(hi))
        return err_set(e, ERR_FORMAT, "tensor %s: \"data_offsets\" is not two integers", name);
    json_int_t begin = json_integer_value(lo), end = json_integer_value(hi);
    if (begin < 0 || end < begin)
        return err_set(e, ERR_FORMAT,
                       "tensor %s: offsets %" PRId64 "..%" PRId64 " are not a range", name,
                       (int64_t)begin, (int64_t)end);
    en->begin = (uint64_t)begin;
    en->end = (uint64_t)end;
    if (en->end > nb_data)
        return err_set(e, ERR_FORMAT,
                       "tensor %s: ends at byte %" PRIu64 " of %" PRIu64
                       " bytes of data: file truncated?",
                       name, en->end, nb_data);
    uint64_t nb;
    if (__builtin_mul_overflow((uint64_t)en->t.n, dtypes[en->t.dtype].nb, &nb) ||
        nb != en->end - en->begin)
        return err_set(e, ERR_FORMAT,
                       "tensor %s: %" PRIu64 " bytes for %" PRId64 " elements of %s", name,
                       en->end - en->begin, en->t.n, dtypes[en->t.dtype].name);
    return 0;
}

static int parse_entry(struct entry *en, const char *name, const json_t *obj,
                       const uint8_t *data, uint64_t nb_data, uint64_t data_pos, struct err *e)
{
    size_t len = strlen(name);
    if (len == 0 || len > LIMIT_TENSOR_NAME)
        return err_set(e, ERR_FORMAT, "a tensor's name has %zu bytes, 1 to %d are allowed", len,
                       LIMIT_TENSOR_NAME);
    en->t.name = name;
    if (!json_is_object(obj)) return err_set(e, ERR_FORMAT, "tensor %s: not an object", name);
    TRY(parse_dtype(en, obj, e));
    TRY(parse_shape(en, obj, e));
    TRY(parse_offsets(en, obj, nb_data, e));
    if (en->t.n > 0 && (data_pos + en->begin) % dtypes[en->t.dtype].nb != 0)
        return err_set(e, ERR_FORMAT, "tensor %s: its data is not aligned to %s", name,
                       dtypes[en->t.dtype].name);
    en->t.data = data + en->begin;
    return 0;
}

static int check_metadata(const json_t *meta, struct err *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(meta)) return err_set(e, ERR_FORMAT, "__metadata__ is not an object");
    json_object_foreach ((json_t *)(uintptr_t)meta, key, value)
        if (!json_is_string(value))
            return err_set(e, ERR_FORMAT, "__metadata__: \"%.64s\" is not a string", key);
    return 0;
}

static int cmp_offset(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) -
           (x->end < y->end); /* an empty tensor before the one at its place */
}

static int cmp_name(const void *a, const void *b)
{
    const struct entry *const *x = a, *const *y = b;
    return strcmp((*x)->t.name, (*y)->t.name);
}

/* The tensors must tile the data area: no overlap, no hole, nothing after the last. */
static int check_tiling(struct safet *s, uint64_t nb_data, struct err *e)
{
    uint64_t at = 0;
    for (int32_t i = 0; i < s->n; i++) {
        const struct entry *en = &s->entry[i];
        if (en->begin != at)
            return err_set(e, ERR_FORMAT,
                           "tensor %s: begins at byte %" PRIu64
                           ", %s (the one before ends at %" PRIu64 ")",
                           en->t.name, en->begin,
                           en->begin < at ? "an overlap" : "after a hole", at);
        at = en->end;
    }
    if (at != nb_data)
        return err_set(e, ERR_FORMAT, "%" PRIu64 " bytes of data belong to no tensor",
                       nb_data - at);
    return 0;
}

static int parse_tensors(struct safet *s, const uint8_t *data, uint64_t nb_data,
                         uint64_t data_pos, struct err *e)
{
    size_t n = json_object_size(s->header);
    if (n > LIMIT_TENSORS)
        return err_set(e, ERR_FORMAT, "%zu tensors, at most %d", n, LIMIT_TENSORS);
    s->entry = xcalloc(n + 1, sizeof *s->entry);
    s->by_name = xcalloc(n + 1, sizeof(struct entry *));
    const char *name;
    json_t *obj;
    json_object_foreach (s->header, name, obj) {
        if (strcmp(name, "__metadata__") == 0)
            TRY(check_metadata(obj, e));
        else
            TRY(parse_entry(&s->entry[s->n++], name, obj, data, nb_data, data_pos, e));
    }
    qsort(s->entry, (size_t)s->n, sizeof *s->entry, cmp_offset);
    TRY(check_tiling(s, nb_data, e));
    for (int32_t i = 0; i < s->n; i++) s->by_name[i] = &s->entry[i];
    qsort(s->by_name, (size_t)s->n, sizeof(struct entry *), cmp_name);
    return 0;
}

static int parse(struct safet *s, const uint8_t *p, size_t nb, struct err *e)
{
    if (nb < HEAD_BYTES)
        return err_set(e, ERR_FORMAT, "%zu bytes are too few for a safetensors file", nb);
    uint64_t n = read_le64(p);
    if (n > LIMIT_JSON_FILE_BYTES)
        return err_set(e, ERR_FORMAT,
                       "a header of %" PRIu64 " bytes, at most %d: not safetensors?", n,
                       LIMIT_JSON_FILE_BYTES);
    if (n > nb - HEAD_BYTES)
        return err_set(e, ERR_FORMAT, "a header of %" PRIu64 " bytes in a file of %zu", n, nb);
    const char *json = (const char *)p + HEAD_BYTES;
    if (n == 0 || json[0] != '{')
        return err_set(e, ERR_FORMAT, "the header is not a JSON object");
    json_error_t je;
    s->header = json_loadb(json, (size_t)n, JSON_REJECT_DUPLICATES, &je);
    if (!s->header) return err_set(e, ERR_FORMAT, "the header is not valid JSON: %s", je.text);
    uint64_t pos = HEAD_BYTES + n;
    return parse_tensors(s, p + pos, nb - pos, pos, e);
}

int safet_open_mem(struct safet **out, const void *data, size_t nb, struct err *e)
{
    struct safet *s = xcalloc(1, sizeof *s);
    int rc = parse(s, data, nb, e);
    if (rc < 0) {
        safet_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

int safet_open(struct safet **out, const char *path, struct err *e)
{
    struct io_map map;
    TRY(io_map_open(&map, path, e));
    int rc = safet_open_mem(out, map.data, map.nb, e);
    if (rc < 0) {
        io_map_close(&map);
        err_ctx(e, "%s", path);
        return rc;
    }
    (*out)->map = map;
    return 0;
}

void safet_close(struct safet *s)
{
    if (!s) return;
    free(s->entry);
    free(s->by_name);
    json_decref(s->header);
    if (s->map.data) io_map_close(&s->map);
    free(s);
}

int32_t safet_count(const struct safet *s) { return s->n; }

const struct safet_tensor *safet_at(const struct safet *s, int32_t i)
{
    REQUIRE(i >= 0 && i < s->n, "tensor %d of %d", i, s->n);
    return &s->entry[i].t;
}

const struct safet_tensor *safet_find(const struct safet *s, const char *name)
{
    struct entry key = { .t.name = name }, *key_p = &key;
    struct entry **hit =
        bsearch(&key_p, s->by_name, (size_t)s->n, sizeof(struct entry *), cmp_name);
    return hit ? &(*hit)->t : NULL;
}

const char *safet_meta(const struct safet *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->header, "__metadata__"), key));
}

/* ---- writing ---- */

static void put_metadata(struct buf *b, const char *const *meta)
{
    buf_puts(b, "\"__metadata__\":{");
    for (int i = 0; meta[i]; i += 2) {
        if (i) buf_putc(b, ',');
        buf_json_str(b, meta[i], strlen(meta[i]));
        buf_putc(b, ':');
        buf_json_str(b, meta[i + 1], strlen(meta[i + 1]));
    }
    buf_putc(b, '}');
}

static void put_tensor(struct buf *b, const struct safet_tensor *t, uint64_t begin,
                       uint64_t end)
{
    buf_json_str(b, t->name, strlen(t->name));
    buf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtypes[t->dtype].name);
    for (int32_t i = 0; i < t->rank; i++)
        buf_printf(b, "%s%" PRId64, i ? "," : "", t->shape[i]);
    buf_printf(b, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, end);
}

static uint64_t tensor_bytes(const struct safet_tensor *t)
{
    int64_t n = 1;
    REQUIRE(t->rank >= 0 && t->rank <= MAX_RANK, "tensor %s: rank %d", t->name, t->rank);
    for (int32_t i = 0; i < t->rank; i++) n *= t->shape[i];
    REQUIRE(n == t->n && n >= 0, "tensor %s: %" PRId64 " elements, shape says %" PRId64,
            t->name, t->n, n);
    return (uint64_t)n * dtypes[t->dtype].nb;
}

/* Data lies by element size, largest first, else in the given order: with no holes allowed
 * that is what keeps every tensor aligned. */
static void make_layout(int32_t *order, const struct safet_tensor *t, int32_t n)
{
    int32_t at = 0;
    for (size_t nb = DATA_ALIGN; nb > 0; nb /= 2)
        for (int32_t i = 0; i < n; i++)
            if (dtypes[t[i].dtype].nb == nb) order[at++] = i;
    REQUIRE(at == n, "%d of %d tensors have a place", at, n);
}

static void make_header(struct buf *b, const struct safet_tensor *t, const int32_t *order,
                        int32_t n, const char *const *meta)
{
    buf_putc(b, '{');
    if (meta && meta[0]) put_metadata(b, meta);
    uint64_t at = 0;
    for (int32_t i = 0; i < n; i++) {
        const struct safet_tensor *ti = &t[order[i]];
        uint64_t nb = tensor_bytes(ti);
        if (b->len > 1) buf_putc(b, ',');
        put_tensor(b, ti, at, at + nb);
        at += nb;
    }
    buf_putc(b, '}');
    while (b->len % DATA_ALIGN) buf_putc(b, ' ');
}

/* The file's pieces: the header's length, the header, then the data in order. */
static int write_file(const char *path, const struct buf *header, const struct safet_tensor *t,
                      const int32_t *order, int32_t n, struct err *e)
{
    uint8_t head[HEAD_BYTES];
    for (int i = 0; i < HEAD_BYTES; i++) head[i] = (uint8_t)((uint64_t)header->len >> (8 * i));
    struct io_piece *piece = xcalloc((size_t)n + 2, sizeof *piece);
    piece[0] = (struct io_piece){ head, sizeof head };
    piece[1] = (struct io_piece){ header->data, header->len };
    for (int32_t i = 0; i < n; i++)
        piece[i + 2] = (struct io_piece){ t[order[i]].data, tensor_bytes(&t[order[i]]) };
    int rc = io_write_pieces(path, piece, n + 2, e);
    free(piece);
    return rc;
}

int safet_write(const char *path, const struct safet_tensor *t, int32_t n,
                const char *const *meta, struct err *e)
{
    struct buf header = { .cap_max = LIMIT_JSON_FILE_BYTES };
    int32_t *order = xcalloc((size_t)n + 1, sizeof *order);
    make_layout(order, t, n);
    make_header(&header, t, order, n, meta);
    int rc = header.failed ? err_set(e, ERR_LIMIT, "%s: the header passes %d bytes", path,
                                     LIMIT_JSON_FILE_BYTES)
                           : write_file(path, &header, t, order, n, e);
    free(order);
    buf_free(&header);
    return rc;
}
