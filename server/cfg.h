/* cfg.h — the daemon's settings: defaults, then the file, the environment (INTENTD_*), the flags.
 *   const char *url;  int rc = cfg_load(&c, &url, argc, argv, &e);  cfg_free(&c);
 * Thread: init-only; immutable afterwards. */
#pragma once
#include "core/base/conf.h"

enum cfg_overload { CFG_429, CFG_503 };

struct cfg {
    char *models, *model, *listen, *config, *store;
    int32_t threads, max_connections, queue_rows, batch_rows, state_cache_mib, overload_status,
        log_level;
    float queue_ms;
    bool degrade;
    float drain_delay, drain_timeout, request_timeout, idle_timeout; /* s */
    bool health_check, version;                                      /* instead of serving */
};
extern const struct opt cfg_opts[];

enum cfg_result { CFG_RUN, CFG_HELP };
/* A cfg_result, or an error.  *url: the one positional argument, of --health-check, or NULL. */
NODISCARD int cfg_load(struct cfg *c, const char **url, int argc, char **argv, struct err *e);
void cfg_free(struct cfg *c);
void cfg_help(FILE *f);
