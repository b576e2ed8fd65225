/* intentd: loads the models, listens, serves until SIGTERM, drains. */
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/num/num.h"
#include "server/addr.h"
#include "server/app.h"
#include "server/http.h"
#include "server/probe.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef INTENT_VERSION
#    define INTENT_VERSION "dev"
#endif

enum { EXIT_USAGE = 2, TICK_MS = 200, PROBE_S = 5 };
/* A connection that fell silent this recently may be about to send: a drain waits for it. */
static const uint64_t GRACE_NS = 1000000000;
static const uint64_t HANDSHAKE_NS =
    250000000; /* for connections half made when the port closes */

static int signal_pipe[2] = { -1, -1 }; /* [0] read by main; set once */

static void on_signal(int sig)
{
    int saved = errno;
    char c = (char)sig;
    (void)!write(signal_pipe[1], &c, 1);
    errno = saved;
}

/* SIGTERM and SIGINT become bytes of a pipe.  Not a signalfd: that needs every thread to block them, and
 * OpenBLAS starts threads of its own before main. */
static int open_signals(struct err *e)
{
    struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) < 0) return err_sys(e, ERR_IO, "pipe");
    sigaction(SIGTERM, &act, NULL);
    sigaction(SIGINT, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

/* Waits at most a tick; looks after the connections.  The signal that came, or 0. */
static int tick(struct app *app)
{
    char sig;
    struct pollfd fds[1 + CONNS_LINGER] = { { .fd = signal_pipe[0], .events = POLLIN } };
    int n = conns_pollfds(app->conns, fds + 1, CONNS_LINGER);
    (void)poll(fds, 1 + (nfds_t)n, TICK_MS);
    conns_tick(app->conns, clock_ns());
    return read(signal_pipe[0], &sig, 1) == 1 ? sig : 0;
}

static uint64_t from_now(float s) { return clock_ns() + (uint64_t)((double)s * 1e9); }

/* A second SIGINT is a person who does not want to wait. */
static void drain_tick(struct app *app)
{
    if (tick(app) != SIGINT) return;
    log_warn("drain.aborted", "connections=%d", conns_count(app->conns));
    _exit(130);
}

static void drain(struct app *app, struct http *h, int why)
{
    log_info("drain.start", "signal=%s delay_s=%g connections=%d",
             why == SIGINT ? "INT" : "TERM", (double)app->cfg.drain_delay,
             conns_count(app->conns));
    atomic_store(&app->state, APP_DRAINING);
    for (uint64_t end = from_now(app->cfg.drain_delay); clock_ns() < end;) drain_tick(app);
    http_refuse(h);
    for (uint64_t end = clock_ns() + HANDSHAKE_NS; clock_ns() < end;) drain_tick(app);
    http_quiesce(h);
    log_info("drain.quiet", "connections=%d", conns_count(app->conns));
    int busy = 1;
    for (uint64_t end = from_now(app->cfg.drain_timeout); busy && clock_ns() < end;) {
        drain_tick(app);
        busy = conns_busy(app->conns, clock_ns(), GRACE_NS);
    }
    if (busy) log_warn("drain.timeout", "connections=%d", busy);
}

/* Bytes for what a model's encoder made of recent histories. */
static size_t states_bytes(const struct cfg *cfg, int n_models)
{
    const size_t most = (size_t)512 << 20;
    if (cfg->state_cache_mib >= 0) return (size_t)cfg->state_cache_mib << 20;
    const size_t share = mem_most() / 8 / (size_t)n_models;
    return share < most ? share : most;
}

static int serve(struct app *app, struct err *e)
{
    struct addr a;
    struct http *h = NULL;
    struct catalog *c = NULL;
    struct lives *lives = NULL;
    char where[ADDR_TEXT];
    TRY(addr_parse(&a, app->cfg.listen, e));
    int fd = addr_listen(&a, e);
    if (fd < 0) return fd;
    int rc = addr_of_socket(&a, fd, e);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    TRY(http_start(&h, app, fd, e));
    addr_text(where, sizeof where, &a);
    log_info("listening", "addr=%s threads=%d version=" INTENT_VERSION " isa=%s", where,
             app->threads, num->isa);
    rc = catalog_load(&c, app->cfg.models, app->cfg.model, e);
    if (rc == 0 && (rc = catalog_open_lives(&lives, c, app->cfg.store, e)) < 0) catalog_free(c);
    if (rc == 0) {
        int sig = 0;
        for (int i = 0, n = catalog_count(c); i < n; i++)
            gen_keep_states(catalog_at(c, i), states_bytes(&app->cfg, n));
        app_set_catalog(app, c, lives);
        log_info("ready", "addr=%s models=%d", where, catalog_count(c));
        while (!sig) sig = tick(app);
        drain(app, h, sig);
    }
    http_stop(h);
    if (rc == 0) log_info("stopped", "addr=%s", where);
    return rc;
}

static int run(const struct cfg *cfg, struct err *e)
{
    struct app app;
    log_set_level((enum log_level)cfg->log_level);
    if (!cfg->models)
        return err_set(e, ERR_USAGE,
                       "--models DIR is required: the directory that holds <name>/<version>/; "
                       "see --help");
    TRY(open_signals(e));
    json_object_seed(0); /* once, before threads */
    app_init(&app, cfg);
    int rc = serve(&app, e);
    app_free(&app);
    close(signal_pipe[0]);
    close(signal_pipe[1]);
    return rc;
}

static int health_check(const struct cfg *cfg, const char *url, struct err *e)
{
    struct addr a;
    char own[ADDR_TEXT + 16], where[ADDR_TEXT];
    if (url) return probe_ready(url, PROBE_S, e);
    TRY(addr_parse(&a, cfg->listen, e));
    a = addr_reachable(&a);
    addr_text(where, sizeof where, &a);
    snprintf(own, sizeof own, "http://%s/readyz", where);
    return probe_ready(own, PROBE_S, e);
}

int main(int argc, char **argv)
{
    struct cfg cfg = { 0 };
    struct err e = { 0 };
    const char *url = NULL;
    num_init();
    int rc = cfg_load(&cfg, &url, argc, argv, &e);
    if (rc == CFG_HELP)
        cfg_help(stdout);
    else if (rc == CFG_RUN && cfg.version)
        puts("intentd " INTENT_VERSION);
    else if (rc == CFG_RUN && cfg.health_check)
        rc = health_check(&cfg, url, &e);
    else if (rc == CFG_RUN)
        rc = run(&cfg, &e);
    cfg_free(&cfg);
    if (rc >= 0) return EXIT_SUCCESS;
    fprintf(stderr, "intentd: %s\n", e.msg);
    return rc == ERR_USAGE || rc == ERR_CONFIG ? EXIT_USAGE : EXIT_FAILURE;
}
