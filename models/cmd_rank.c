/* cmd_rank.c — `intent rank`: trains, measures and asks rank models. */
#include "core/base/mem.h"
#include "core/data/text.h"
#include "core/serve/recommend.h"
#include "core/serve/score.h"
#include "models/cmd.h"
#include "models/rank_synth.h"
#include "models/rank_train.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- synth ---- */

static const struct opt synth_opts[] = {
    OPT_STR(struct rank_synth, out, NULL, "file to write, CSV"),
    OPT_INT(struct rank_synth, users, "2000", 1, 100000000, "users"),
    OPT_INT(struct rank_synth, rows, "60000", 2, 100000000, "impressions"),
    OPT_INT(struct rank_synth, items, "2000", 1, 100000000, "items (adgroup_id)"),
    OPT_INT(struct rank_synth, themes, "8", 1, 1000000, "that categories and brands belong to"),
    OPT_INT(struct rank_synth, categories, "80", 1, 100000000,
            "the more there are, the sparser the data"),
    OPT_INT(struct rank_synth, brands, "160", 1, 100000000, "likewise"),
    OPT_INT(struct rank_synth, interests, "1", 1, 16, "themes of an impression's sequence"),
    OPT_INT(struct rank_synth, steps, "5", 0, 2000,
            "mean length of the sequence: from 0 to twice that"),
    OPT_FLOAT(struct rank_synth, noise, "0.1", 0, 1, "part of the steps that is of any theme"),
    OPT_FLOAT(struct rank_synth, bias, "-1.5", -20, 20, "of the click's logit"),
    OPT_FLOAT(struct rank_synth, match, "3", -20, 20,
              "weight of the candidate's theme being one of the interests"),
    OPT_FLOAT(struct rank_synth, user, "1.5", -20, 20, "weight of age_level x category"),
    OPT_FLOAT(struct rank_synth, price, "0.5", -20, 20, "weight of pvalue_level x price"),
    OPT_I64(struct rank_synth, seed, "1", 0, 1e15, "of all that is random"),
    OPT_END
};

static int run_synth(void *args, char **set, int n_set, int *stopped, struct err *e)
{
    const struct rank_synth *a = args;
    struct rank_synth_stats st;
    (void)set, (void)n_set, (void)stopped;
    if (!a->out) return err_set(e, ERR_USAGE, "--out is needed");
    TRY(rank_synth(a, &st, e));
    printf("%s: %d impressions, %.1f %% clicks, %d without a sequence\n"
           "AUC of the true probabilities %.4f, of what is known without the sequence %.4f\n"
           "intent rank train --data %s --recipe models/recipes/rank.ini --out MODEL_DIR\n",
           a->out, a->rows, 100 * st.clicks, st.empty, st.best, st.without, a->out);
    return 0;
}

/* ---- train ---- */

struct train_args {
    char *data, *valid, *recipe, *out;
    int32_t threads;
    bool quiet;
};
static const struct opt train_arg_opts[] = {
    OPT_STR(struct train_args, data, NULL, "impressions: CSV or TSV with a header"),
    OPT_STR(struct train_args, valid, NULL,
            "impressions to measure it on; else the last part of --data (rank.valid_share)"),
    OPT_STR(struct train_args, recipe, NULL, "recipe file (models/recipes/rank.ini)"),
    OPT_STR(struct train_args, out, NULL, "model directory; a new version is written into it"),
    OPT_INT(struct train_args, threads, "0", 0, 256, "threads; 0: one per core"),
    OPT_BOOL(struct train_args, quiet, "false", "only the result"),
    OPT_END
};

static void print_metrics(const struct rank_metrics *m)
{
    printf("impressions %" PRId64 "  clicks %.4f  auc %.4f  gauc %.4f  log_loss %.4f\n", m->n,
           m->clicks, m->auc, m->gauc, m->log_loss);
}

static int train(const struct train_args *a, struct rank_recipe *r, int *stopped, struct err *e)
{
    struct rank_result res;
    struct par *pool = par_new(a->threads ? a->threads : par_cores());
    struct rank_train_args t = { .data = a->data,
                                 .valid = a->valid,
                                 .out = a->out,
                                 .recipe = r,
                                 .pool = pool,
                                 .quiet = a->quiet };
    int rc = rank_train(&t, &res, e);
    par_free(pool);
    TRY(rc);
    *stopped = res.stopped;
    if (res.version == 0) return 0;
    if (!a->quiet) fprintf(stderr, "%s/%" PRId64 " is written\n", a->out, res.version);
    if (res.valid.n > 0) print_metrics(&res.valid);
    return 0;
}

static int run_train(void *args, char **set, int n_set, int *stopped, struct err *e)
{
    const struct train_args *a = args;
    if (!a->data || !a->recipe || !a->out)
        return err_set(e, ERR_USAGE, "--data, --recipe and --out are needed");
    struct rank_recipe r;
    rank_recipe_defaults(&r);
    int rc = rank_recipe_load(&r, a->recipe, e);
    for (int i = 0; rc == 0 && i < n_set; i++)
        rc = cmd_usage(rank_recipe_set(&r, set[i], e), e);
    if (rc == 0 && rank_recipe_check(&r, e) < 0) rc = err_ctx(e, "%s", a->recipe);
    if (rc == 0) rc = train(a, &r, stopped, e);
    rank_recipe_free(&r);
    return rc;
}

/* ---- eval ---- */

struct eval_args {
    char *bundle, *data;
    int32_t threads;
    bool json;
};
static const struct opt eval_opts[] = {
    OPT_STR(struct eval_args, bundle, NULL, "a version, or a model directory's newest"),
    OPT_STR(struct eval_args, data, NULL, "impressions: CSV or TSV with a header"),
    OPT_BOOL(struct eval_args, json, "false", "one JSON object"),
    OPT_INT(struct eval_args, threads, "0", 0, 256, "threads; 0: one per core"), OPT_END
};

static int open_model(struct rank_model **m, const char *path, struct err *e)
{
    struct bundle b;
    TRY(bundle_open(&b, path, false, e));
    int rc = rank_model_load(m, &b, e);
    bundle_close(&b);
    return rc < 0 ? err_ctx(e, "bundle %s", path) : 0;
}

/* Scores [c->n] of a file's impressions, malloc'd. */
static int score_file(const struct rank_model *m, const char *path, bool labelled, int threads,
                      struct clicks *c, float **score, struct err *e)
{
    struct clicks_opts o = { .label = labelled ? m->columns.label : NULL,
                             .user = labelled ? m->columns.user : NULL,
                             .max_len = ranker_config(m->ranker)->max_len,
                             .strict = !labelled };
    TRY(clicks_read(c, (struct schema *)(uintptr_t)&m->schema, path, &o, e));
    struct par *pool = par_new(threads ? threads : par_cores());
    *score = xmalloc((size_t)c->n * sizeof **score);
    rank_scores(*score, m->ranker, &m->schema, c, 0, c->n, pool);
    par_free(pool);
    return 0;
}

static int eval(const struct eval_args *a, const struct rank_model *m, struct err *e)
{
    struct clicks c;
    float *score;
    TRY(score_file(m, a->data, true, a->threads, &c, &score, e));
    struct rank_metrics r = rank_measure(score, &c, 0, c.n);
    if (a->json) {
        json_t *o = rank_metrics_json(&r);
        json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
        putchar('\n');
        json_decref(o);
    } else {
        print_metrics(&r);
    }
    free(score);
    clicks_free(&c);
    return 0;
}

static int run_eval(void *args, char **set, int n_set, int *stopped, struct err *e)
{
    const struct eval_args *a = args;
    struct rank_model *m;
    (void)set, (void)n_set, (void)stopped;
    if (!a->bundle || !a->data) return err_set(e, ERR_USAGE, "--bundle and --data are needed");
    TRY(open_model(&m, a->bundle, e));
    int rc = eval(a, m, e);
    rank_model_free(m);
    return rc;
}

/* ---- score ---- */

struct score_args {
    char *bundle, *data, *history, *candidates;
    int32_t threads;
    bool json;
};
static const struct opt score_opts[] = {
    OPT_STR(struct score_args, bundle, NULL, "a version, or a model directory's newest"),
    OPT_STR(struct score_args, data, NULL,
            "impressions, no label needed: the probability of a click for each, a line each"),
    OPT_STR(struct score_args, candidates, NULL,
            "instead of --data: ids to score, separated by commas, best first"),
    OPT_STR(struct score_args, history, NULL, "ids, oldest first, separated by commas"),
    OPT_BOOL(struct score_args, json, "false", "what POST /v1/rank answers, less took_ms"),
    OPT_INT(struct score_args, threads, "0", 0, 256, "threads; 0: one per core"),
    OPT_END
};

static int score(const struct score_args *a, const struct rank_model *m, struct err *e)
{
    struct clicks c;
    float *p;
    TRY(score_file(m, a->data, false, a->threads, &c, &p, e));
    for (int32_t i = 0; i < c.n; i++) printf("%.9g\n", (double)p[i]);
    free(p);
    clicks_free(&c);
    return 0;
}

/* Parts of text at commas, into id [most]; -1: there are more. */
static int32_t split(struct str *id, int32_t most, const char *text)
{
    struct span rest = { text, text ? strlen(text) : 0 }, part;
    int32_t n = 0;
    while (text && text_part(&rest, ',', &part)) {
        if (part.n == 0) continue;
        if (n == most) return -1;
        id[n++] = (struct str){ part.p, (int32_t)part.n };
    }
    return n;
}

/* "name=value" */
static int read_user(struct score_value *v, const char *text, struct err *e)
{
    const char *eq = strchr(text, '=');
    if (!eq) return err_set(e, ERR_USAGE, "--user %s: expected NAME=VALUE", text);
    v->name = (struct str){ text, (int32_t)(eq - text) };
    v->text = (struct str){ eq + 1, (int32_t)strlen(eq + 1) };
    return 0;
}

struct place {
    float score;
    int32_t at;
};

static int best_first(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->at > y->at) - (x->at < y->at);
}

static void print_answer(const struct score_answer *a, const struct gen *g,
                         const struct score_request *r)
{
    static struct place order[LIMIT_RANK];
    for (int32_t i = 0; i < a->n; i++) order[i] = (struct place){ a->score[i], i };
    qsort(order, (size_t)a->n, sizeof *order, best_first);
    printf("History: %d events, %d used, %d unknown\n", a->received, a->used, a->missing);
    for (int32_t i = 0; i < a->n; i++) {
        const struct str *id = &r->candidate[order[i].at];
        bool known = items_find(gen_items(g), id->p, (size_t)id->len) >= 0;
        printf("%4d  %.6f  %.*s%s\n", i + 1, (double)order[i].score, id->len, id->p,
               known ? "" : "  (unknown)");
    }
}

static int ask(const struct score_args *a, const struct gen *g, const struct score_request *r,
               struct err *e)
{
    struct score_answer x;
    struct rec_worker *w = rec_worker_new();
    struct buf b = { .cap_max = LIMIT_REPLY_BYTES };
    int rc = score_candidates(&x, rec_worker_tape(w), g, r, e);
    if (rc == 0 && a->json) {
        score_reply(&b, &x, g, r, -1);
        puts(b.data);
    } else if (rc == 0) {
        print_answer(&x, g, r);
    }
    buf_free(&b);
    rec_worker_free(w);
    return rc;
}

static int score_ids(const struct score_args *a, char **user, int n_user, struct err *e)
{
    struct str *id = xcalloc(LIMIT_RANK + LIMIT_HISTORY, sizeof *id), *past = id + LIMIT_RANK;
    struct score_value *value = xcalloc((size_t)n_user + 1, sizeof *value);
    struct score_request r = { .value = value,
                               .n_values = n_user,
                               .history = past,
                               .candidate = id,
                               .n_candidates = split(id, LIMIT_RANK, a->candidates),
                               .n_history = split(past, LIMIT_HISTORY, a->history),
                               .strict = true };
    struct gen *g = NULL;
    int rc = 0;
    for (int i = 0; i < n_user && rc == 0; i++) rc = read_user(&value[i], user[i], e);
    if (rc == 0 && (r.n_candidates < 1 || r.n_history < 0))
        rc = err_set(e, ERR_USAGE,
                     "1 to %d candidates and at most %d ids of history can be given",
                     LIMIT_RANK, LIMIT_HISTORY);
    if (rc == 0) rc = gen_open(&g, a->bundle, e);
    if (rc == 0) rc = ask(a, g, &r, e);
    gen_unref(g);
    free(value);
    free(id);
    return rc;
}

static int run_score(void *args, char **user, int n_user, int *stopped, struct err *e)
{
    const struct score_args *a = args;
    struct rank_model *m;
    (void)stopped;
    if (!a->bundle || !a->data == !a->candidates)
        return err_set(e, ERR_USAGE, "--bundle and one of --data and --candidates are needed");
    if (a->candidates) return score_ids(a, user, n_user, e);
    TRY(open_model(&m, a->bundle, e));
    int rc = score(a, m, e);
    rank_model_free(m);
    return rc;
}

/* ---- the command ---- */

/* many: the option that may be repeated, handed to run; NULL: none. */
static const struct {
    const char *name, *many, *usage;
    const struct opt *opts;
    int (*run)(void *args, char **many, int n_many, int *stopped, struct err *e);
} commands[] = {
    { "synth", NULL,
      "usage: intent rank synth --out FILE [OPTION]...\n\n"
      "Writes impressions of the Taobao schema with a known structure: whether the "
      "candidate fits the\ninterests of the sequence, and the user.\n",
      synth_opts, run_synth },
    { "train", "--set",
      "usage: intent rank train --data FILE --recipe FILE --out MODEL_DIR [--set "
      "key=value]...\n\n"
      "Trains a rank model on impressions, measures it, and writes a bundle that intentd "
      "serves as\nPOST /v1/rank.  Ctrl-C ends the training and keeps what there is.\n",
      train_arg_opts, run_train },
    { "eval", NULL,
      "usage: intent rank eval --bundle BUNDLE --data FILE [OPTION]...\n\n"
      "AUC, AUC by user (weighted by impressions), and log-loss.\n",
      eval_opts, run_eval },
    { "score", "--user",
      "usage: intent rank score --bundle BUNDLE --data FILE\n"
      "       intent rank score --bundle BUNDLE --candidates ID,ID,... [--history ID,ID,...] "
      "[--user NAME=VALUE]...\n\n"
      "Probabilities of clicks: of a table's impressions, or what the daemon would answer.\n",
      score_opts, run_score },
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void help(FILE *f)
{
    fputs("usage: intent rank synth|train|eval|score [OPTION]...\n\n"
          "Rank models: user, item and sequence features in, the probability of a click out.\n"
          "`intent rank COMMAND --help` lists a command's options.\n",
          f);
}

static int run(int which, int argc, char **argv, int *stopped, struct err *e)
{
    char **many = xcalloc((size_t)argc, sizeof *many);
    union {
        struct rank_synth synth;
        struct train_args train;
        struct eval_args eval;
        struct score_args score;
    } args;
    int n_many = 0, rc = 0;
    memset(&args, 0, sizeof args);
    if (commands[which].many)
        rc = cmd_repeated(commands[which].many, &argc, argv, many, &n_many, e);
    if (rc == 0) rc = cmd_options(commands[which].opts, &args, argc, argv, e);
    if (rc == 1) {
        puts(commands[which].usage);
        conf_help(commands[which].opts, stdout);
        if (commands[which].run == run_train) rank_recipe_help(stdout);
    } else if (rc == 0) {
        rc = commands[which].run(&args, many, n_many, stopped, e);
    }
    conf_free(commands[which].opts, &args);
    free(many);
    return rc;
}

int cmd_rank(int argc, char **argv)
{
    struct err e = { 0 };
    const char *name = argc > 1 ? argv[1] : "";
    int which = 0, stopped = 0;
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        help(stdout);
        return 0;
    }
    while (which < N_COMMANDS && strcmp(commands[which].name, name) != 0) which++;
    if (which == N_COMMANDS) {
        help(stderr);
        return 2;
    }
    if (run(which, argc - 1, argv + 1, &stopped, &e) < 0) {
        char command[32];
        snprintf(command, sizeof command, "rank %s", name);
        return cmd_fail(command, &e);
    }
    return stopped ? 128 + stopped : 0;
}
