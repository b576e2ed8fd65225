#include "core/data/dataset.h"
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/text.h"
#include <errno.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

/* seqs.bin: this header, cu, item padded to 8 bytes, time, weight padded to 8 bytes. */
struct seqs_header {
    char magic[8];
    uint32_t version, has; /* HAS_... */
    uint64_t n_users, n_events, nb_file;
    uint64_t split; /* enum split_kind */
    int64_t valid_from, test_from;
};
enum { HAS_TIME = 1, HAS_WEIGHT = 2 };
#define SEQS_MAGIC "INTSEQS"
enum { SEQS_VERSION = 1 };
_Static_assert(sizeof(struct seqs_header) == 64, "header of seqs.bin");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are mapped as they are");

static uint64_t seqs_size(uint64_t n_users, uint64_t n_events, uint32_t has)
{
    uint64_t nb_half = (4 * n_events + 7) / 8 * 8;
    return sizeof(struct seqs_header) + 8 * (n_users + 1) + nb_half +
           (has & HAS_TIME ? 8 * n_events : 0) + (has & HAS_WEIGHT ? nb_half : 0);
}

/* ---- reading ---- */

static int seqs_header_check(const struct seqs_header *h, const void *data, size_t nb,
                             int32_t n_users, struct err *e)
{
    if (memcmp(h->magic, SEQS_MAGIC, sizeof h->magic) != 0)
        return err_set(e, ERR_FORMAT, "does not begin with " SEQS_MAGIC);
    if (h->version != SEQS_VERSION)
        return err_set(e, ERR_FORMAT, "version %u; this program reads %d", h->version,
                       SEQS_VERSION);
    if (h->nb_file != nb)
        return err_set(e, ERR_FORMAT, "%zu bytes long; its header says %llu", nb,
                       (unsigned long long)h->nb_file);
    if ((uintptr_t)data % sizeof(uint64_t) != 0)
        return err_set(e, ERR_FORMAT, "not aligned to 8 bytes in memory");
    if (h->n_users != (uint64_t)n_users)
        return err_set(e, ERR_FORMAT, "%llu users; users.bin has %d",
                       (unsigned long long)h->n_users, n_users);
    /* Bounded by the file's size first, so that the exact size below cannot overflow. */
    if (h->n_events > nb / 4 || h->has > (HAS_TIME | HAS_WEIGHT) ||
        seqs_size(h->n_users, h->n_events, h->has) != nb)
        return err_set(e, ERR_FORMAT, "%llu users and %llu events do not make %zu bytes",
                       (unsigned long long)h->n_users, (unsigned long long)h->n_events, nb);
    if (h->split > SPLIT_TIME ||
        (h->split == SPLIT_TIME && (!(h->has & HAS_TIME) || h->test_from <= h->valid_from)))
        return err_set(e, ERR_FORMAT, "unknown split %llu", (unsigned long long)h->split);
    return 0;
}

static int users_check(const struct dataset *d, struct err *e)
{
    if (d->cu[0] != 0 || d->cu[d->n_users] != d->n_events)
        return err_set(e, ERR_FORMAT, "offsets do not span the events");
    for (int32_t u = 0; u < d->n_users; u++)
        if (d->cu[u + 1] <= d->cu[u] || d->cu[u + 1] > d->n_events ||
            d->cu[u + 1] - d->cu[u] > INT32_MAX)
            return err_set(e, ERR_FORMAT, "events of user %d: %lld to %lld", u,
                           (long long)d->cu[u], (long long)d->cu[u + 1]);
    return 0;
}

/* A split by time looks places up by halving: times must be in order. */
static int events_check(const struct dataset *d, struct err *e)
{
    for (int64_t i = 0; i < d->n_events; i++) {
        if (d->item[i] < 0 || d->item[i] >= d->n_items)
            return err_set(e, ERR_FORMAT, "event %lld: row %d of %d items", (long long)i,
                           d->item[i], d->n_items);
        if (d->weight && !(d->weight[i] > 0 && d->weight[i] <= 1e6f))
            return err_set(e, ERR_FORMAT, "event %lld: weight %g", (long long)i,
                           (double)d->weight[i]);
    }
    for (int32_t u = 0; d->time && u < d->n_users; u++)
        for (int64_t i = d->cu[u] + 1; i < d->cu[u + 1]; i++)
            if (d->time[i] < d->time[i - 1])
                return err_set(e, ERR_FORMAT, "event %lld is older than the one before it",
                               (long long)i);
    return 0;
}

int dataset_view_seqs(struct dataset *d, const void *data, size_t nb, struct err *e)
{
    struct seqs_header h;
    if (nb < sizeof h) return err_set(e, ERR_FORMAT, "%zu bytes are too few for a header", nb);
    memcpy(&h, data, sizeof h);
    TRY(seqs_header_check(&h, data, nb, d->n_users, e));
    const char *at = (const char *)data + sizeof h;
    size_t nb_half = (4 * h.n_events + 7) / 8 * 8;
    d->n_events = (int64_t)h.n_events;
    d->split = (struct split_rule){ (enum split_kind)h.split, h.valid_from, h.test_from };
    d->cu = (const int64_t *)at;
    at += 8 * (h.n_users + 1);
    d->item = (const int32_t *)at;
    at += nb_half;
    d->time = h.has & HAS_TIME ? (const int64_t *)at : NULL;
    if (d->time) at += 8 * h.n_events;
    d->weight = h.has & HAS_WEIGHT ? (const void *)at : NULL;
    TRY(users_check(d, e));
    return events_check(d, e);
}

static int64_t json_count(const json_t *root, const char *key)
{
    const json_t *v = json_object_get(root, key);
    return json_is_integer(v) ? (int64_t)json_integer_value(v) : -1;
}

static int description_check(const struct dataset *d, const char *path, struct err *e)
{
    char *text;
    size_t nb;
    TRY(io_read_all(&text, &nb, path, LIMIT_JSON_FILE_BYTES, e));
    json_error_t why;
    json_t *root = json_loadb(text, nb, JSON_REJECT_DUPLICATES, &why);
    free(text);
    if (!root) return err_set(e, ERR_FORMAT, "%s:%d: %s", path, why.line, why.text);
    int rc = 0;
    int64_t users = json_count(root, "users"), items = json_count(root, "items");
    int64_t events = json_count(root, "events");
    if (users != d->n_users || items != d->n_items || events != d->n_events)
        rc =
            err_set(e, ERR_FORMAT,
                    "%s: says %lld users, %lld items, %lld events; the files hold %d, %d, %lld",
                    path, (long long)users, (long long)items, (long long)events, d->n_users,
                    d->n_items, (long long)d->n_events);
    json_decref(root);
    return rc;
}

static int open_parts(struct dataset *d, const char *items, const char *users, const char *seqs,
                      const char *json, struct err *e)
{
    TRY(items_open(&d->items, items, e));
    TRY(items_open(&d->users, users, e));
    d->n_items = items_count(d->items);
    d->n_users = items_count(d->users);
    if (d->n_items > LIMIT_ITEMS)
        return err_set(e, ERR_LIMIT, "%s: %d items, at most %d", items, d->n_items,
                       LIMIT_ITEMS);
    TRY(io_map_open(d->map_, seqs, e));
    const struct io_map *m = d->map_;
    if (dataset_view_seqs(d, m->data, m->nb, e) < 0) return err_ctx(e, "%s", seqs);
    return description_check(d, json, e);
}

/* The directory's own name, also for "x/", "." and "..". */
static char *own_name(const char *dir)
{
    char *full = realpath(dir, NULL);
    char *copy = full ? full : xstrdup(dir);
    char *name = xstrdup(basename(copy));
    if (!text_utf8_ok(name, strlen(name))) /* it goes into JSON, and is a label only */
        for (char *p = name; *p; p++)
            if ((unsigned char)*p >= 0x80) *p = '?';
    free(copy);
    return name;
}

int dataset_open(struct dataset *d, const char *dir, struct err *e)
{
    *d = (struct dataset){ 0 };
    if (!io_exists(dir))
        return err_set(e, ERR_NOT_FOUND,
                       "%s: no such data set; `intent prep INPUT --out %s` makes one", dir,
                       dir);
    *d = (struct dataset){ .name = own_name(dir), .map_ = xcalloc(1, sizeof(struct io_map)) };
    char *path[4];
    static const char *const file[4] = { "items.bin", "users.bin", "seqs.bin", "dataset.json" };
    for (int i = 0; i < 4; i++) path[i] = xasprintf("%s/%s", dir, file[i]);
    int rc = open_parts(d, path[0], path[1], path[2], path[3], e);
    for (int i = 0; i < 4; i++) free(path[i]);
    if (rc < 0) {
        err_ctx(e, "opening data set %s", dir);
        dataset_close(d);
    }
    return rc;
}

void dataset_close(struct dataset *d)
{
    items_close(d->items);
    items_close(d->users);
    if (d->map_) io_map_close(d->map_);
    free(d->map_);
    free(d->name);
    *d = (struct dataset){ 0 };
}

static const int64_t *times_of(const struct dataset *d, int32_t u)
{
    return d->time ? d->time + d->cu[u] : NULL;
}

int32_t dataset_train_len(const struct dataset *d, int32_t u)
{
    return (int32_t)split_train_len(&d->split, times_of(d, u), d->cu[u + 1] - d->cu[u]);
}

bool dataset_case(const struct dataset *d, int32_t u, enum split s, const int32_t **hist,
                  int32_t *len, int32_t *answer)
{
    int64_t n = d->cu[u + 1] - d->cu[u];
    int64_t at = s == SPLIT_TEST    ? split_test_at(&d->split, times_of(d, u), n)
                 : s == SPLIT_VALID ? split_valid_at(&d->split, times_of(d, u), n)
                                    : -1;
    if (at < 0) return false;
    *hist = d->item + d->cu[u];
    *len = (int32_t)at;
    *answer = (*hist)[at];
    return true;
}

uint64_t dataset_fingerprint(const struct dataset *d)
{
    size_t n_events = (size_t)d->n_events;
    XXH3_state_t *x = XXH3_createState();
    REQUIRE(x && XXH3_64bits_reset(x) == XXH_OK, "hash of %zu events", n_events);
    const int64_t split[3] = { d->split.kind, d->split.valid_from, d->split.test_from };
    (void)XXH3_64bits_update(x, split, sizeof split);
    (void)XXH3_64bits_update(x, d->cu, ((size_t)d->n_users + 1) * sizeof *d->cu);
    (void)XXH3_64bits_update(x, d->item, n_events * sizeof *d->item);
    if (d->time) (void)XXH3_64bits_update(x, d->time, n_events * sizeof *d->time);
    if (d->weight) (void)XXH3_64bits_update(x, d->weight, n_events * sizeof *d->weight);
    for (int32_t i = 0; i < d->n_items; i++) {
        struct str id = items_id(d->items, i);
        (void)XXH3_64bits_update(x, &id.len, sizeof id.len);
        (void)XXH3_64bits_update(x, id.p, (size_t)id.len);
    }
    uint64_t sum = XXH3_64bits_digest(x);
    XXH3_freeState(x);
    return sum;
}

/* ---- writing ---- */

static int write_seqs(const char *path, const struct dataset_parts *p, struct err *e)
{
    uint64_t n_users = (uint64_t)items_builder_count(p->users);
    uint64_t n_events = (uint64_t)p->cu[n_users];
    uint32_t has = (p->time ? HAS_TIME : 0) | (p->weight ? HAS_WEIGHT : 0);
    uint64_t nb = seqs_size(n_users, n_events, has), nb_half = (4 * n_events + 7) / 8 * 8;
    struct seqs_header h = { .magic = SEQS_MAGIC,
                             .version = SEQS_VERSION,
                             .has = has,
                             .n_users = n_users,
                             .n_events = n_events,
                             .nb_file = nb,
                             .split = p->split.kind,
                             .valid_from = p->split.valid_from,
                             .test_from = p->split.test_from };
    static const char zeros[8];
    const struct io_piece piece[] = {
        { &h, sizeof h },
        { p->cu, 8 * (n_users + 1) },
        { p->item, 4 * n_events },
        { zeros, nb_half - 4 * n_events },
        { p->time, p->time ? 8 * n_events : 0 },
        { p->weight, p->weight ? 4 * n_events : 0 },
        { zeros, p->weight ? nb_half - 4 * n_events : 0 },
    };
    return io_write_pieces(path, piece, sizeof piece / sizeof *piece, e);
}

static int write_parts(const char *dir, const struct dataset_parts *p, struct err *e)
{
    char *items = xasprintf("%s/items.bin", dir), *users = xasprintf("%s/users.bin", dir);
    char *seqs = xasprintf("%s/seqs.bin", dir), *json = xasprintf("%s/dataset.json", dir);
    int rc = items_write(p->items, items, e);
    if (rc == 0) rc = items_write(p->users, users, e);
    if (rc == 0) rc = write_seqs(seqs, p, e);
    if (rc == 0) rc = io_write_atomic(json, p->json, strlen(p->json), e);
    free(items);
    free(users);
    free(seqs);
    free(json);
    return rc;
}

/* 1: dir is a data set, 0: nothing or an empty directory is there; else refused. */
static int what_is_there(const char *dir, struct err *e)
{
    struct stat st;
    if (stat(dir, &st) < 0) {
        if (errno == ENOENT) return 0;
        return err_sys(e, ERR_IO, "%s", dir);
    }
    if (!S_ISDIR(st.st_mode)) return err_set(e, ERR_CONFIG, "%s is not a directory", dir);
    char *json = xasprintf("%s/dataset.json", dir);
    bool is_set = io_exists(json);
    free(json);
    if (is_set) return 1;
    if (rmdir(dir) == 0) return 0;
    return err_set(e, ERR_CONFIG, "%s exists and is not a data set: it is left as it is", dir);
}

/* Puts tmp in the data set dir's place; what was there is removed. */
static int replace(const char *tmp, const char *dir, struct err *e)
{
    char *aside = xasprintf("%s.old", tmp);
    int rc = io_exchange_dir(tmp, dir, aside, e);
    free(aside);
    return rc < 0 ? rc : io_remove_tree(tmp, e);
}

static int put_in_place(const char *tmp, const char *dir, struct err *e)
{
    int there = what_is_there(dir, e);
    TRY(there);
    TRY(io_sync_tree(tmp, e));
    if (there) {
        TRY(replace(tmp, dir, e));
    } else if (rename(tmp, dir) < 0) {
        return err_sys(e, ERR_IO, "renaming to %s", dir);
    }
    return io_sync_parent(dir, e);
}

int dataset_write(const char *dir, const struct dataset_parts *p, struct err *e)
{
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/') len--;
    char *to = xstrndup(dir, len), *tmp = xasprintf("%s.tmp.%ld", to, (long)getpid());
    if (io_exists(tmp))
        (void)!io_remove_tree(tmp, NULL); /* left by a killed process of this number */
    int rc = io_mkdirs(tmp, e);
    if (rc == 0) rc = write_parts(tmp, p, e);
    if (rc == 0) rc = put_in_place(tmp, to, e);
    if (rc < 0 && io_exists(tmp)) (void)!io_remove_tree(tmp, NULL);
    if (rc < 0) err_ctx(e, "writing data set %s", to);
    free(tmp);
    free(to);
    return rc;
}
