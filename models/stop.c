#include "models/stop.h"
#include <stdint.h>
#include <time.h>

static volatile sig_atomic_t asked;
static struct timespec asked_at; /* written by the first signal only */

static void on_signal(int sig)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (!asked) {
        asked_at = now;
        asked = sig;
        return;
    }
    int64_t ns =
        (int64_t)(now.tv_sec - asked_at.tv_sec) * 1000000000 + (now.tv_nsec - asked_at.tv_nsec);
    if (ns < 1000000000) return;
    signal(sig, SIG_DFL);
    raise(sig);
}

struct stop stop_begin(void)
{
    struct stop s;
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    asked = 0;
    sigaction(SIGINT, &sa, &s.was[0]);
    sigaction(SIGTERM, &sa, &s.was[1]);
    return s;
}

int stop_asked(void) { return asked; }

void stop_end(struct stop *s)
{
    sigaction(SIGINT, &s->was[0], NULL);
    sigaction(SIGTERM, &s->was[1], NULL);
}
