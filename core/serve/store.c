#include "core/serve/store.h"
#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <unistd.h>

enum { KEY = SHA256_DIGEST_SIZE, ID_DIGITS = 32 };
static const size_t MAP_FIRST = (size_t)64 << 20;
static const char OWNER[] = "owner.lock"; /* held by the process that writes */

struct store {
    MDB_env *env;
    MDB_dbi
        items; /* sha256 of model, NUL, id -> item_change: ids may be longer than LMDB's keys */
    MDB_dbi lists; /* name -> blocklist */
    MDB_dbi meta;  /* "seq": uint64; "id" */
    char *dir;
    int owner; /* descriptor, flock'ed; -1: read only */
    struct arena *arena;
    char id[ID_DIGITS + 1];
};

static int failed(const struct store *s, int rc, struct err *e)
{
    return err_set(e, ERR_IO, "item store %s: %s", s->dir, mdb_strerror(rc));
}

/* ---- transactions ---- */

/* Returns LMDB's code; run again when the map had to grow. */
typedef int txn_fn(struct store *s, MDB_txn *t, void *ctx);

/* With no transaction open.  0: try again. */
static int make_room(struct store *s, int rc)
{
    MDB_envinfo info;
    if (rc == MDB_MAP_RESIZED) return mdb_env_set_mapsize(s->env, 0);
    if (rc != MDB_MAP_FULL) return rc;
    mdb_env_info(s->env, &info);
    return mdb_env_set_mapsize(s->env, 2 * info.me_mapsize);
}

static int write_txn(struct store *s, txn_fn *fn, void *ctx, struct err *e)
{
    int dead, rc = mdb_reader_check(s->env, &dead); /* who was killed keeps no page */
    REQUIRE(s->owner >= 0, "%s is open for reading", s->dir);
    while (rc == 0) {
        MDB_txn *t;
        rc = mdb_txn_begin(s->env, NULL, 0, &t);
        if (rc == 0) {
            rc = fn(s, t, ctx);
            if (rc == 0)
                rc = mdb_txn_commit(t);
            else
                mdb_txn_abort(t);
            if (rc == 0) return 0;
        }
        rc = make_room(s, rc);
    }
    return failed(s, rc, e);
}

static int read_txn(struct store *s, txn_fn *fn, void *ctx, struct err *e)
{
    MDB_txn *t;
    int rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &t);
    if (rc == MDB_MAP_RESIZED && (rc = make_room(s, rc)) == 0)
        rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &t);
    if (rc == 0) {
        rc = fn(s, t, ctx);
        if (rc == 0)
            rc = mdb_txn_commit(t); /* tables that an aborted one opened are closed */
        else
            mdb_txn_abort(t);
    }
    return rc ? failed(s, rc, e) : 0;
}

static MDB_val val(const void *p, size_t nb)
{
    return (MDB_val){ .mv_size = nb, .mv_data = (void *)(uintptr_t)p };
}

static int read_seq(struct store *s, MDB_txn *t, uint64_t *seq)
{
    MDB_val k = val("seq", 3), v;
    int rc = mdb_get(t, s->meta, &k, &v);
    *seq = 0;
    if (rc == MDB_NOTFOUND) return 0;
    if (rc == 0 && v.mv_size != sizeof *seq) return MDB_CORRUPTED;
    if (rc == 0) memcpy(seq, v.mv_data, sizeof *seq);
    return rc;
}

/* ---- opening ---- */

/* The tables, and on first use the store's id. */
static int begin_tables(struct store *s, MDB_txn *t, void *ctx)
{
    const unsigned create = *(const bool *)ctx ? MDB_CREATE : 0;
    MDB_val k = val("id", 2), v;
    int rc = mdb_dbi_open(t, "items", create, &s->items);
    if (rc == 0) rc = mdb_dbi_open(t, "lists", create, &s->lists);
    if (rc == 0) rc = mdb_dbi_open(t, "meta", create, &s->meta);
    if (rc == 0) rc = mdb_get(t, s->meta, &k, &v);
    if (rc == 0 && v.mv_size != ID_DIGITS) return MDB_CORRUPTED;
    if (rc == 0) memcpy(s->id, v.mv_data, ID_DIGITS);
    if (rc != MDB_NOTFOUND || !create) return rc;
    uint8_t random[ID_DIGITS / 2];
    if (getrandom(random, sizeof random, 0) != sizeof random) return errno;
    for (size_t i = 0; i < sizeof random; i++) snprintf(s->id + 2 * i, 3, "%02x", random[i]);
    v = val(s->id, ID_DIGITS);
    return mdb_put(t, s->meta, &k, &v, 0);
}

static int lock_owner(struct store *s, struct err *e)
{
    char *path = xasprintf("%s/%s", s->dir, OWNER);
    s->owner = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    free(path);
    if (s->owner < 0) return err_sys(e, ERR_IO, "item store %s: %s", s->dir, OWNER);
    if (flock(s->owner, LOCK_EX | LOCK_NB) == 0) return 0;
    return err_set(e, ERR_CONFIG, "item store %s: another process writes to it", s->dir);
}

static int open_env(struct store *s, bool write, struct err *e)
{
    int rc = mdb_env_create(&s->env);
    if (rc == 0) rc = mdb_env_set_maxdbs(s->env, 3);
    if (rc == 0 && write) rc = mdb_env_set_mapsize(s->env, MAP_FIRST);
    if (rc == 0) rc = mdb_env_open(s->env, s->dir, write ? 0 : MDB_RDONLY, 0644);
    return rc ? failed(s, rc, e) : 0;
}

int store_open(struct store **out, const char *dir, enum store_mode mode, struct err *e)
{
    bool write = mode == STORE_WRITE;
    struct store *s = xcalloc(1, sizeof *s);
    s->dir = xstrdup(dir);
    s->owner = -1;
    s->arena = arena_new("store", 1 << 16, 0);
    int rc = write ? io_mkdirs(dir, e) : 0;
    if (rc == 0 && write) rc = lock_owner(s, e);
    if (rc == 0) rc = open_env(s, write, e);
    if (rc == 0) rc = (write ? write_txn : read_txn)(s, begin_tables, &write, e);
    if (rc == 0 && write) rc = io_sync_tree(dir, e); /* the files' names, too */
    if (rc < 0) {
        store_close(s);
        s = NULL;
    }
    *out = s;
    return rc;
}

void store_close(struct store *s)
{
    if (!s) return;
    mdb_env_close(s->env);
    if (s->owner >= 0) close(s->owner);
    arena_free(s->arena);
    free(s->dir);
    free(s);
}

const char *store_id(const struct store *s) { return s->id; }

/* ---- items ---- */

static void item_key(uint8_t key[KEY], struct str model, struct str id)
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, (size_t)model.len, (const uint8_t *)model.p);
    sha256_update(&ctx, 1, (const uint8_t *)"");
    sha256_update(&ctx, (size_t)id.len, (const uint8_t *)id.p);
    sha256_digest(&ctx, KEY, key);
}

struct putting {
    struct item_change *c;
    struct store_was *was;
    int32_t n;
    struct buf bytes;
};

static void read_was(struct store_was *w, struct store *s, const MDB_val *v)
{
    struct item_change c;
    arena_reset(s->arena);
    *w = (struct store_was){ .any = true };
    if (record_get_item(&c, v->mv_data, v->mv_size, s->arena, NULL) < 0) {
        w->any = false; /* what is damaged was left out before */
        return;
    }
    w->deleted = c.deleted;
    w->has_attrs = c.has_attrs;
    w->dim = c.dim;
    memcpy(w->space, c.space.p ? c.space.p : "", (size_t)c.space.len);
}

static int put_item(struct store *s, MDB_txn *t, struct putting *p, int32_t i)
{
    uint8_t key[KEY];
    item_key(key, p->c[i].model, p->c[i].id);
    MDB_val k = val(key, KEY), v;
    int rc = p->was ? mdb_get(t, s->items, &k, &v) : MDB_NOTFOUND;
    if (p->was) p->was[i] = (struct store_was){ .any = false };
    if (rc == 0) read_was(&p->was[i], s, &v);
    if (rc && rc != MDB_NOTFOUND) return rc;
    buf_clear(&p->bytes);
    record_put_item(&p->bytes, &p->c[i]);
    v = val(p->bytes.data, p->bytes.len);
    return mdb_put(t, s->items, &k, &v, 0);
}

static int put_items(struct store *s, MDB_txn *t, void *ctx)
{
    struct putting *p = ctx;
    uint64_t seq;
    int rc = read_seq(s, t, &seq);
    for (int32_t i = 0; i < p->n && rc == 0; i++) {
        p->c[i].seq = ++seq;
        rc = put_item(s, t, p, i);
    }
    MDB_val k = val("seq", 3), v = val(&seq, sizeof seq);
    return rc ? rc : mdb_put(t, s->meta, &k, &v, 0);
}

int store_put_items(struct store *s, struct item_change *c, struct store_was *was, int32_t n,
                    struct err *e)
{
    struct putting p = { c, was, n, { .cap_max = 0 } };
    int rc = write_txn(s, put_items, &p, e);
    buf_free(&p.bytes);
    return rc;
}

/* ---- everything ---- */

struct each {
    const char *model;
    store_item_fn *on_item;
    store_list_fn *on_list;
    void *ctx;
    uint64_t seq;
    struct buf drop; /* keys, each after its length */
};

static void note_drop(struct each *x, const MDB_val *k)
{
    uint16_t nb = (uint16_t)k->mv_size;
    buf_put(&x->drop, &nb, sizeof nb);
    buf_put(&x->drop, k->mv_data, nb);
}

static void tell_damaged(const char *what, const MDB_val *k, const struct err *why)
{
    char key[2 * 511 + 1], text[LOG_VALUE];
    for (size_t i = 0; i < k->mv_size && 2 * i + 2 < sizeof key; i++)
        snprintf(key + 2 * i, 3, "%02x", ((const uint8_t *)k->mv_data)[i]);
    log_error("store.damaged", "kind=%s key=%s reason=%s", what, key,
              log_value(text, sizeof text, why->msg));
}

static void see_item(struct store *s, struct each *x, const MDB_val *k, const MDB_val *v)
{
    struct item_change c;
    struct err why = { 0 };
    uint8_t key[KEY];
    if (record_get_item(&c, v->mv_data, v->mv_size, s->arena, &why) == 0) {
        item_key(key, c.model, c.id);
        if (k->mv_size != KEY || memcmp(key, k->mv_data, KEY) != 0)
            err_set(&why, ERR_FORMAT, "it lies under the key of another");
    }
    if (why.code) {
        tell_damaged("item", k, &why);
        return;
    }
    bool ours = strlen(x->model) == (size_t)c.model.len &&
                memcmp(x->model, c.model.p, (size_t)c.model.len) == 0;
    if (ours && x->on_item(x->ctx, &c) == STORE_DROP) note_drop(x, k);
}

static void see_list(struct store *s, struct each *x, const MDB_val *k, const MDB_val *v)
{
    struct blocklist l;
    struct err why = { 0 };
    REQUIRE(x->on_list, "neither items nor lists are asked for");
    if (record_get_blocklist(&l, v->mv_data, v->mv_size, s->arena, &why) == 0 &&
        (k->mv_size != (size_t)l.name.len || memcmp(k->mv_data, l.name.p, k->mv_size) != 0))
        err_set(&why, ERR_FORMAT, "it lies under the key of another");
    if (why.code)
        tell_damaged("blocklist", k, &why);
    else if (x->on_list(x->ctx, &l) == STORE_DROP)
        note_drop(x, k);
}

static int see_all(struct store *s, MDB_txn *t, void *ctx)
{
    struct each *x = ctx;
    MDB_cursor *c;
    MDB_val k, v;
    int rc = read_seq(s, t, &x->seq);
    if (rc == 0) rc = mdb_cursor_open(t, x->on_item ? s->items : s->lists, &c);
    if (rc) return rc;
    while ((rc = mdb_cursor_get(c, &k, &v, MDB_NEXT)) == 0) {
        arena_reset(s->arena);
        if (x->on_item)
            see_item(s, x, &k, &v);
        else
            see_list(s, x, &k, &v);
    }
    mdb_cursor_close(c);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int drop_noted(struct store *s, MDB_txn *t, void *ctx)
{
    const struct each *x = ctx;
    uint16_t nb;
    int rc = 0;
    for (size_t at = 0; at < x->drop.len && rc == 0; at += nb) {
        memcpy(&nb, x->drop.data + at, sizeof nb);
        at += sizeof nb;
        MDB_val k = val(x->drop.data + at, nb);
        rc = mdb_del(t, x->on_item ? s->items : s->lists, &k, NULL);
    }
    return rc;
}

static int each(struct store *s, struct each *x, struct err *e)
{
    int rc = read_txn(s, see_all, x, e);
    if (rc == 0 && x->drop.len) rc = write_txn(s, drop_noted, x, e);
    buf_free(&x->drop);
    return rc;
}

int store_each_item(struct store *s, const char *model, store_item_fn *fn, void *ctx,
                    uint64_t *seq, struct err *e)
{
    struct each x = { .model = model, .on_item = fn, .ctx = ctx };
    TRY(each(s, &x, e));
    if (seq) *seq = x.seq;
    return 0;
}

int store_each_list(struct store *s, store_list_fn *fn, void *ctx, struct err *e)
{
    struct each x = { .on_list = fn, .ctx = ctx };
    return each(s, &x, e);
}

/* ---- blocklists ---- */

static int put_list(struct store *s, MDB_txn *t, void *ctx)
{
    const struct blocklist *l = ctx;
    struct buf b = { .cap_max = 0 };
    record_put_blocklist(&b, l);
    MDB_val k = val(l->name.p, (size_t)l->name.len), v = val(b.data, b.len);
    int rc = mdb_put(t, s->lists, &k, &v, 0);
    buf_free(&b);
    return rc;
}

int store_put_list(struct store *s, const struct blocklist *l, struct err *e)
{
    struct blocklist copy = *l;
    return write_txn(s, put_list, &copy, e);
}

static int drop_list(struct store *s, MDB_txn *t, void *ctx)
{
    const struct str *name = ctx;
    MDB_val k = val(name->p, (size_t)name->len);
    int rc = mdb_del(t, s->lists, &k, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int store_drop_list(struct store *s, struct str name, struct err *e)
{
    return write_txn(s, drop_list, &name, e);
}
