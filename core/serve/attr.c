#include "core/serve/attr.h"
#include <math.h>

struct attrs attrs_of_item(const struct items *it, int32_t row, struct arena *a)
{
    struct attr *at = ARENA_NEW(a, struct attr, items_fields(it) + 1);
    int32_t n = 0;
    for (int32_t f = 0; f < items_fields(it); f++) {
        struct attr x = { .name = items_field_name(it, f) };
        if (items_field_kind(it, f) == FIELD_NUMBER) {
            x.number = items_number(it, f, row);
            if (!isnan(x.number)) at[n++] = x;
            continue;
        }
        const int32_t *v = items_values(it, f, row, &x.n_values);
        struct str *value = ARENA_NEW(a, struct str, x.n_values + 1);
        for (int32_t i = 0; i < x.n_values; i++) value[i] = items_field_value(it, f, v[i]);
        x.value = value;
        if (x.n_values) at[n++] = x;
    }
    return (struct attrs){ at, n };
}
