#include "server/cfg.h"
#include "core/base/mem.h"
#include <stdlib.h>
#include <string.h>

const struct opt cfg_opts[] = {
    OPT_STR(struct cfg, models, NULL, "directory of bundles: DIR/<name>/<version>/ (required)"),
    OPT_STR(struct cfg, listen, "127.0.0.1:8080",
            "host:port; 0.0.0.0:8080 every IPv4 address, [::]:8080 every address, port 0 a "
            "free one"),
    OPT_STR(
        struct cfg, model, NULL,
        "model that answers requests without a `model` (default: `default`, or the only one)"),
    OPT_STR(
        struct cfg, store, NULL,
        "directory where changes of items and blocklists are kept; without it there are none"),
    OPT_INT(struct cfg, threads, "0", 0, 256, "threads that serve; 0: one per core"),
    OPT_STR(struct cfg, config, NULL, "INI file of these settings, `key = value`"),
    OPT_CHOICE(struct cfg, log_level, "info", "debug|info|warn|error",
               "least level that is logged"),
    OPT_INT(struct cfg, max_connections, "1024", 1, 100000,
            "connections whose requests are served; others are told to come back"),
    OPT_INT(
        struct cfg, queue_rows, "256", 1, 1000000,
        "users whose requests may wait, all threads together; others are told to come back"),
    OPT_FLOAT(
        struct cfg, queue_ms, "200", 0, 60000,
        "most milliseconds that a request may have to wait, by what others have cost; 0: any"),
    OPT_BOOL(
        struct cfg, degrade, "true",
        "while more than half of queue_rows or queue_ms waits, search half of a request's "
        "interests, from three quarters on the most important one (`allow_degraded`: false "
        "keeps them all)"),
    OPT_INT(struct cfg, batch_rows, "32", 1, 4096,
            "users whose requests are computed together when they wait; 1: no batching"),
    OPT_INT(
        struct cfg, state_cache_mib, "-1", -1, 1 << 20,
        "MiB a model in which the encoder's states of recent histories are kept, so that "
        "one that grew is encoded by its new events alone; 0: none; -1: the models' share of "
        "an eighth of the machine's or container's memory, at most 512"),
    OPT_CHOICE(struct cfg, overload_status, "429", "429|503", "status of such an answer"),
    OPT_FLOAT(struct cfg, request_timeout, "10", 0.1, 3600,
              "seconds for a request's body to arrive"),
    OPT_FLOAT(struct cfg, idle_timeout, "60", 1, 3600,
              "seconds a connection may wait for its next request, or for its reader"),
    OPT_FLOAT(struct cfg, drain_delay, "5", 0, 600,
              "seconds of serving on after SIGTERM, while /readyz says 503"),
    OPT_FLOAT(struct cfg, drain_timeout, "25", 0, 3600,
              "most seconds to wait for requests in flight after that"),
    OPT_END
};

void cfg_help(FILE *f)
{
    fputs("usage: intentd --models DIR [option]...\n"
          "       intentd --health-check [URL]\n\n"
          "Answers POST /v1/recommend: a history of item ids in, candidates out.\n\n"
          "options (also INTENTD_<NAME> in the environment and `name = value` in the file;\n"
          "a flag wins over the environment, the environment over the file; an empty variable\n"
          "counts as not set):\n",
          f);
    conf_help(cfg_opts, f);
    fputs("\non the command line only, instead of serving:\n"
          "  --health-check [URL]               ask URL, or /readyz of the listen address; "
          "exit 0 "
          "when ready, else 1\n"
          "  --version                          print the version\n"
          "  --help                             this text\n\n"
          "  intentd --models var/models &\n"
          "  curl -s localhost:8080/v1/recommend -H 'Content-Type: application/json' \\\n"
          "       -d '{\"history\": [\"318\", \"296\"], \"limit\": 5}'\n\n"
          "SIGTERM and SIGINT stop it without losing a request; a second SIGINT stops it at "
          "once.\n"
          "Exit status: 0 stopped as asked, 1 failed, 2 wrong usage.\n",
          f);
}

static int on_key(void *ctx, const char *section, const char *key, const char *value, int line,
                  struct err *e)
{
    (void)line;
    if (section[0] && strcmp(section, "intentd") != 0)
        return err_set(e, ERR_CONFIG, "section [%.60s]: only [intentd] is known", section);
    return key ? conf_set(cfg_opts, ctx, key, value, e) : 0;
}

/* What to do instead of serving is asked for on the command line only: an INTENTD_VERSION in the environment
 * is somebody's note, not a wish. */
static bool is_action(struct cfg *c, const char *arg)
{
    if (strcmp(arg, "--version") == 0) return c->version = true;
    if (strcmp(arg, "--health-check") == 0) return c->health_check = true;
    return false;
}

static int parse_args(struct cfg *c, const char **url, int argc, char **argv, struct err *e)
{
    char **rest = xcalloc((size_t)argc + 1, sizeof *rest);
    char **pos = xcalloc((size_t)argc + 1, sizeof *pos);
    int n_rest = 0, n_pos = 0;
    for (int i = 0; i < argc; i++)
        if (!is_action(c, argv[i])) rest[n_rest++] = argv[i];
    int rc = conf_args(cfg_opts, c, n_rest, rest, pos, &n_pos, e), most = c->health_check;
    *url = n_pos ? pos[0] : NULL;
    if (rc == 0 && n_pos > most)
        rc = err_set(e, ERR_USAGE, "unexpected argument '%.80s'; see --help", pos[most]);
    free(rest);
    free(pos);
    return rc;
}

int cfg_load(struct cfg *c, const char **url, int argc, char **argv, struct err *e)
{
    /* A first look finds the file; what it says is then laid under the environment and the flags. */
    struct cfg first = { 0 };
    conf_defaults(cfg_opts, c);
    conf_defaults(cfg_opts, &first);
    int rc = conf_env(cfg_opts, &first, "INTENTD", e);
    if (rc == 0) rc = parse_args(&first, url, argc, argv, e);
    if (rc == 0 && first.config) rc = conf_ini(first.config, on_key, c, e);
    if (rc == 0) rc = conf_env(cfg_opts, c, "INTENTD", e);
    if (rc == 0) rc = parse_args(c, url, argc, argv, e);
    conf_free(cfg_opts, &first);
    return rc > 0 ? CFG_HELP : rc;
}

void cfg_free(struct cfg *c) { conf_free(cfg_opts, c); }
