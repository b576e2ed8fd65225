/* attr.h — what is known of an item beside its id: named fields, as a request's filter sees
 * them. Read only views; whoever hands one out owns what it points to.  Thread: any. */
#pragma once
#include "core/base/arena.h"
#include "core/data/items.h"

struct attr {
    struct str name;
    const struct str *value; /* [n_values], or NULL: a number */
    int32_t n_values;
    double number;
};
struct attrs {
    const struct attr *at; /* each name once */
    int32_t n;
};

/* What the catalogue says of a row: fields without a value are left out.  Names and texts
 * point into it. */
struct attrs attrs_of_item(const struct items *it, int32_t row, struct arena *a);
