/* app.h — the process lifetime: what every request of the daemon shares.
 *   struct app app;  app_init(&app, &cfg);  ...  app_set_catalog(&app, c);  ...  app_free(&app);
 * Thread: init-only, except the atomic members and what says otherwise. */
#pragma once
#include "core/serve/live.h"
#include "server/catalog.h"
#include "server/cfg.h"
#include "server/conns.h"
#include "server/metrics.h"
#include <stdatomic.h>

enum app_state { APP_STARTING, APP_SERVING, APP_DRAINING };

struct calls;
struct app {
    struct cfg cfg;                  /* immutable */
    int threads;                     /* immutable: that serve */
    atomic_int state;                /* enum app_state */
    struct catalog *_Atomic catalog; /* NULL while starting; set once */
    struct lives *lives;             /* items that change; set before catalog, not after */
    atomic_int_fast64_t loaded_s;    /* when: seconds since 1970 */
    atomic_size_t body_bytes;        /* of the bodies that are held */
    struct server_metrics metrics;   /* atomic, relaxed: counters */
    struct conns *conns;
    struct calls *calls;
    uint64_t id_key; /* immutable: of request ids */
    atomic_uint_fast64_t id_next;
};

void app_init(struct app *app, const struct cfg *cfg); /* borrows cfg's strings */
void app_free(struct app *app);
/* Takes both; ready from here on. */
void app_set_catalog(struct app *app, struct catalog *c, struct lives *lives);

/* 16 hexadecimal digits, not repeated within a process.  Thread: any. */
void app_new_id(struct app *app, char out[17]);
