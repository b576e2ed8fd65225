/* catalog.h — the models a daemon serves: of every model below one directory the highest version that loads.
 *   struct catalog *c = NULL;  TRY(catalog_load(&c, "var/models", NULL, &e));
 *   struct gen *g = catalog_take(c, "default", 7, &e);  ...  gen_unref(g);  catalog_free(c);
 * Immutable after load.  Thread: any. */
#pragma once
#include "core/serve/gen.h"

struct catalog;

/* default_name NULL: the model called "default", or the only one.  A version that does not load, or whose
 * manifest carries another name than its directory, is logged and remembered, and the next lower one is
 * tried; an error when none loads, or not the one that default_name asks for. */
NODISCARD int catalog_load(struct catalog **out, const char *dir, const char *default_name,
                           struct err *e);
void catalog_free(struct catalog *c); /* NULL is fine */

/* A reference to the generation of a model, name NULL: the default one.  ERR_MODEL_NOT_FOUND says which
 * there are. */
struct gen *catalog_take(const struct catalog *c, const char *name, size_t len, struct err *e);

/* The same of a kind: without a name the default one where it is of that kind, else the only one that is.  A model of
 * the other kind that is named is given: who answers says what is wrong. */
struct gen *catalog_take_kind(const struct catalog *c, enum gen_kind kind, const char *name,
                              size_t len, struct err *e);

/* What changed of the items of every model that retrieves; store_dir NULL: nothing. */
struct lives;
NODISCARD int catalog_open_lives(struct lives **out, const struct catalog *c,
                                 const char *store_dir, struct err *e);

int catalog_count(const struct catalog *c);
struct gen *catalog_at(const struct catalog *c, int i); /* borrowed; by name */
const char *catalog_default(const struct catalog *c);   /* NULL: requests must name one */
int catalog_failed(const struct catalog *c);
const char *catalog_failed_name(const struct catalog *c, int i);
int64_t catalog_failed_version(const struct catalog *c, int i); /* 0: of no version */
/* Without the models directory: fit for clients. */
const char *catalog_failed_reason(const struct catalog *c, int i);
