/* Two formats, one tree.  A tensor is a call of torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...), a
 * storage a persistent id ('storage', type, key, location, elements).
 *   ZIP (1.6 and later)  ROOT/data.pkl is the tree, ROOT/data/KEY a storage's bytes
 *   before               five pickles: a magic number, the protocol's, facts on the machine, the tree, the list of keys;
 *                        then each key's storage, 8 bytes of length before its bytes */
#include "core/fmt/torch_file.h"
#include "core/base/arena.h"
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/fmt/pickle.h"
#include "core/fmt/zip.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef float read_fn(const uint8_t *p);

struct torch_type {
    const char *storage, *name;
    size_t nb;
    read_fn *read; /* NULL: no floating-point numbers */
};

struct storage {
    const char *key;
    size_t len;
    const struct torch_type *type;
    int64_t n;
    const uint8_t *data; /* NULL: its bytes are not found yet */
};

struct torch_file {
    struct io_map map; /* only of torch_open */
    struct zip *zip;   /* NULL: the old format */
    struct pickle pk;
    struct storage *storage; /* [n_storages] by key */
    struct torch_tensor *tensor;
    int32_t n_storages, n_tensors;
};

/* ---- elements ---- */

static uint64_t le(const uint8_t *p, int nb)
{
    uint64_t v = 0;
    while (nb-- > 0) v = v << 8 | p[nb];
    return v;
}

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float read_f32(const uint8_t *p) { return from_bits((uint32_t)le(p, 4)); }
static float read_bf16(const uint8_t *p) { return from_bits((uint32_t)le(p, 2) << 16); }

static float read_f64(const uint8_t *p)
{
    uint64_t bits = le(p, 8);
    double x;
    memcpy(&x, &bits, sizeof x);
    /* beyond float's range is infinite, which the caller's check finds */
    return x > 3.4028235e38    ? __builtin_inff()
           : x < -3.4028235e38 ? -__builtin_inff()
                               : (float)x;
}

static float read_f16(const uint8_t *p)
{
    uint32_t h = (uint32_t)le(p, 2), exponent = h >> 10 & 31, mantissa = h & 1023;
    float sign = h >> 15 ? -1.0f : 1.0f;
    if (exponent == 0) return sign * (float)mantissa * 0x1p-24f;
    if (exponent == 31) return from_bits((h >> 15) << 31 | 0x7f800000u | mantissa << 13);
    return sign * from_bits((exponent + 112) << 23 | mantissa << 13);
}

static const struct torch_type types[] = {
    { "torch.FloatStorage", "float32", 4, read_f32 },
    { "torch.DoubleStorage", "float64", 8, read_f64 },
    { "torch.HalfStorage", "float16", 2, read_f16 },
    { "torch.BFloat16Storage", "bfloat16", 2, read_bf16 },
    { "torch.LongStorage", "int64", 8, NULL },
    { "torch.IntStorage", "int32", 4, NULL },
    { "torch.ShortStorage", "int16", 2, NULL },
    { "torch.CharStorage", "int8", 1, NULL },
    { "torch.ByteStorage", "uint8", 1, NULL },
    { "torch.BoolStorage", "bool", 1, NULL },
    { "torch.ComplexFloatStorage", "complex64", 8, NULL },
    { "torch.ComplexDoubleStorage", "complex128", 16, NULL },
};

static const struct torch_type *find_type(const struct pval *v)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (pickle_global_is(v, types[i].storage)) return &types[i];
    return NULL;
}

int torch_read(float *out, const struct torch_tensor *t, struct err *e)
{
    if (!t->type->read)
        return err_set(e, ERR_FORMAT, "tensor %s: %s, floating-point numbers are expected",
                       t->name, t->type->name);
    int64_t shape[TORCH_RANK] = { 1, 1, 1, 1 }, stride[TORCH_RANK] = { 0 };
    if (t->n == 0) return 0;
    for (int32_t i = 0; i < t->rank; i++) {
        shape[TORCH_RANK - t->rank + i] = t->shape[i];
        if (t->shape[i] > 1) /* else it is never stepped by, and may be any number */
            stride[TORCH_RANK - t->rank + i] = t->stride[i] * (int64_t)t->type->nb;
    }
    const uint8_t *p0 = t->data;
    for (int64_t a = 0; a < shape[0]; a++)
        for (int64_t b = 0; b < shape[1]; b++)
            for (int64_t c = 0; c < shape[2]; c++)
                for (int64_t d = 0; d < shape[3]; d++)
                    *out++ = t->type->read(p0 + a * stride[0] + b * stride[1] + c * stride[2] +
                                           d * stride[3]);
    return 0;
}

/* ---- storages ---- */

static int by_key(const void *a, const void *b)
{
    const struct storage *x = a, *y = b;
    size_t least = x->len < y->len ? x->len : y->len;
    int order = memcmp(x->key, y->key, least);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static int parse_storage(struct storage *s, const struct pval *id, struct err *e)
{
    if (id->kind != PICKLE_TUPLE || id->n < 5 || !pickle_str_is(id->at[0], "storage") ||
        id->at[2]->kind != PICKLE_STR || id->at[4]->kind != PICKLE_INT)
        return err_set(e, ERR_FORMAT, "a storage is named in a way that torch.save does not");
    if (id->n > 5 && id->at[5]->kind != PICKLE_NONE)
        return err_set(e, ERR_FORMAT,
                       "a storage is a part of another, as PyTorch before 0.4 saved: save the "
                       "file again with a later one");
    *s = (struct storage){ .key = id->at[2]->str,
                           .len = id->at[2]->len,
                           .type = find_type(id->at[1]),
                           .n = id->at[4]->i };
    if (!s->type)
        return err_set(e, ERR_FORMAT, "storage '%.*s': of type %.64s, which is not known",
                       (int)(s->len < 64 ? s->len : 64), s->key,
                       id->at[1]->kind == PICKLE_GLOBAL ? id->at[1]->str : "?");
    uint64_t nb;
    if (s->n < 0 || __builtin_mul_overflow((uint64_t)s->n, s->type->nb, &nb))
        return err_set(e, ERR_FORMAT, "storage '%.*s': %" PRId64 " elements",
                       (int)(s->len < 64 ? s->len : 64), s->key, s->n);
    return 0;
}

static size_t bytes_of(const struct storage *s) { return (size_t)s->n * s->type->nb; }

/* Every storage once. */
static int gather_storages(struct torch_file *f, struct err *e)
{
    int32_t n = f->pk.n_persids, kept = 0;
    if (n > LIMIT_TENSORS)
        return err_set(e, ERR_FORMAT, "%d tensors, at most %d", n, LIMIT_TENSORS);
    f->storage = xcalloc((size_t)n + 1, sizeof *f->storage);
    for (int32_t i = 0; i < n; i++)
        TRY(parse_storage(&f->storage[i], f->pk.persid[i]->args, e));
    qsort(f->storage, (size_t)n, sizeof *f->storage, by_key);
    for (int32_t i = 0; i < n; i++) {
        struct storage *s = &f->storage[i], *last = kept ? &f->storage[kept - 1] : NULL;
        bool again = last && by_key(last, s) == 0;
        if (again && (last->n != s->n || last->type != s->type))
            return err_set(e, ERR_FORMAT, "storage '%.*s': two sizes or types",
                           (int)(s->len < 64 ? s->len : 64), s->key);
        if (!again) f->storage[kept++] = *s;
    }
    f->n_storages = kept;
    return 0;
}

static struct storage *find_storage(const struct torch_file *f, const char *key, size_t len)
{
    struct storage want = { .key = key, .len = len };
    return bsearch(&want, f->storage, (size_t)f->n_storages, sizeof want, by_key);
}

/* ---- the ZIP format ---- */

static const struct zip_entry *find_tree(const struct zip *z)
{
    static const char tail[] = "/data.pkl";
    for (int32_t i = 0; i < zip_count(z); i++) {
        const char *slash = strchr(zip_at(z, i)->name, '/');
        if (slash && strcmp(slash, tail) == 0) return zip_at(z, i);
    }
    return NULL;
}

static const struct zip_entry *entry_of(const struct zip *z, size_t root, const char *tree,
                                        const char *what, const char *key, size_t len)
{
    char *name = xasprintf("%.*s%s%.*s", (int)root, tree, what, (int)len, key);
    const struct zip_entry *x = zip_find(z, name);
    free(name);
    return x;
}

static int open_zip(struct torch_file *f, const uint8_t *p, size_t nb, struct err *e)
{
    size_t used;
    TRY(zip_open_mem(&f->zip, p, nb, e));
    const struct zip_entry *tree = find_tree(f->zip), *x;
    if (!tree)
        return err_set(e, ERR_FORMAT,
                       "a ZIP archive without data.pkl: not what torch.save writes");
    size_t root = (size_t)(strchr(tree->name, '/') - tree->name) + 1;
    x = entry_of(f->zip, root, tree->name, "byteorder", "", 0);
    if (x && x->nb == 3 && memcmp(x->data, "big", 3) == 0)
        return err_set(e, ERR_FORMAT,
                       "saved on a big-endian machine: save it again on another");
    TRY(pickle_read(&f->pk, tree->data, tree->nb, &used, e));
    TRY(gather_storages(f, e));
    for (int32_t i = 0; i < f->n_storages; i++) {
        struct storage *s = &f->storage[i];
        size_t len = s->len < LIMIT_TENSOR_NAME ? s->len : LIMIT_TENSOR_NAME;
        x = entry_of(f->zip, root, tree->name, "data/", s->key, len);
        if (!x || x->nb < bytes_of(s))
            return err_set(e, ERR_FORMAT, "storage '%.*s': %zu bytes, %zu expected", (int)len,
                           s->key, x ? x->nb : 0, bytes_of(s));
        s->data = x->data;
    }
    return 0;
}

/* ---- the format before 1.6 ---- */

/* The next pickle at *p. */
static int next_pickle(struct pickle *pk, const uint8_t **p, size_t *nb, struct err *e)
{
    size_t used;
    TRY(pickle_read(pk, *p, *nb, &used, e));
    *p += used;
    *nb -= used;
    return 0;
}

static int check_head(const uint8_t **p, size_t *nb, struct err *e)
{
    static const char magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    struct pickle pk;
    TRY(next_pickle(&pk, p, nb, e));
    const struct pval *v = pk.root;
    bool ok = v->kind == PICKLE_LONG && v->len == 10 && memcmp(v->str, magic, 10) == 0;
    pickle_free(&pk);
    if (!ok) return err_set(e, ERR_FORMAT, "a pickle, but not one that torch.save wrote");
    TRY(next_pickle(&pk, p, nb, e));
    ok = pk.root->kind == PICKLE_INT && pk.root->i == 1001;
    pickle_free(&pk);
    if (!ok)
        return err_set(e, ERR_FORMAT, "a version of PyTorch's old format that is not known");
    TRY(next_pickle(&pk, p, nb, e));
    v = pickle_get(pk.root, "little_endian");
    ok = v && v->kind == PICKLE_BOOL && v->i;
    pickle_free(&pk);
    return ok ? 0 : err_set(e, ERR_FORMAT, "not saved on a little-endian machine");
}

/* The storages' bytes, which lie in the order of keys. */
static int place_storages(struct torch_file *f, const struct pval *keys, const uint8_t *p,
                          size_t nb, struct err *e)
{
    if (keys->kind != PICKLE_LIST)
        return err_set(e, ERR_FORMAT, "the list of storages is missing");
    for (int32_t i = 0; i < keys->n; i++) {
        const struct pval *key = keys->at[i];
        struct storage *s =
            key->kind == PICKLE_STR ? find_storage(f, key->str, key->len) : NULL;
        if (!s || s->data)
            return err_set(e, ERR_FORMAT, "place %d of the list of storages: %s", i,
                           s ? "there twice" : "no tensor has it");
        if (nb < 8 || le(p, 8) != (uint64_t)s->n || nb - 8 < bytes_of(s))
            return err_set(e, ERR_FORMAT,
                           "storage '%.*s': its %zu bytes are not there: file truncated?",
                           (int)(s->len < 64 ? s->len : 64), s->key, bytes_of(s));
        s->data = p + 8;
        p += 8 + bytes_of(s);
        nb -= 8 + bytes_of(s);
    }
    for (int32_t i = 0; i < f->n_storages; i++)
        if (!f->storage[i].data)
            return err_set(e, ERR_FORMAT, "storage '%.*s' has no bytes",
                           (int)(f->storage[i].len < 64 ? f->storage[i].len : 64),
                           f->storage[i].key);
    return 0;
}

static int open_old(struct torch_file *f, const uint8_t *p, size_t nb, struct err *e)
{
    struct pickle keys;
    TRY(check_head(&p, &nb, e));
    TRY(next_pickle(&f->pk, &p, &nb, e));
    TRY(gather_storages(f, e));
    TRY(next_pickle(&keys, &p, &nb, e));
    int rc = place_storages(f, keys.root, p, nb, e);
    pickle_free(&keys);
    return rc;
}

/* ---- tensors ---- */

static bool is_dict(const struct pval *v)
{
    return v->kind == PICKLE_DICT ||
           (v->kind == PICKLE_CALL && pickle_global_is(v->func, "collections.OrderedDict"));
}

/* What a value is, for messages. */
static const char *kind_of(const struct pval *v)
{
    static const char *const names[] = {
        [PICKLE_NONE] = "None",       [PICKLE_BOOL] = "a bool",    [PICKLE_INT] = "a number",
        [PICKLE_LONG] = "a number",   [PICKLE_FLOAT] = "a number", [PICKLE_STR] = "text",
        [PICKLE_BYTES] = "bytes",     [PICKLE_TUPLE] = "a tuple",  [PICKLE_LIST] = "a list",
        [PICKLE_DICT] = "a dict",     [PICKLE_GLOBAL] = "a class", [PICKLE_CALL] = "an object",
        [PICKLE_PERSID] = "a storage"
    };
    if (v->kind == PICKLE_CALL && v->func->kind == PICKLE_GLOBAL) return v->func->str;
    return v->kind == PICKLE_GLOBAL ? v->str : names[v->kind];
}

/* Parameters are tensors in a wrapper: the arguments of the tensor's own call, or NULL. */
static const struct pval *tensor_args(const struct pval *v)
{
    static const char *const wraps[] = { "torch._utils._rebuild_parameter",
                                         "torch.nn.parameter.Parameter" };
    for (int i = 0; i < 2; i++)
        if (v->kind == PICKLE_CALL && pickle_global_is(v->func, wraps[i]) && v->args->n > 0)
            v = v->args->at[0];
    bool ok = v->kind == PICKLE_CALL &&
              (pickle_global_is(v->func, "torch._utils._rebuild_tensor_v2") ||
               pickle_global_is(v->func, "torch._utils._rebuild_tensor"));
    return ok ? v->args : NULL;
}

/* Sizes and strides; the last element must lie in the storage, and there are no more elements than it has. */
static int parse_shape(struct torch_tensor *t, const struct pval *size,
                       const struct pval *stride, int64_t offset, int64_t have, struct err *e)
{
    if (size->kind != PICKLE_TUPLE || stride->kind != PICKLE_TUPLE || size->n != stride->n ||
        size->n > TORCH_RANK || offset < 0)
        return err_set(e, ERR_FORMAT, "tensor %s: no shape of at most %d dimensions", t->name,
                       TORCH_RANK);
    int64_t last = offset, step;
    t->rank = size->n;
    t->n = 1;
    for (int32_t i = 0; i < size->n; i++) {
        int64_t dim = size->at[i]->i, by = stride->at[i]->i;
        if (size->at[i]->kind != PICKLE_INT || stride->at[i]->kind != PICKLE_INT || dim < 0 ||
            by < 0 || __builtin_mul_overflow(t->n, dim, &t->n) ||
            __builtin_mul_overflow(dim > 0 ? dim - 1 : 0, by, &step) ||
            __builtin_add_overflow(last, step, &last))
            return err_set(e, ERR_FORMAT, "tensor %s: dimension %d is not a size", t->name, i);
        t->shape[i] = dim;
        t->stride[i] = by;
    }
    if (t->n > 0 && (last >= have || t->n > have))
        return err_set(e, ERR_FORMAT,
                       "tensor %s: %" PRId64 " elements up to place %" PRId64
                       ", its storage has %" PRId64,
                       t->name, t->n, last, have);
    return 0;
}

static int parse_tensor(struct torch_tensor *t, const struct torch_file *f,
                        const struct pval *v, struct err *e)
{
    const struct pval *a = tensor_args(v);
    if (!a)
        return err_set(e, ERR_FORMAT,
                       "key '%s' holds %s, not a tensor: only tensors are read, nothing is run",
                       t->name, kind_of(v));
    if (a->n < 4 || a->at[0]->kind != PICKLE_PERSID || a->at[1]->kind != PICKLE_INT)
        return err_set(e, ERR_FORMAT, "tensor %s: built in a way that torch.save does not",
                       t->name);
    const struct pval *key = a->at[0]->args->at[2]; /* parse_storage has looked at it */
    const struct storage *s = find_storage(f, key->str, key->len);
    t->type = s->type;
    TRY(parse_shape(t, a->at[2], a->at[3], a->at[1]->i, s->n, e));
    t->data = s->data + (t->n > 0 ? (size_t)a->at[1]->i * s->type->nb : 0);
    return 0;
}

static int copy_name(const char **out, struct torch_file *f, const struct pval *key,
                     struct err *e)
{
    if (key->kind != PICKLE_STR || key->len == 0 || key->len > LIMIT_TENSOR_NAME ||
        memchr(key->str, 0, key->len))
        return err_set(e, ERR_FORMAT, "a key of the state dict is not a name of 1 to %d bytes",
                       LIMIT_TENSOR_NAME);
    char *name = arena_try(f->pk.mem, key->len + 1);
    if (!name) return err_set(e, ERR_LIMIT, "the pickle takes too much memory");
    memcpy(name, key->str, key->len);
    name[key->len] = '\0';
    *out = name;
    return 0;
}

static int parse_state(struct torch_file *f, struct err *e)
{
    const struct pval *root = f->pk.root, *inner = pickle_get(root, "state_dict");
    const struct pval *d = inner ? inner : root;
    if (!is_dict(d) || d->n % 2 != 0 || !is_dict(root))
        return err_set(e, ERR_FORMAT,
                       "%s %s, not a state dict; nothing in it is run: save "
                       "model.state_dict() instead",
                       inner && is_dict(root) ? "key 'state_dict' holds" : "the file holds",
                       kind_of(is_dict(root) ? d : root));
    if (d->n / 2 > LIMIT_TENSORS)
        return err_set(e, ERR_FORMAT, "%d tensors, at most %d", d->n / 2, LIMIT_TENSORS);
    f->tensor = xcalloc((size_t)d->n / 2 + 1, sizeof *f->tensor);
    for (int32_t i = 0; i < d->n; i += 2) {
        struct torch_tensor *t = &f->tensor[f->n_tensors];
        TRY(copy_name(&t->name, f, d->at[i], e));
        TRY(parse_tensor(t, f, d->at[i + 1], e));
        f->n_tensors++;
    }
    return 0;
}

/* ---- the file ---- */

int torch_open_mem(struct torch_file **out, const void *data, size_t nb, struct err *e)
{
    struct torch_file *f = xcalloc(1, sizeof *f);
    const uint8_t *p = data;
    int rc = nb > 4 && memcmp(p, "PK\3\4", 4) == 0 ? open_zip(f, p, nb, e)
             : nb > 1 && p[0] == 0x80              ? open_old(f, p, nb, e)
                                                   : err_set(e, ERR_FORMAT,
                                                             "neither a ZIP archive nor a pickle: not what "
                                                                          "torch.save writes");
    if (rc == 0) rc = parse_state(f, e);
    if (rc < 0)
        torch_close(f);
    else
        *out = f;
    return rc;
}

int torch_open(struct torch_file **out, const char *path, struct err *e)
{
    struct io_map map;
    TRY(io_map_open(&map, path, e));
    int rc = torch_open_mem(out, map.data, map.nb, e);
    if (rc < 0) {
        io_map_close(&map);
        return err_ctx(e, "%s", path);
    }
    (*out)->map = map;
    return 0;
}

void torch_close(struct torch_file *f)
{
    if (!f) return;
    zip_close(f->zip);
    if (f->pk.mem) pickle_free(&f->pk);
    free(f->storage);
    free(f->tensor);
    if (f->map.data) io_map_close(&f->map);
    free(f);
}

int32_t torch_count(const struct torch_file *f) { return f->n_tensors; }

int64_t torch_numbers(const struct torch_file *f)
{
    int64_t n = 0;
    for (int32_t i = 0; i < f->n_storages; i++) n += f->storage[i].n;
    return n;
}

const struct torch_tensor *torch_at(const struct torch_file *f, int32_t i)
{
    return &f->tensor[i];
}

/* From the end: of a key that was set twice the last value counts. */
const struct torch_tensor *torch_find(const struct torch_file *f, const char *name)
{
    for (int32_t i = f->n_tensors; i-- > 0;)
        if (strcmp(f->tensor[i].name, name) == 0) return &f->tensor[i];
    return NULL;
}

bool torch_setting(char *out, size_t nb, const struct torch_file *f, const char *key)
{
    const struct pval *v = pickle_get(f->pk.root, "config");
    if (v && v->kind == PICKLE_CALL && v->state) v = v->state;
    const struct pval *final = v ? pickle_get(v, "final_config_dict") : NULL;
    v = v ? pickle_get(final ? final : v, key) : NULL;
    if (!v) return false;
    if (v->kind == PICKLE_INT)
        snprintf(out, nb, "%" PRId64, v->i);
    else if (v->kind == PICKLE_FLOAT)
        snprintf(out, nb, "%g", v->f);
    else if (v->kind == PICKLE_STR)
        snprintf(out, nb, "%.*s", (int)(v->len < nb ? v->len : nb), v->str);
    else
        return false;
    return true;
}
