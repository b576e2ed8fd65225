#include "server/writer.h"
#include "core/base/mem.h"
#include <pthread.h>
#include <stdlib.h>

struct writer {
    pthread_t thread;
    writer_done_fn *done; /* immutable */
    pthread_mutex_t mu;
    pthread_cond_t more;
    struct call *first, *last; /* GUARDED_BY(mu) */
    bool stop;                 /* GUARDED_BY(mu) */
};

/* The oldest; NULL: there is none and no more will come. */
static struct call *next_call(struct writer *w)
{
    pthread_mutex_lock(&w->mu);
    while (!w->first && !w->stop) pthread_cond_wait(&w->more, &w->mu);
    struct call *c = w->first;
    if (c) w->first = c->next;
    if (!w->first) w->last = NULL;
    pthread_mutex_unlock(&w->mu);
    return c;
}

static void *run(void *arg)
{
    struct writer *w = arg;
    for (struct call *c; (c = next_call(w));) {
        REQUIRE(!call_run(c), "%s waits for a batch", c->route->name);
        w->done(c);
    }
    return NULL;
}

struct writer *writer_new(writer_done_fn *done)
{
    struct writer *w = xcalloc(1, sizeof *w);
    w->done = done;
    pthread_mutex_init(&w->mu, NULL);
    pthread_cond_init(&w->more, NULL);
    REQUIRE(pthread_create(&w->thread, NULL, run, w) == 0, "no thread for the item store");
    return w;
}

void writer_free(struct writer *w)
{
    if (!w) return;
    pthread_mutex_lock(&w->mu);
    w->stop = true;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->mu);
    pthread_join(w->thread, NULL);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->mu);
    free(w);
}

void writer_add(struct writer *w, struct call *c)
{
    c->next = NULL;
    pthread_mutex_lock(&w->mu);
    if (w->last)
        w->last->next = c;
    else
        w->first = c;
    w->last = c;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->mu);
}
