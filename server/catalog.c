#include "server/catalog.h"
#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/fmt/bundle.h"
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct failed {
    char *name, *reason;
};
struct catalog {
    struct gen **gen;
    int n;
    struct failed *failed;
    int n_failed;
    const char *default_name; /* a generation's name, or NULL */
};

static void add_failed(struct catalog *c, const char *name, const struct err *e)
{
    log_error("model.refused", "model=%s reason=\"%s\"", name, e->msg);
    c->failed = xrealloc(c->failed, (size_t)c->n_failed + 1, sizeof *c->failed);
    c->failed[c->n_failed++] = (struct failed){ xstrdup(name), xstrdup(e->msg) };
}

static void load_model_dir(struct catalog *c, const char *dir, const char *name)
{
    struct err e = { 0 };
    int64_t version = 0;
    struct gen *g = NULL;
    char *model = xasprintf("%s/%s", dir, name), *path = NULL;
    if (bundle_latest(model, &version, &e) == 0 && version > 0) {
        path = xasprintf("%s/%" PRId64, model, version);
        if (gen_open(&g, path, &e) == 0) {
            const struct gen_info *i = gen_info(g);
            c->gen = xrealloc(c->gen, (size_t)c->n + 1, sizeof *c->gen);
            c->gen[c->n++] = g;
            log_info("model.loaded",
                     "model=%s version=%" PRId64
                     " items=%d interests=%d dim=%d index=%s recall=%.4f ms=%.0f",
                     name, i->version, i->n_items, i->K, i->D, i->index_type, i->recall,
                     i->load_ms);
        }
    } else if (!e.code) {
        log_info("model.skipped", "path=%s reason=\"no version directory\"", model);
    }
    if (e.code) add_failed(c, name, &e);
    free(path);
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

int catalog_count(const struct catalog *c) { return c->n; }
struct gen *catalog_at(const struct catalog *c, int i) { return c->gen[i]; }
const char *catalog_default(const struct catalog *c) { return c->default_name; }
int catalog_failed(const struct catalog *c) { return c->n_failed; }
const char *catalog_failed_name(const struct catalog *c, int i) { return c->failed[i].name; }
const char *catalog_failed_reason(const struct catalog *c, int i)
{
    return c->failed[i].reason;
}
