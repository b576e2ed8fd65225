/* stop.h — SIGINT and SIGTERM as a wish to stop, for work that saves first.
 *   struct stop s = stop_begin();  while (!stop_asked()) ...;  stop_end(&s);
 * The first signal is noted; another one a second later or more ends the process at once. (Within a second they are
 * taken for one wish: `timeout`, shells and service managers signal a process and its group.)  Thread: main. */
#pragma once
#include <signal.h>

struct stop {
    struct sigaction was[2];
};
struct stop stop_begin(void);
int stop_asked(void);          /* the signal, or 0 */
void stop_end(struct stop *s); /* signals do what they did before */
