/* foreign.h — weights that another library trained, as a model for the items of a data set.
 *   struct model *m;
 *   foreign_model(&m, FOREIGN_S3REC, "Beauty-150.pt", set, n_set, ds.items, stderr, &e);
 * recbole      SASRec of RecBole: a dictionary with a "state_dict".  Row r + 1 of its table is the r-th id to appear in the
 *              .inter file, and so it is with the rows of a data set prepared from that file; positions from the first
 * s3rec        CIKM2020-S3Rec: a state dict.  Row n is the item that its text file calls n; positions to the last
 * safetensors  names and shapes of models/README.md; what `intent export` wrote tells its settings and items' order
 * Names, shapes and values are checked before anything is made of them.  Thread: main. */
#pragma once
#include "core/data/items.h"
#include "core/nn/model.h"
#include <stdio.h>

enum foreign { FOREIGN_RECBOLE, FOREIGN_S3REC, FOREIGN_SAFETENSORS };
#define FOREIGN_CHOICES "recbole|s3rec|safetensors"

/* Metadata of safetensors by which an export tells how its weights are run. */
#define FOREIGN_META_ENCODER "intent.encoder" /* JSON of model_opts */
#define FOREIGN_META_ITEMS   "intent.items"   /* items_order_hash, 16 hex digits */

/* set [n_set]: "[model.]key=value" of model_opts, for what the file does not tell.  notes: where is told what was
 * left out or taken for granted.  ERR_FORMAT and ERR_INVALID name the key or the tensor. */
NODISCARD int foreign_model(struct model **out, enum foreign from, const char *path,
                            char *const *set, int n_set, const struct items *it, FILE *notes,
                            struct err *e);
