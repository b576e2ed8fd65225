/* pickle.h — a pickle as plain data: nothing in it is imported, called or run.
 *   struct pickle pk; size_t used;
 *   pickle_read(&pk, bytes, nb, &used, &e);      pk.root is the tree; pickle_free(&pk);
 * What Python would import is a PICKLE_GLOBAL that holds its name; what it would call is a PICKLE_CALL that holds the
 * name, the arguments, the state and the entries that were set.  A pickle that names a function with which code is run
 * (os.system, builtins.eval ...) is refused by that name, wherever it stands: no file of weights has a use for it.
 * The opcodes of protocols 2 to 5; strings point into the bytes.  Lists may contain themselves: walk a fixed depth.
 * Thread: any (pure). */
#pragma once
#include "core/base/err.h"
#include <stdbool.h>
#include <stdint.h>

enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_LONG, /* an integer of more than 64 bits: str, little endian */
    PICKLE_FLOAT,
    PICKLE_STR,
    PICKLE_BYTES,
    PICKLE_TUPLE,
    PICKLE_LIST, /* sets too */
    PICKLE_DICT, /* at: key, value, key, value ... */
    PICKLE_GLOBAL,
    PICKLE_CALL,   /* func(args); at: entries as of a dict, or appended values */
    PICKLE_PERSID, /* args: what names an object outside */
    PICKLE_MARK    /* never in a tree */
};

struct pval {
    enum pickle_kind kind;
    int32_t n, cap; /* elements of at */
    int64_t i;      /* PICKLE_INT, PICKLE_BOOL */
    double f;
    const char *
        str; /* PICKLE_STR, PICKLE_BYTES, PICKLE_LONG: len bytes; PICKLE_GLOBAL: "module.name" */
    size_t len;
    struct pval **at;
    const struct pval *func, *args, *state; /* state: NULL unless BUILD gave one */
};

struct arena;
struct pickle {
    struct arena *mem; /* owns the tree */
    const struct pval *root;
    const struct pval **persid; /* [n_persids] in order of appearance */
    int32_t n_persids;
};

/* One pickle at the beginning of the bytes, which must outlive it; *used: its length.  ERR_FORMAT, ERR_LIMIT. */
NODISCARD int pickle_read(struct pickle *out, const uint8_t *p, size_t nb, size_t *used,
                          struct err *e);
void pickle_free(struct pickle *pk);

bool pickle_str_is(const struct pval *v, const char *s);    /* a string equal to s */
bool pickle_global_is(const struct pval *v, const char *s); /* the global s */
/* Value of a string key of a dict or of a call's entries, the last one set; NULL: none. */
const struct pval *pickle_get(const struct pval *v, const char *key);
