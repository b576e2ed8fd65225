/* cmd_import.c — `intent import`. */
#include "core/base/io.h"
#include "core/base/mem.h"
#include "core/base/par.h"
#include "models/cmd.h"
#include "models/evaluate.h"
#include "models/foreign.h"
#include "models/index.h"
#include "models/save.h"
#include "models/train.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct args {
    int32_t from, index, seen, threads;
    char *data, *out;
};

static const struct opt opts[] = {
    OPT_CHOICE(struct args, from, "safetensors", FOREIGN_CHOICES,
               "what wrote the file: RecBole (SASRec), S3-Rec, or any safetensors with our "
               "names"),
    OPT_STR(struct args, data, NULL,
            "data set, prepared by `intent prep` from the file that was trained on"),
    OPT_STR(struct args, out, NULL, "model directory; a new version is written into it"),
    OPT_CHOICE(struct args, seen, "mask", "mask|keep|zero",
               "history items in the validation that is told"),
    OPT_CHOICE(struct args, index, "auto", INDEX_TYPES, "search index built at the end"),
    OPT_INT(struct args, threads, "0", 0, 256, "threads; 0: one per core"),
    OPT_END
};

static void help(void)
{
    puts("usage: intent import --from recbole|s3rec|safetensors FILE --data DATASET --out "
         "MODEL_DIR\n"
         "                     [--set KEY=VALUE]... [OPTION]...\n\n"
         "Makes a bundle of weights that were trained elsewhere, measures it on validation and "
         "builds\n"
         "its index.  FILE is a PyTorch checkpoint, of which tensors are read and nothing is "
         "run, or\n"
         "safetensors.  Names, shapes and values are checked; models/README.md says how items "
         "and\n"
         "positions correspond.\n");
    conf_help(opts, stdout);
    printf("  %-34s what the file does not tell; may be repeated:\n", "--set KEY=VALUE");
    conf_help(model_opts, stdout);
}

/* Where the weights came from, as the recipe of a trained bundle says how it was trained. */
static json_t *recipe(const struct args *a, const char *path)
{
    static const char *const from[] = { "recbole", "s3rec", "safetensors" };
    static const char *const seen[] = { "mask", "keep", "zero" };
    const char *slash = strrchr(path, '/');
    json_t *file = json_string(slash ? slash + 1 : path); /* NULL: not UTF-8 */
    return json_pack("{s:s, s:o, s:s}", "import.from", from[a->from], "import.file",
                     file ? file : json_string("?"), "train.valid_seen", seen[a->seen]);
}

static int validate(json_t **metrics, const struct args *a, const struct model *m,
                    const struct dataset *d, struct err *e)
{
    struct evaluation v;
    struct par *pool = par_new(a->threads ? a->threads : par_cores());
    struct evaluate_opts o = { .split = SPLIT_VALID,
                               .seen = (enum seen)a->seen,
                               .progress = true };
    int rc = evaluate(&v, m, d, &o, pool, e);
    par_free(pool);
    TRY(rc);
    metrics_table(&v.metrics, "valid", stdout);
    *metrics =
        v.metrics.n ? json_pack("{s:o}", "valid", metrics_json(&v.metrics)) : json_object();
    return 0;
}

static int write_version(const struct args *a, const char *path, struct model *m,
                         const struct dataset *d, json_t *metrics, struct err *e)
{
    int64_t version;
    json_t *mf = save_manifest(m, d, dataset_fingerprint(d), recipe(a, path), metrics);
    int rc = io_mkdirs(a->out, e);
    if (rc == 0) rc = train_newest(&version, a->out, e);
    if (rc == 0) rc = save_bundle(a->out, ++version, m, a->data, mf, e);
    json_decref(mf);
    TRY(rc);
    char *dir = xasprintf("%s/%" PRId64, a->out, version);
    struct index_cfg cfg = { (enum index_type)a->index, 0.99f };
    rc = index_bundle(dir, &cfg, stderr, e);
    if (rc == 0) puts(dir);
    free(dir);
    return rc;
}

static void tell(const struct model *m, const char *path)
{
    const struct model_cfg *c = model_config(m);
    fprintf(stderr,
            "%s: %d items, width %d, %d layers, %d heads, %d positions from the %s, %s, %s\n",
            path, c->n_items, c->width, c->layers, c->heads, c->max_len,
            c->positions == POS_FIRST ? "first" : "last",
            c->causal ? "causal" : "bidirectional", c->activation == 0 ? "gelu" : "relu");
}

static int run(const struct args *a, char **pos, int n_pos, char **set, int n_set,
               struct err *e)
{
    if (n_pos != 1 || !a->data || !a->out)
        return err_set(e, ERR_USAGE, "one FILE, --data and --out are needed");
    struct dataset d;
    struct model *m = NULL;
    json_t *metrics = NULL;
    TRY(dataset_open(&d, a->data, e));
    int rc = foreign_model(&m, (enum foreign)a->from, pos[0], set, n_set, d.items, stderr, e);
    if (rc == 0) {
        tell(m, pos[0]);
        rc = validate(&metrics, a, m, &d, e);
    }
    if (rc == 0) rc = write_version(a, pos[0], m, &d, metrics, e);
    model_free(m);
    dataset_close(&d);
    return rc;
}

int cmd_import(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = { 0 };
    char **pos = xcalloc((size_t)argc + 1, 2 * sizeof *pos), **set = pos + argc + 1;
    int n_pos = 0, n_set = 0;
    conf_defaults(opts, &a);
    int rc = cmd_repeated("--set", &argc, argv, set, &n_set, &e);
    if (rc == 0) rc = conf_args(opts, &a, argc, argv, pos, &n_pos, &e);
    if (rc > 0)
        help();
    else if (rc == 0)
        rc = run(&a, pos, n_pos, set, n_set, &e);
    conf_free(opts, &a);
    free(pos);
    return rc < 0 ? cmd_fail("import", &e) : 0;
}
