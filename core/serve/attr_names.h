/* attr_names.h — attributes that changed items have beside the fields of their catalogue: a name has one kind of values as
 * long as any item has it, so that the changes can become a catalogue (intent index --compact).
 *   struct attr_names n = { 0 };  attr_names_add(&n, items, &attrs, &e);  attr_names_remove(&n, items, &attrs);
 * Thread: owner; reading: any. */
#pragma once
#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/serve/attr.h"
#include <stdbool.h>

struct attr_names {
    int32_t n;
    struct attr_name {
        char name[LIMIT_FIELD_NAME + 1];
        bool number;
        int32_t items; /* that have it, at least 1 */
    } at[LIMIT_FIELDS];
};

const struct attr_name *attr_names_find(const struct attr_names *a,
                                        struct str name); /* or NULL */
/* One item more.  ERR_INVALID: a name whose values are of the other kind, or one too many beside the catalogue's; the
 * item's other names are added. */
int attr_names_add(struct attr_names *a, const struct items *catalogue,
                   const struct attrs *item, struct err *e);
/* One item less, which was added. */
void attr_names_remove(struct attr_names *a, const struct items *catalogue,
                       const struct attrs *item);
