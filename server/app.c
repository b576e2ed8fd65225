#include "server/app.h"
#include "core/base/clock.h"
#include "core/base/mem.h"
#include "core/base/par.h"
#include "core/base/rng.h"
#include "server/call.h"
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t seconds(float s) { return (uint64_t)((double)s * 1e9); }

void app_init(struct app *app, const struct cfg *cfg)
{
    memset(app, 0, sizeof *app);
    app->cfg = *cfg;
    app->threads = cfg->threads ? cfg->threads : par_cores();
    if (getrandom(&app->id_key, sizeof app->id_key, GRND_NONBLOCK) < 0)
        app->id_key = clock_ns();
    app->calls = calls_new();
    app->conns = conns_new(&(struct conns_cfg){ .most = cfg->max_connections,
                                                .idle_ns = seconds(cfg->idle_timeout),
                                                .body_ns = seconds(cfg->request_timeout),
                                                .late = call_write_late });
}

void app_free(struct app *app)
{
    conns_free(app->conns);
    calls_free(app->calls);
    lives_close(app->lives);
    catalog_free(atomic_load(&app->catalog));
}

void app_set_catalog(struct app *app, struct catalog *c, struct lives *lives)
{
    app->lives = lives;
    int starting = APP_STARTING;
    atomic_store(&app->loaded_s, (int_fast64_t)time(NULL));
    atomic_store(&app->catalog, c);
    atomic_compare_exchange_strong(&app->state, &starting, APP_SERVING);
}

void app_new_id(struct app *app, char out[17])
{
    static const char hex[] = "0123456789abcdef";
    /* rng_hash is a bijection of its counter: no two ids are equal. */
    uint64_t x = rng_hash(app->id_key,
                          atomic_fetch_add_explicit(&app->id_next, 1, memory_order_relaxed));
    for (int i = 0; i < 16; i++) out[i] = hex[x >> (60 - 4 * i) & 15];
    out[16] = '\0';
}
