#include "core/data/dataset.h"
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include <errno.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* seqs.bin: this header, cu, item padded to 8 bytes, time. */
struct seqs_header {
    char magic[8];
    uint32_t version, has_time;
    uint64_t n_users, n_events, nb_file;
    uint64_t reserved[3];
};
#define SEQS_MAGIC "INTSEQS"
enum { SEQS_VERSION = 1 };
_Static_assert(sizeof(struct seqs_header) == 64, "header of seqs.bin");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are mapped as they are");

static uint64_t seqs_size(uint64_t n_users, uint64_t n_events, bool has_time)
{
    uint64_t nb_item = (4 * n_events + 7) / 8 * 8;
    return sizeof(struct seqs_header) + 8 * (n_users + 1) + nb_item +
           (has_time ? 8 * n_events : 0);
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
    if (h->n_events > nb / 4 || h->has_time > 1 ||
        seqs_size(h->n_users, h->n_events, h->has_time) != nb)
        return err_set(e, ERR_FORMAT, "%llu users and %llu events do not make %zu bytes",
                       (unsigned long long)h->n_users, (unsigned long long)h->n_events, nb);
    return 0;
}

int dataset_view_seqs(struct dataset *d, const void *data, size_t nb, struct err *e)
{
    struct seqs_header h;
    if (nb < sizeof h) return err_set(e, ERR_FORMAT, "%zu bytes are too few for a header", nb);
    memcpy(&h, data, sizeof h);
    TRY(seqs_header_check(&h, data, nb, d->n_users, e));
    const char *at = (const char *)data + sizeof h;
    d->n_events = (int64_t)h.n_events;
    d->cu = (const int64_t *)at;
    at += 8 * (h.n_users + 1);
    d->item = (const int32_t *)at;
    d->time = h.has_time ? (const int64_t *)(at + (4 * h.n_events + 7) / 8 * 8) : NULL;
    if (d->cu[0] != 0 || d->cu[d->n_users] != d->n_events)
        return err_set(e, ERR_FORMAT, "offsets do not span the events");
    for (int32_t u = 0; u < d->n_users; u++)
        if (d->cu[u + 1] <= d->cu[u] || d->cu[u + 1] > d->n_events ||
            d->cu[u + 1] - d->cu[u] > INT32_MAX)
            return err_set(e, ERR_FORMAT, "events of user %d: %lld to %lld", u,
                           (long long)d->cu[u], (long long)d->cu[u + 1]);
    for (int64_t i = 0; i < d->n_events; i++)
        if (d->item[i] < 0 || d->item[i] >= d->n_items)
            return err_set(e, ERR_FORMAT, "event %lld: row %d of %d items", (long long)i,
                           d->item[i], d->n_items);
    return 0;
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

int32_t dataset_train_len(const struct dataset *d, int32_t u)
{
    int64_t n = d->cu[u + 1] - d->cu[u];
    return (int32_t)(n < 3 ? n : n - 2);
}

bool dataset_case(const struct dataset *d, int32_t u, enum split s, const int32_t **hist,
                  int32_t *len, int32_t *answer)
{
    int64_t n = d->cu[u + 1] - d->cu[u];
    if (n < 3 || s == SPLIT_TRAIN) return false;
    *hist = d->item + d->cu[u];
    *len = (int32_t)(s == SPLIT_TEST ? n - 1 : n - 2);
    *answer = (*hist)[*len];
    return true;
}

/* ---- writing ---- */

static int write_seqs(const char *path, const struct dataset_parts *p, struct err *e)
{
    uint64_t n_users = (uint64_t)items_builder_count(p->users);
    uint64_t n_events = (uint64_t)p->cu[n_users];
    uint64_t nb = seqs_size(n_users, n_events, p->time != NULL);
    struct seqs_header h = { .magic = SEQS_MAGIC,
                             .version = SEQS_VERSION,
                             .has_time = p->time != NULL,
                             .n_users = n_users,
                             .n_events = n_events,
                             .nb_file = nb };
    char *file = xcalloc(1, (size_t)nb), *at = file;
    memcpy(at, &h, sizeof h);
    at += sizeof h;
    memcpy(at, p->cu, 8 * (n_users + 1));
    at += 8 * (n_users + 1);
    memcpy(at, p->item, 4 * n_events);
    at += (4 * n_events + 7) / 8 * 8;
    if (p->time) memcpy(at, p->time, 8 * n_events);
    int rc = io_write_atomic(path, file, (size_t)nb, e);
    free(file);
    return rc;
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
