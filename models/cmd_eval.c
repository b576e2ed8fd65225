/* cmd_eval.c — `intent eval`. */
#include "core/base/par.h"
#include "core/fmt/bundle.h"
#include "core/serve/load.h"
#include "models/cmd.h"
#include "models/evaluate.h"
#include <inttypes.h>
#include <stdio.h>

struct args {
    char *data, *bundle, *baseline, *cluster;
    int32_t split, seen, users, threads;
    float noise;
    bool json, details;
};

static const struct opt opts[] = {
    OPT_STR(struct args, data, NULL, "data set directory"),
    OPT_STR(struct args, bundle, NULL,
            "bundle to measure: a version, or a model directory's newest"),
    OPT_STR(struct args, baseline, NULL,
            "or a counting baseline: pop, markov, itemcf or history"),
    OPT_CHOICE(struct args, split, "test", "valid|test", "which event is the answer"),
    OPT_CHOICE(struct args, seen, "mask", "mask|keep|zero",
               "history items: never candidates, candidates, or with score 0"),
    OPT_INT(struct args, users, "0", 0, INT32_MAX,
            "with --bundle: look at so many users, evenly spread; 0: all"),
    OPT_INT(struct args, threads, "0", 0, 256, "threads; 0: one per core"),
    OPT_FLOAT(struct args, noise, "0", 0, 1,
              "with --bundle: part of foreign items put into every history"),
    OPT_BOOL(struct args, details, "true",
             "slices by popularity, length and repeats; how lists cover the catalogue"),
    OPT_STR(struct args, cluster, NULL,
            "field of the items to compare with the interests that events go to (NMI)"),
    OPT_BOOL(struct args, json, "false", "print one JSON object"),
    OPT_END
};

struct what {
    struct evaluation v;
    char label[128];
};

/* Ids of the bundle's rows must be the data set's: scores are read by row. */
static int same_items(const struct items *a, const struct items *b, struct err *e)
{
    if (items_count(a) != items_count(b))
        return err_set(e, ERR_INVALID,
                       "the bundle has %d items and the data set %d: it was trained "
                       "on other data",
                       items_count(a), items_count(b));
    for (int32_t r = 0; r < items_count(a); r++) {
        struct str x = items_id(a, r), y = items_id(b, r);
        if (x.len != y.len || items_find(b, x.p, (size_t)x.len) != r)
            return err_set(e, ERR_INVALID,
                           "item %d is '%.*s' in the bundle and '%.*s' in the data "
                           "set: it was trained on other data",
                           r, x.len, x.p, y.len, y.p);
    }
    return 0;
}

static enum split split_of(const struct args *a) { return a->split ? SPLIT_TEST : SPLIT_VALID; }

static int eval_bundle(struct what *w, const struct args *a, const struct dataset *d,
                       struct par *pool, struct err *e)
{
    struct bundle b;
    struct model *m = NULL;
    struct items *it = NULL;
    TRY(bundle_open(&b, a->bundle, false, e));
    snprintf(w->label, sizeof w->label, "%s@%lld", b.name, (long long)b.version);
    int rc = load_model(&m, &it, &b, false, e);
    if (rc == 0) rc = same_items(it, d->items, e);
    if (rc == 0)
        rc = evaluate(&w->v, m, d,
                      &(struct evaluate_opts){ .split = split_of(a),
                                               .seen = (enum seen)a->seen,
                                               .users = a->users,
                                               .noise = a->noise,
                                               .progress = true,
                                               .details = a->details,
                                               .cluster = a->cluster },
                      pool, e);
    model_free(m);
    if (it) items_close(it);
    bundle_close(&b);
    return rc;
}

static int eval_baseline(struct what *w, const struct args *a, const struct dataset *d,
                         struct par *pool, struct err *e)
{
    struct {
        int32_t which;
    } b;
    const struct opt one[] = {
        { "baseline", OPT_T_CHOICE, 0, "pop", 0, 0, "pop|markov|itemcf|history", "" }, OPT_END
    };
    TRY(cmd_usage(conf_set(one, &b, "baseline", a->baseline, e), e));
    snprintf(w->label, sizeof w->label, "%s", a->baseline);
    struct evaluate_opts o = { .split = split_of(a),
                               .seen = (enum seen)a->seen,
                               .details = a->details };
    return evaluate_baseline(&w->v, (enum baseline)b.which, d, &o, pool, e);
}

static void print_json(const struct what *w, const struct args *a, const struct dataset *d)
{
    static const char *const split[] = { "valid", "test" };
    static const char *const seen[] = { "mask", "keep", "zero" };
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:I, s:o, s:o}", "model", w->label, "data",
                          d->name, "split", split[a->split], "seen", seen[a->seen], "users",
                          (json_int_t)w->v.metrics.n, "metrics", metrics_json(&w->v.metrics),
                          "interests", interests_json(&w->v));
    json_object_set_new(o, "fingerprint", json_sprintf("%016" PRIx64, dataset_fingerprint(d)));
    if (w->v.nmi >= 0) json_object_set_new(o, "nmi", json_real(w->v.nmi));
    if (w->v.details) {
        json_object_set_new(o, "slices", slices_json(&w->v));
        json_object_set_new(o, "lists", spread_json(&w->v));
    }
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

static void print_table(const struct what *w, const struct args *a, const struct dataset *d)
{
    printf("%s on %s: full ranking over %d items, %s answer, history %s, %lld users\n",
           w->label, d->name, d->n_items, a->split ? "test" : "validation",
           a->seen == SEEN_MASK   ? "masked"
           : a->seen == SEEN_KEEP ? "kept"
                                  : "zeroed",
           (long long)w->v.metrics.n);
    metrics_table(&w->v.metrics, w->label, stdout);
    evaluation_print(&w->v, stdout);
}

static int run(const struct args *a, struct err *e)
{
    if (!a->data) return err_set(e, ERR_USAGE, "--data is needed");
    if (a->cluster && a->baseline)
        return err_set(e, ERR_USAGE,
                       "--cluster compares a model's interests: a baseline has none");
    if ((a->users || a->noise > 0) && a->baseline)
        return err_set(e, ERR_USAGE, "--users and --noise are for --bundle");
    if (!a->bundle == !a->baseline)
        return err_set(e, ERR_USAGE, "one of --bundle and --baseline is needed");
    struct dataset d;
    struct what w = { 0 };
    TRY(dataset_open(&d, a->data, e));
    struct par *pool = par_new(a->threads ? a->threads : par_cores());
    int rc = a->bundle ? eval_bundle(&w, a, &d, pool, e) : eval_baseline(&w, a, &d, pool, e);
    if (rc == 0 && a->json) print_json(&w, a, &d);
    if (rc == 0 && !a->json) print_table(&w, a, &d);
    par_free(pool);
    dataset_close(&d);
    return rc;
}

int cmd_eval(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = { 0 };
    int rc = cmd_options(opts, &a, argc, argv, &e);
    if (rc == 1) {
        printf("usage: intent eval --data DATASET --bundle BUNDLE | --baseline NAME "
               "[OPTION]...\n\n"
               "Ranks every item for every user and prints HR, NDCG, MRR and recall at 5, 10, "
               "20, 50\n"
               "and 100.  Equal scores rank in the order of first appearance in the data.\n\n");
        conf_help(opts, stdout);
    } else if (rc == 0) {
        rc = run(&a, &e);
    }
    conf_free(opts, &a);
    return rc < 0 ? cmd_fail("eval", &e) : 0;
}
