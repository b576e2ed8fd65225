/* profile.h — the table of `intent train --profile`.  Thread: main. */
#pragma once
#include "core/ad/prof.h"
#include "core/base/par.h"
#include <stdint.h>
#include <stdio.h>

/* Measures the rates of this machine with the pool and prints where the time of `steps` steps went beside them. */
void profile_print(FILE *out, const struct prof *p, int64_t steps, struct par *pool);
