/* init.h — a training that begins with a bundle's weights: fine-tuning what was trained or imported before.
 * Thread: the training loop's. */
#pragma once
#include "core/data/items.h"
#include "core/nn/model.h"
#include <stdio.h>

/* "NAME@VERSION SHA256" of the bundle's weights, malloc'd: what a run that began with them says. */
NODISCARD int init_label(char **out, const char *bundle, struct err *e);
/* The weights of the bundle into m, whose parameters have been initialised.  An item's vector is that of its id in the
 * bundle's catalogue; items that it lacks stay as they are.  ERR_CONFIG names the key of [model] in which the bundle
 * differs; ERR_INVALID: none of the items is in the bundle.  report: where the result is told. */
NODISCARD int init_from(struct model *m, const struct items *it, const char *bundle,
                        FILE *report, struct err *e);
