/* prof.h — where the time of training steps goes: laps, summed by part.
 *   struct prof *p = prof_new();
 *   tape_profile(tp, p);                            ops lap themselves
 *   prof_mark(p);                                   time starts
 *   ...; prof_lap(p, "batch", NULL, PROF_FORWARD);  what has passed since the last mark or lap is that part's
 *   for (i < prof_count(p)) prof_part(p, i)->...
 * NULL takes every call and measures nothing.  Thread: owner. */
#pragma once
#include <stdint.h>

enum prof_pass { PROF_FORWARD, PROF_BACKWARD, PROF_PASSES };

/* What the passes of an op have to do: operations, and floats that they read or write if nothing stays in a
 * cache between passes.  Zeros: not counted. */
struct cost {
    int32_t rows, in, out; /* of a product [rows,in] x [in,out]; 0: the op is none */
    double flop[PROF_PASSES], floats[PROF_PASSES];
};

/* Products of different in and out are different parts. */
struct prof_part {
    const char *name; /* borrowed */
    int32_t in, out;
    int64_t calls, rows; /* forward */
    double seconds[PROF_PASSES], flop[PROF_PASSES], floats[PROF_PASSES];
};

struct prof;
struct prof *prof_new(void);
void prof_free(struct prof *p);
void prof_mark(struct prof *p);
/* name must outlive p; c NULL: nothing is counted */
void prof_lap(struct prof *p, const char *name, const struct cost *c, enum prof_pass pass);
int prof_count(const struct prof *p);
const struct prof_part *prof_part(const struct prof *p, int i); /* in the order of first laps */
