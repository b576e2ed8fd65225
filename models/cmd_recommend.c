/* cmd_recommend.c — `intent recommend`: the daemon's code path, offline.  Commas separate ids, so an
 * id that has one can only be asked of the daemon. */
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/serve/recommend.h"
#include "core/serve/reply.h"
#include "models/cmd.h"
#include <stdlib.h>
#include <string.h>

struct args {
    char *bundle, *history, *exclude;
    int32_t limit, interests, candidates;
    bool keep_seen, explain, json, from_stdin;
};

static const struct opt opts[] = {
    OPT_STR(struct args, bundle, NULL,
            "bundle to ask: a version, or a model directory's newest"),
    OPT_STR(struct args, history, NULL, "item ids, oldest first, separated by commas"),
    { "stdin", OPT_T_BOOL, offsetof(struct args, from_stdin), "false", 0, 0, NULL,
      "a history a line from standard input, separated by commas or spaces; a JSON object a "
      "line" },
    OPT_INT(struct args, limit, "10", 1, LIMIT_RESULTS, "items to recommend (also -n)"),
    OPT_INT(struct args, interests, "0", 0, LIMIT_INTERESTS,
            "most interests to use; 0: all active"),
    OPT_INT(struct args, candidates, "0", 0, LIMIT_CANDIDATES,
            "candidates per interest; 0: as many as are needed"),
    OPT_STR(struct args, exclude, NULL, "item ids never to recommend"),
    OPT_BOOL(struct args, keep_seen, "false", "history items may be recommended"),
    OPT_BOOL(struct args, explain, "false",
             "say which interest found what, and what it listened to"),
    OPT_BOOL(struct args, json, "false",
             "what POST /v1/recommend answers, less recommendation_id and took_ms"),
    OPT_END
};

/* ---- ids ---- */

struct ids {
    struct str *at;
    int32_t n, cap;
};

/* Splits text, which must outlive the ids, at any of the separators; blanks around an id and
 * empty pieces are skipped. */
static void split_ids(struct ids *ids, const char *text, const char *separators)
{
    static const char blank[] = " \t\r\n";
    ids->n = 0;
    for (const char *p = text, *end; p && *p; p = end + (*end != '\0')) {
        end = p + strcspn(p, separators);
        p += strspn(p, blank);
        size_t len = p < end ? (size_t)(end - p) : 0;
        while (len > 0 && strchr(blank, p[len - 1])) len--;
        if (len == 0) continue;
        if (ids->n == ids->cap) {
            ids->cap = ids->cap ? 2 * ids->cap : 64;
            ids->at = xrealloc(ids->at, (size_t)ids->cap, sizeof *ids->at);
        }
        ids->at[ids->n++] = (struct str){ p, (int32_t)len };
    }
}

/* ---- for people ---- */

static void print_item(const struct items *it, int32_t row)
{
    struct str id = items_id(it, row), title = items_title(it, row);
    printf("%.*s", id.len, id.p);
    if (title.len) printf("  %.*s", title.len, title.p);
}

static void print_history(const struct items *it, const struct ids *ids,
                          const struct rec_answer *a)
{
    printf("History: %d events, %d used", a->received, a->used);
    if (a->unknown) printf(", %d unknown", a->unknown);
    if (a->truncated) printf(", %d older than the model reads", a->truncated);
    putchar('\n');
    for (int32_t i = 0; i < ids->n; i++) {
        int32_t row = items_find(it, ids->at[i].p, (size_t)ids->at[i].len);
        fputs("  ", stdout);
        if (row >= 0)
            print_item(it, row);
        else
            printf("%.*s  (unknown)", ids->at[i].len, ids->at[i].p);
        putchar('\n');
    }
}

static void print_candidate(const struct items *it, const struct rec_answer *a, int32_t i,
                            bool label)
{
    const struct rec_item *c = &a->item[i];
    printf("%4d  %8.4f  ", i + 1, (double)c->score);
    if (label && a->n_interests > 1) printf("[%d]  ", c->interest);
    print_item(it, c->row);
    putchar('\n');
}

static void print_interest(const struct items *it, const struct rec_answer *a,
                           const struct rec_interest *in)
{
    printf("\nInterest %d: %.0f %% of the attention", in->index, (double)in->share * 100);
    if (!in->active) {
        puts(", not used");
        return;
    }
    printf(", %d candidates\n", in->fetched);
    for (int32_t i = 0; i < in->n_events && i < 3; i++) {
        printf("      %3.0f %%  ", (double)in->event[i].weight * 100);
        print_item(it, in->event[i].row);
        putchar('\n');
    }
    int32_t n = 0;
    for (int32_t i = 0; i < a->n_items; i++) {
        if (a->item[i].interest != in->index) continue;
        if (n++ == 0) puts("   found");
        print_candidate(it, a, i, false);
    }
    if (n == 0) puts("   found nothing that is among the best");
}

static void print_answer(const struct gen *g, const struct rec_answer *a,
                         const struct ids *history, bool explain)
{
    const struct gen_info *info = gen_info(g);
    const struct items *it = gen_items(g);
    print_history(it, history, a);
    printf("\n%s@%lld, %s index of %d items", info->name, (long long)info->version,
           info->index_type, info->n_items);
    if (a->fallback) printf("; popular items, because of %s", a->fallback);
    putchar('\n');
    if (explain && !a->fallback)
        for (int32_t k = 0; k < a->n_interests; k++) print_interest(it, a, &a->interest[k]);
    else
        for (int32_t i = 0; i < a->n_items; i++) print_candidate(it, a, i, !a->fallback);
}

/* ---- asking ---- */

static int ask(const struct args *args, struct gen *g, struct rec_worker *w, struct buf *b,
               const struct ids *history, const struct ids *exclude, struct err *e)
{
    struct rec_request r;
    struct rec_answer a;
    rec_request_defaults(&r);
    r.history = history->at;
    r.n_history = history->n;
    r.exclude = exclude->at;
    r.n_exclude = exclude->n;
    r.limit = args->limit;
    r.interests = args->interests;
    r.candidates = args->candidates;
    r.exclude_seen = !args->keep_seen;
    r.explain = args->explain;
    const struct corpus c = { .gen = g };
    TRY(recommend(&a, w, &c, &r, e));
    if (!args->json && !args->from_stdin) {
        print_answer(g, &a, history, args->explain);
        return 0;
    }
    buf_clear(b);
    reply_recommend(b, &a, &c, &(struct reply_opts){ .explain = args->explain, .took_ms = -1 });
    if (b->failed) return err_set(e, ERR_LIMIT, "the reply passes %d bytes", LIMIT_REPLY_BYTES);
    puts(b->data);
    return 0;
}

static int ask_lines(const struct args *args, struct gen *g, struct rec_worker *w,
                     struct buf *b, const struct ids *exclude, struct err *e)
{
    struct ids history = { 0 };
    char *line = NULL;
    size_t cap = 0;
    int rc = 0;
    for (int64_t n = 1; rc == 0 && getline(&line, &cap, stdin) >= 0; n++) {
        split_ids(&history, line, ", \t\r\n");
        rc = ask(args, g, w, b, &history, exclude, e);
        if (rc < 0) err_ctx(e, "line %lld", (long long)n);
    }
    free(line);
    free(history.at);
    return rc;
}

static int run(const struct args *args, struct err *e)
{
    if (!args->bundle) return err_set(e, ERR_USAGE, "--bundle is needed");
    if (!args->history == !args->from_stdin)
        return err_set(e, ERR_USAGE, "one of --history and --stdin is needed");
    struct gen *g;
    TRY(gen_open(&g, args->bundle, e));
    struct rec_worker *w = rec_worker_new();
    struct buf b = { .cap_max = LIMIT_REPLY_BYTES };
    struct ids history = { 0 }, exclude = { 0 };
    split_ids(&history, args->history, ",");
    split_ids(&exclude, args->exclude, ",");
    int rc = args->from_stdin ? ask_lines(args, g, w, &b, &exclude, e)
                              : ask(args, g, w, &b, &history, &exclude, e);
    free(history.at);
    free(exclude.at);
    buf_free(&b);
    rec_worker_free(w);
    gen_unref(g);
    return rc;
}

static void help(void)
{
    puts("usage: intent recommend --bundle BUNDLE --history ID,ID,... [-n N] [OPTION]...\n\n"
         "Prints what the daemon would answer.  Ids that the catalogue lacks are skipped; "
         "without a\n"
         "known one the popular items are the answer.  Only the daemon can be asked for an id "
         "with a\n"
         "comma in it.\n");
    conf_help(opts, stdout);
}

int cmd_recommend(int argc, char **argv)
{
    struct args a = { 0 };
    struct err e = { 0 };
    char **arg = xcalloc((size_t)argc + 1, sizeof *arg);
    static char limit[] = "--limit";
    for (int i = 0; i < argc; i++) arg[i] = strcmp(argv[i], "-n") == 0 ? limit : argv[i];
    int rc = cmd_options(opts, &a, argc, arg, &e);
    if (rc == 1)
        help();
    else if (rc == 0)
        rc = run(&a, &e);
    conf_free(opts, &a);
    free(arg);
    return rc < 0 ? cmd_fail("recommend", &e) : 0;
}
