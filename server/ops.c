/* Health, metrics, facts: what operators and scrapers ask. */
#include "core/base/limits.h"
#include "core/num/num.h"
#include "core/serve/reply.h"
#include "core/serve/states.h"
#include "server/call.h"
#include <inttypes.h>
#include <string.h>
#include <time.h>

#ifndef INTENT_VERSION
#    define INTENT_VERSION "dev"
#endif

void ops_live(struct call *c) { buf_puts(&c->out, "{\"status\":\"ok\"}\n"); }

static void write_default_model(struct buf *b, const struct catalog *cat)
{
    const char *name = cat ? catalog_default(cat) : NULL;
    for (int i = 0; name && i < catalog_count(cat); i++) {
        const struct gen_info *info = gen_info(catalog_at(cat, i));
        if (strcmp(info->name, name) != 0) continue;
        char text[300];
        int n = snprintf(text, sizeof text, "%.256s@%" PRId64, name, info->version);
        buf_puts(b, ",\"model\":");
        buf_json_str(b, text, (size_t)n);
    }
}

/* 503 while loading and while draining; a refused reload or a full house is no reason to leave the rotation. */
void ops_ready(struct call *c)
{
    int state = atomic_load(&c->app->state);
    static const char *const word[] = { "starting", "ok", "draining" };
    buf_printf(&c->out, "{\"status\":\"%s\"", word[state]);
    write_default_model(&c->out, atomic_load(&c->app->catalog));
    if (state != APP_SERVING || c->verbose)
        buf_printf(&c->out, ",\"checks\":{\"model\":\"%s\",\"accepting\":%s}",
                   atomic_load(&c->app->catalog) ? "ready" : "loading",
                   state == APP_DRAINING ? "false" : "true");
    buf_puts(&c->out, "}\n");
    if (state == APP_SERVING) return;
    c->status = 503;
    c->retry_after_s = 1;
}

void ops_version(struct call *c)
{
    buf_puts(&c->out, "{\"name\":\"intentd\",\"version\":\"" INTENT_VERSION "\"}\n");
}

void ops_info(struct call *c)
{
    struct app *app = c->app;
    struct buf *b = &c->out;
    buf_printf(b,
               "{\"name\":\"intentd\",\"version\":\"" INTENT_VERSION
               "\",\"isa\":\"%s\",\"threads\":%d",
               num->isa, app->threads);
    write_default_model(b, atomic_load(&app->catalog));
    buf_printf(b,
               ",\"limits\":{\"limit\":%d,\"history\":%d,\"history_received\":%d,\"exclude_"
               "items\":%d,\"candidates\":%d",
               LIMIT_RESULTS, LIMIT_HISTORY, LIMIT_HISTORY_PARSED, LIMIT_EXCLUDE, LIMIT_RANK);
    buf_printf(b,
               ",\"interests\":%d,\"candidates_per_interest\":%d,\"item_id_bytes\":%d,\"body_"
               "bytes\":%d",
               LIMIT_INTERESTS, LIMIT_CANDIDATES, LIMIT_ID_BYTES, LIMIT_BODY_BYTES);
    buf_printf(b, ",\"vectors\":%d,\"filter_clauses\":%d,\"filter_values\":%d,\"batch\":%d",
               LIMIT_INTERESTS, LIMIT_FILTER_CLAUSES, LIMIT_FILTER_VALUES, LIMIT_BATCH_ROWS);
    buf_printf(b,
               ",\"exclude_lists\":%d,\"blocklists\":%d,\"blocklist_ids\":%d,\"items_batch\":%d"
               ",\"changed_items\":%d",
               LIMIT_EXCLUDE_LISTS, LIMIT_LISTS, LIMIT_LIST_IDS, LIMIT_BATCH, LIMIT_DELTA);
    buf_printf(b, ",\"batch_rows\":%d,\"queue_rows\":%d", app->cfg.batch_rows,
               app->cfg.queue_rows);
    buf_printf(b, ",\"connections\":%d,\"request_timeout_s\":%g,\"idle_timeout_s\":%g}}\n",
               app->cfg.max_connections, (double)app->cfg.request_timeout,
               (double)app->cfg.idle_timeout);
}

/* One line per model, or per model with an index, head first. */
static void write_models(struct buf *b, const struct catalog *cat, const char *name,
                         const char *help, bool indexed,
                         double (*value)(const struct gen_info *))
{
    metrics_head(b, name, "gauge", help);
    for (int i = 0; i < catalog_count(cat); i++) {
        const struct gen_info *g = gen_info(catalog_at(cat, i));
        if (indexed && g->kind == GEN_RANK) continue;
        buf_printf(b, "%s{model=", name);
        metrics_label(b, g->name);
        buf_printf(b, "} %.9g\n", value(g));
    }
}

static double items_of(const struct gen_info *g) { return (double)g->n_items; }
static double recall_of(const struct gen_info *g) { return g->recall; }
static double version_of(const struct gen_info *g) { return (double)g->version; }
static double load_s_of(const struct gen_info *g) { return g->load_ms * 1e-3; }

/* Items beside the index, and deleted ones. */
static void write_deltas(struct buf *b, const struct lives *lives, const struct catalog *cat)
{
    static const char *const name[] = { "intentd_delta_items", "intentd_tombstones" };
    static const char *const help[] = { "Changed items, searched beside the index.",
                                        "Deleted items." };
    for (int k = 0; k < 2; k++) {
        metrics_head(b, name[k], "gauge", help[k]);
        for (int i = 0; i < catalog_count(cat); i++) {
            const char *model = gen_info(catalog_at(cat, i))->name;
            struct live *l = lives_find(lives, model, strlen(model));
            if (!l) continue;
            struct live_view *v = live_take(l);
            buf_printf(b, "%s{model=", name[k]);
            metrics_label(b, model);
            buf_printf(b, "} %d\n", k ? v->n_deleted : v->n_alive);
            live_drop(v);
        }
    }
}

/* The encoder's states of recent histories. */
static void write_states(struct buf *b, const struct catalog *cat)
{
    static const struct {
        const char *name, *type, *help;
    } of[] = {
        { "intentd_state_cache_hits_total", "counter",
          "Histories of which a beginning was kept." },
        { "intentd_state_cache_misses_total", "counter",
          "Histories that were encoded and kept." },
        { "intentd_state_cache_evictions_total", "counter", "Histories that made room." },
        { "intentd_state_cache_bytes", "gauge", "Memory that kept histories take." },
    };
    for (int k = 0; k < 4; k++) {
        metrics_head(b, of[k].name, of[k].type, of[k].help);
        for (int i = 0; i < catalog_count(cat); i++) {
            struct states_stats n;
            struct states *s = gen_states(catalog_at(cat, i));
            if (!s) continue;
            states_count(&n, s);
            const uint64_t value[] = { n.hits, n.misses, n.evictions, n.nb };
            buf_printf(b, "%s{model=", of[k].name);
            metrics_label(b, gen_info(catalog_at(cat, i))->name);
            buf_printf(b, "} %" PRIu64 "\n", value[k]);
        }
    }
}

static void write_catalog(struct buf *b, struct app *app, const struct catalog *cat)
{
    metrics_head(b, "intentd_model_info", "gauge", "Served models; always 1.");
    for (int i = 0; i < catalog_count(cat); i++) {
        const struct gen_info *g = gen_info(catalog_at(cat, i));
        buf_puts(b, "intentd_model_info{name=");
        metrics_label(b, g->name);
        buf_printf(b, ",version=\"%" PRId64 "\",sha256=\"%s\"} 1\n", g->version, g->sha256);
    }
    write_models(b, cat, "intentd_model_generation", "Version that is served.", false,
                 version_of);
    write_models(b, cat, "intentd_model_load_duration_seconds", "Time its load took.", false,
                 load_s_of);
    write_models(b, cat, "intentd_index_items", "Items in the index.", true, items_of);
    write_models(b, cat, "intentd_recall_selftest",
                 "Recall of the index against an exact scan, measured at load.", true,
                 recall_of);
    write_deltas(b, app->lives, cat);
    write_states(b, cat);
    metrics_head(b, "intentd_model_loads_total", "counter", "Bundles that were opened.");
    buf_printf(b, "intentd_model_loads_total{result=\"ok\"} %d\n", catalog_count(cat));
    buf_printf(b, "intentd_model_loads_total{result=\"refused\"} %d\n", catalog_failed(cat));
    metrics_head(b, "intentd_model_age_seconds", "gauge", "Since the models were loaded.");
    buf_printf(b, "intentd_model_age_seconds %lld\n",
               (long long)time(NULL) - (long long)atomic_load(&app->loaded_s));
}

void ops_metrics(struct call *c)
{
    struct app *app = c->app;
    struct buf *b = &c->out;
    const struct catalog *cat = atomic_load(&app->catalog);
    c->type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_head(b, "intentd_build_info", "gauge", "What runs; always 1.");
    buf_printf(b, "intentd_build_info{version=\"" INTENT_VERSION "\",isa=\"%s\"} 1\n",
               num->isa);
    metrics_head(b, "intentd_ready", "gauge", "1 when /readyz says 200.");
    buf_printf(b, "intentd_ready %d\n", atomic_load(&app->state) == APP_SERVING);
    metrics_head(b, "intentd_connections", "gauge", "Open connections.");
    buf_printf(b, "intentd_connections %d\n", conns_count(app->conns));
    if (cat) write_catalog(b, app, cat);
    metrics_write(b, &app->metrics, routes_names());
    metrics_write_process(b);
}
