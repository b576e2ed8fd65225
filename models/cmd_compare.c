/* cmd_compare.c — `intent compare`: runs side by side, from bundles' manifests or from what `intent eval --json` printed. */
#include "core/base/io.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/data/text.h"
#include "core/fmt/bundle.h"
#include "models/cmd.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_RUNS = 256, MAX_METRICS = 32, NAME = 64 };

struct args {
    char *metrics, *slice;
    int32_t split;
    bool json;
};

static const struct opt opts[] = {
    OPT_STR(struct args, metrics,
            "hr@5,ndcg@5,hr@10,ndcg@10,hr@20,ndcg@20,recall@50,recall@100",
            "columns of the table"),
    OPT_CHOICE(struct args, split, "test", "valid|test", "of bundles: which figures"),
    OPT_STR(struct args, slice, NULL,
            "of evaluations: figures of a slice (head, tail, repeat ...) instead of all users"),
    OPT_BOOL(struct args, json, "false", "print one JSON object a line"), OPT_END
};

struct run {
    char name[NAME], data[NAME], protocol[NAME]; /* protocol: split, history and slice */
    char fingerprint[NAME];                      /* of the data set; "?" where it is not said */
    json_t *metrics, *recipe;                    /* owned; recipe may be NULL */
};

static void text_of(char *out, const json_t *v)
{
    const char *s = json_is_string(v) ? json_string_value(v) : "?";
    snprintf(out, NAME, "%.*s", (int)text_utf8_cut(s, strlen(s), NAME - 1), s);
}

static const char *history(const char *seen)
{
    return !seen                       ? "?"
           : strcmp(seen, "mask") == 0 ? "masked"
           : strcmp(seen, "keep") == 0 ? "kept"
                                       : "zeroed";
}

/* The name may be cut: it is a label. */
static int from_bundle(struct run *r, const char *path, const struct args *a, struct err *e)
{
    static const char *const splits[] = { "valid", "test" };
    struct bundle b;
    if (a->slice)
        return err_set(e, ERR_USAGE,
                       "%s: a bundle has no slices; give what `intent eval --json` printed",
                       path);
    TRY(bundle_open(&b, path, false, e));
    const json_t *recipe = json_object_get(b.manifest, "recipe");
    const json_t *m = json_object_get(json_object_get(b.manifest, "metrics"), splits[a->split]);
    int n = snprintf(r->name, sizeof r->name, "%.40s@%" PRId64, b.name, b.version), rc = 0;
    REQUIRE(n > 0, "label of %s", path);
    text_of(r->data, json_object_get(json_object_get(b.manifest, "data"), "name"));
    text_of(r->fingerprint,
            json_object_get(json_object_get(b.manifest, "data"), "fingerprint"));
    snprintf(r->protocol, sizeof r->protocol, "%s, %s", splits[a->split],
             history(json_string_value(json_object_get(recipe, "train.valid_seen"))));
    if (!json_is_object(m))
        rc = err_set(e, ERR_NOT_FOUND,
                     "%s has no %s figures: `intent train --resume` makes them", r->name,
                     splits[a->split]);
    r->metrics = json_incref((json_t *)(uintptr_t)m);
    r->recipe = json_copy((json_t *)(uintptr_t)recipe);
    json_object_set(r->recipe, "--init",
                    json_object_get(json_object_get(b.manifest, "data"), "init"));
    bundle_close(&b);
    return rc;
}

static int from_evaluation(struct run *r, const char *path, const struct args *a, struct err *e)
{
    char *text;
    size_t nb;
    json_error_t why;
    TRY(io_read_all(&text, &nb, path, LIMIT_JSON_FILE_BYTES, e));
    json_t *o = json_loadb(text, nb, 0, &why);
    free(text);
    if (!o) return err_set(e, ERR_FORMAT, "%s:%d: %s", path, why.line, why.text);
    const json_t *m = a->slice ? json_object_get(json_object_get(o, "slices"), a->slice)
                               : json_object_get(o, "metrics");
    char split[NAME];
    text_of(r->name, json_object_get(o, "model"));
    text_of(r->data, json_object_get(o, "data"));
    text_of(r->fingerprint, json_object_get(o, "fingerprint"));
    text_of(split, json_object_get(o, "split"));
    snprintf(r->protocol, sizeof r->protocol, "%.20s, %s%s%.20s", split,
             history(json_string_value(json_object_get(o, "seen"))), a->slice ? ", " : "",
             a->slice ? a->slice : "");
    int rc = 0;
    if (a->slice && m && json_integer_value(json_object_get(m, "users")) == 0)
        rc = err_set(e, ERR_EMPTY, "%s: slice '%s' has no user", path, a->slice);
    if (rc == 0 && !json_is_object(m))
        rc = a->slice
                 ? err_set(e, ERR_NOT_FOUND, "%s has no slice '%s'", path, a->slice)
                 : err_set(e, ERR_FORMAT, "%s is not what `intent eval --json` prints", path);
    r->metrics = json_incref((json_t *)(uintptr_t)m);
    json_decref(o);
    return rc;
}

static int load(struct run *r, const char *path, const struct args *a, struct err *e)
{
    struct stat st;
    if (stat(path, &st) < 0) return err_sys(e, ERR_NOT_FOUND, "%s", path);
    return S_ISDIR(st.st_mode) ? from_bundle(r, path, a, e) : from_evaluation(r, path, a, e);
}

/* ---- the table ---- */

struct table {
    struct run *run;
    int n;
    char metric[MAX_METRICS][NAME];
    int n_metrics;
};

static int take_metrics(struct table *t, const char *list, struct err *e)
{
    struct span rest = { list, strlen(list) }, part;
    while (text_part(&rest, ',', &part)) {
        if (part.n == 0 || part.n >= NAME || t->n_metrics == MAX_METRICS)
            return err_set(e, ERR_USAGE, "--metrics %s: up to %d names such as hr@10,ndcg@10",
                           list, MAX_METRICS);
        snprintf(t->metric[t->n_metrics++], NAME, "%.*s", (int)part.n, part.p);
    }
    for (int i = 0; i < t->n; i++)
        for (int k = 0; k < t->n_metrics; k++)
            if (!json_is_number(json_object_get(t->run[i].metrics, t->metric[k])))
                return err_set(
                    e, ERR_USAGE,
                    "%s has no figure '%s'; there are hr, ndcg, mrr and recall @5, 10, "
                    "20, 50 and 100",
                    t->run[i].name, t->metric[k]);
    return 0;
}

static double value(const struct table *t, int run, int metric)
{
    return json_number_value(json_object_get(t->run[run].metrics, t->metric[metric]));
}

static bool is_best(const struct table *t, int run, int metric)
{
    for (int i = 0; i < t->n; i++)
        if (value(t, i, metric) > value(t, run, metric)) return false;
    return t->n > 1;
}

static int width_of(const struct table *t, size_t off, int least)
{
    for (int i = 0; i < t->n; i++) {
        int n = (int)strlen((const char *)&t->run[i] + off);
        least = n > least ? n : least;
    }
    return least;
}

static void print_figures(const struct table *t)
{
    int name = width_of(t, offsetof(struct run, name), 3);
    int data = width_of(t, offsetof(struct run, data), 4);
    int protocol = width_of(t, offsetof(struct run, protocol), 8);
    printf("%-*s  %-*s  %-*s", name, "run", data, "data", protocol, "protocol");
    for (int k = 0; k < t->n_metrics; k++) printf(" %10s", t->metric[k]);
    putchar('\n');
    for (int i = 0; i < t->n; i++) {
        const struct run *r = &t->run[i];
        printf("%-*s  %-*s  %-*s", name, r->name, data, r->data, protocol, r->protocol);
        for (int k = 0; k < t->n_metrics; k++)
            printf("    %.4f%c", value(t, i, k), is_best(t, i, k) ? '*' : ' ');
        putchar('\n');
    }
    for (int i = 1; i < t->n; i++)
        if (strcmp(t->run[i].fingerprint, t->run[0].fingerprint) != 0 ||
            strcmp(t->run[i].data, t->run[0].data) != 0 ||
            strcmp(t->run[i].protocol, t->run[0].protocol) != 0) {
            puts("These figures are not of one data set and protocol: they do not compare.");
            break;
        }
}

static const char *setting(const struct run *r, const char *key)
{
    const char *s = r->recipe ? json_string_value(json_object_get(r->recipe, key)) : NULL;
    return s ? s : "-";
}

static bool differs(const struct table *t, const char *key)
{
    for (int i = 1; i < t->n; i++)
        if (strcmp(setting(&t->run[i], key), setting(&t->run[0], key)) != 0) return true;
    return false;
}

/* Keys of any recipe, each once, whose values differ. */
static void print_settings(const struct table *t)
{
    json_t *keys = json_object();
    const char *key;
    json_t *v;
    for (int i = 0; i < t->n; i++)
        json_object_foreach (t->run[i].recipe, key, v)
            if (differs(t, key)) json_object_set_new(keys, key, json_null());
    if (json_object_size(keys) > 0) puts("\nsettings that differ");
    json_object_foreach (keys, key, v) {
        printf("  %s:", key);
        for (int i = 0; i < t->n; i++)
            printf("%s %s %s", i ? "," : "", t->run[i].name, setting(&t->run[i], key));
        putchar('\n');
    }
    json_decref(keys);
}

static void print_json(const struct table *t)
{
    for (int i = 0; i < t->n; i++) {
        const struct run *r = &t->run[i];
        json_t *o = json_pack("{s:s, s:s, s:s, s:O}", "run", r->name, "data", r->data,
                              "protocol", r->protocol, "metrics", r->metrics);
        if (r->recipe) json_object_set(o, "recipe", r->recipe);
        json_dumpf(o, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(o);
    }
}

static int run(const struct args *a, char **path, int n, struct err *e)
{
    if (n == 0) return err_set(e, ERR_USAGE, "no run given");
    if (n > MAX_RUNS) return err_set(e, ERR_USAGE, "at most %d runs", MAX_RUNS);
    struct table t = { .run = xcalloc((size_t)n, sizeof *t.run) };
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++) rc = load(&t.run[t.n++], path[i], a, e);
    if (rc == 0) rc = take_metrics(&t, a->metrics, e);
    if (rc == 0 && a->json) print_json(&t);
    if (rc == 0 && !a->json) {
        print_figures(&t);
        print_settings(&t);
    }
    for (int i = 0; i < t.n; i++) {
        json_decref(t.run[i].metrics);
        json_decref(t.run[i].recipe);
    }
    free(t.run);
    return rc;
}

int cmd_compare(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = { 0 };
    char **pos = xcalloc((size_t)argc + 1, sizeof *pos);
    int n_pos = 0;
    conf_defaults(opts, &a);
    int rc = conf_args(opts, &a, argc, argv, pos, &n_pos, &e);
    if (rc == 1) {
        puts(
            "usage: intent compare RUN... [OPTION]...\n\n"
            "Prints the figures of runs side by side, the best of each column starred, and the "
            "settings\nin which they differ.  RUN is a bundle (a version, or a model "
            "directory's "
            "newest) or a file\nthat `intent eval --json` wrote.\n");
        conf_help(opts, stdout);
    } else if (rc == 0) {
        rc = run(&a, pos, n_pos, &e);
    }
    conf_free(opts, &a);
    free(pos);
    return rc < 0 ? cmd_fail("compare", &e) : 0;
}
