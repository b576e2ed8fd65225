/* log.h — logfmt events on standard error, one line each:  ts=... lvl=info ev=gen.swap gen=7
 *   log_info("gen.swap", "gen=%d items=%d", gen, n);
 * Event names are stable API.  At most LOG_PER_SECOND lines a second for one event name; the next
 * line says how many were dropped.  Library code (core/num ad nn) does not log.  Thread: any. */
#pragma once

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

void log_set_level(enum log_level l);
int log_parse_level(const char *s); /* -1 for an unknown word */
void log_event(enum log_level l, const char *ev, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define log_debug(ev, ...) log_event(LOG_DEBUG, ev, __VA_ARGS__)
#define log_info(ev, ...)  log_event(LOG_INFO, ev, __VA_ARGS__)
#define log_warn(ev, ...)  log_event(LOG_WARN, ev, __VA_ARGS__)
#define log_error(ev, ...) log_event(LOG_ERROR, ev, __VA_ARGS__)
