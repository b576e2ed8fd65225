#include "server/catalog.h"
#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include "core/serve/live.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct failed {
    char *name, *reason;
    int64_t version; /* 0: none was reached */
};
struct catalog {
    struct gen **gen;
    int n;
    struct failed *failed;
    int n_failed;
    const char *default_name; /* a generation's name, or NULL */
};

/* msg without the models directory in front of its paths: clients read it, and where things lie on this
 * machine is none of their business. */
static char *without_dir(const char *msg, const char *dir)
{
    size_t n = strlen(dir);
    char *out = xstrdup(msg), *at = out;
    while (n && dir[n - 1] == '/') n--;
    for (; n && *at; at++) {
        bool starts = at == out || strchr(" \"'`(:=", at[-1]);
        if (!starts || strncmp(at, dir, n) != 0 || at[n] != '/') continue;
        size_t cut = n + strspn(at + n, "/");
        memmove(at, at + cut, strlen(at + cut) + 1);
    }
    return out;
}

static void add_failed(struct catalog *c, const char *dir, const char *name, int64_t version,
                       const struct err *e)
{
    char model[LOG_VALUE], why[LOG_VALUE];
    log_error("model.refused", "model=%s version=%" PRId64 " reason=%s",
              log_value(model, sizeof model, name), version,
              log_value(why, sizeof why, e->msg));
    c->failed = xrealloc(c->failed, (size_t)c->n_failed + 1, sizeof *c->failed);
    c->failed[c->n_failed++] =
        (struct failed){ xstrdup(name), without_dir(e->msg, dir), version };
}

/* Requests, metrics and the listing know a model by its name: two directories must not carry one. */
static int open_version(struct gen **g, const char *path, const char *name, struct err *e)
{
    TRY(gen_open(g, path, e));
    const char *said = gen_info(*g)->name;
    if (strcmp(said, name) == 0) return 0;
    err_set(e, ERR_BAD_BUNDLE,
            "bundle %s: the manifest's name is \"%s\", the directory's \"%s\"", path, said,
            name);
    gen_unref(*g);
    *g = NULL;
    return e->code;
}

static void add_loaded(struct catalog *c, struct gen *g)
{
    const struct gen_info *i = gen_info(g);
    char name[LOG_VALUE];
    c->gen = xrealloc(c->gen, (size_t)c->n + 1, sizeof *c->gen);
    c->gen[c->n++] = g;
    log_info("model.loaded",
             "model=%s version=%" PRId64
             " items=%d interests=%d dim=%d index=%s recall=%.4f ms=%.0f",
             log_value(name, sizeof name, i->name), i->version, i->n_items, i->K, i->D,
             i->index_type, i->recall, i->load_ms);
}

/* The highest version that can be served: a trainer may be writing one, and a broken one must not take a
 * good older one down with it. */
static void load_model_dir(struct catalog *c, const char *dir, const char *name)
{
    char *model = xasprintf("%s/%s", dir, name), where[LOG_VALUE];
    int64_t version = INT64_MAX;
    struct gen *g = NULL;
    int n_failed = c->n_failed;
    while (!g) {
        struct err e = { 0 };
        if (bundle_before(model, version, &version, &e) < 0) {
            add_failed(c, dir, name, 0, &e);
            break;
        }
        if (version == 0) break;
        char *path = xasprintf("%s/%" PRId64, model, version);
        if (open_version(&g, path, name, &e) == 0)
            add_loaded(c, g);
        else
            add_failed(c, dir, name, version, &e);
        free(path);
    }
    if (!g && c->n_failed == n_failed)
        log_info("model.skipped", "path=%s reason=\"no version directory\"",
                 log_value(where, sizeof where, model));
    free(model);
}

static int is_model_dir(const struct dirent *d) { return d->d_name[0] != '.'; }

static int load_all(struct catalog *c, const char *dir, struct err *e)
{
    struct dirent **found = NULL;
    char *manifest = xasprintf("%s/" BUNDLE_MANIFEST, dir);
    bool is_bundle = io_exists(manifest);
    free(manifest);
    if (is_bundle)
        return err_set(e, ERR_CONFIG,
                       "%s is a bundle itself: give --models the directory two levels up, "
                       "which holds <name>/<version>/",
                       dir);
    int n = scandir(dir, &found, is_model_dir, alphasort);
    if (n < 0) return err_sys(e, ERR_IO, "models directory %s", dir);
    for (int i = 0; i < n; i++) {
        struct stat st;
        char *path = xasprintf("%s/%s", dir, found[i]->d_name);
        if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
            load_model_dir(c, dir, found[i]->d_name);
        free(path);
        free(found[i]);
    }
    free(found);
    return 0;
}

static struct gen *find(const struct catalog *c, const char *name, size_t len)
{
    for (int i = 0; i < c->n; i++) {
        const char *have = gen_info(c->gen[i])->name;
        if (strlen(have) == len && memcmp(have, name, len) == 0) return c->gen[i];
    }
    return NULL;
}

static int choose_default(struct catalog *c, const char *dir, const char *name, struct err *e)
{
    if (c->n == 0 && c->n_failed)
        return err_set(e, ERR_BAD_BUNDLE, "no model in %s can be served: %s: %s", dir,
                       c->failed[0].name, c->failed[0].reason);
    if (c->n == 0)
        return err_set(e, ERR_EMPTY,
                       "no model in %s: expected %s/<name>/<version>/" BUNDLE_MANIFEST
                       ", as `intent train --out` and `intent index` write it",
                       dir, dir);
    struct gen *g = find(c, name ? name : "default", strlen(name ? name : "default"));
    if (!g && name)
        return err_set(e, ERR_MODEL_NOT_FOUND, "--model %s: no such model is loaded from %s",
                       name, dir);
    if (!g && c->n == 1) g = c->gen[0];
    c->default_name = g ? gen_info(g)->name : NULL;
    return 0;
}

int catalog_load(struct catalog **out, const char *dir, const char *default_name, struct err *e)
{
    struct catalog *c = xcalloc(1, sizeof *c);
    int rc = load_all(c, dir, e);
    if (rc == 0) rc = choose_default(c, dir, default_name, e);
    if (rc < 0) {
        catalog_free(c);
        return rc;
    }
    if (!c->default_name)
        log_warn("model.no_default",
                 "models=%d hint=\"requests must name one, or start with --model\"", c->n);
    *out = c;
    return 0;
}

void catalog_free(struct catalog *c)
{
    if (!c) return;
    for (int i = 0; i < c->n; i++) gen_unref(c->gen[i]);
    for (int i = 0; i < c->n_failed; i++) {
        free(c->failed[i].name);
        free(c->failed[i].reason);
    }
    free(c->gen);
    free(c->failed);
    free(c);
}

/* "a, b, c", cut where it gets long. */
static void list_names(const struct catalog *c, char *out, size_t n)
{
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < c->n && at < n; i++) {
        int k = snprintf(out + at, n - at, "%s%s", i ? ", " : "", gen_info(c->gen[i])->name);
        at += k > 0 ? (size_t)k : 0;
    }
}

struct gen *catalog_take(const struct catalog *c, const char *name, size_t len, struct err *e)
{
    char names[256];
    if (!name && c->default_name) {
        name = c->default_name;
        len = strlen(name);
    }
    struct gen *g = name ? find(c, name, len) : NULL;
    if (g) return gen_ref(g);
    list_names(c, names, sizeof names);
    if (name)
        err_set(e, ERR_MODEL_NOT_FOUND, "no model \"%.*s\"; there are: %s", (int)len, name,
                names);
    else
        err_set(e, ERR_MODEL_NOT_FOUND, "several models are served, name one in \"model\": %s",
                names);
    return NULL;
}

/* The only one of a kind; NULL: there is none, or several. */
static struct gen *only_of(const struct catalog *c, enum gen_kind kind)
{
    struct gen *g = NULL;
    for (int i = 0; i < c->n; i++) {
        if (gen_info(c->gen[i])->kind != kind) continue;
        if (g) return NULL;
        g = c->gen[i];
    }
    return g;
}

struct gen *catalog_take_kind(const struct catalog *c, enum gen_kind kind, const char *name,
                              size_t len, struct err *e)
{
    const char *other = c->default_name;
    const struct gen *g = other ? find(c, other, strlen(other)) : NULL;
    struct gen *only = name || (g && gen_info(g)->kind == kind) ? NULL : only_of(c, kind);
    return only ? gen_ref(only) : catalog_take(c, name, len, e);
}

int catalog_open_lives(struct lives **out, const struct catalog *c, const char *store_dir,
                       struct err *e)
{
    TRY(lives_open(out, store_dir, e));
    int rc = 0;
    for (int i = 0; i < c->n && rc == 0; i++)
        if (gen_info(c->gen[i])->kind == GEN_RETRIEVAL) rc = lives_add(*out, c->gen[i], e);
    if (rc < 0) {
        lives_close(*out);
        *out = NULL;
    }
    return rc;
}

int catalog_count(const struct catalog *c) { return c->n; }
struct gen *catalog_at(const struct catalog *c, int i) { return c->gen[i]; }
const char *catalog_default(const struct catalog *c) { return c->default_name; }
int catalog_failed(const struct catalog *c) { return c->n_failed; }
const char *catalog_failed_name(const struct catalog *c, int i) { return c->failed[i].name; }
int64_t catalog_failed_version(const struct catalog *c, int i) { return c->failed[i].version; }
const char *catalog_failed_reason(const struct catalog *c, int i)
{
    return c->failed[i].reason;
}
