#include "models/attributes.h"
#include "core/base/mem.h"
#include <stdlib.h>

int32_t attributes_count(const struct items *it)
{
    int32_t n = 0;
    for (int32_t f = 0; f < items_fields(it); f++)
        if (items_field_kind(it, f) == FIELD_VALUES) n += items_field_values(it, f);
    return n;
}

/* Fills id when there is one; the number of values of all fields of row v. */
static int32_t list(int32_t *id, const struct items *it, int32_t v)
{
    int32_t n = 0, first = 0;
    for (int32_t f = 0; f < items_fields(it); f++) {
        int32_t count;
        if (items_field_kind(it, f) != FIELD_VALUES) continue;
        const int32_t *value = items_values(it, f, v, &count);
        for (int32_t i = 0; i < count; i++, n++)
            if (id) id[n] = first + value[i];
        first += items_field_values(it, f);
    }
    return n;
}

struct attributes attributes_new(const struct items *it)
{
    const int32_t V = items_count(it);
    struct attributes a = { .n = attributes_count(it),
                            .cu = xcalloc((size_t)V + 1, sizeof *a.cu) };
    for (int32_t v = 0; v < V; v++) a.cu[v + 1] = a.cu[v] + list(NULL, it, v);
    a.id = xcalloc((size_t)a.cu[V] + 1, sizeof *a.id);
    for (int32_t v = 0; v < V; v++) (void)list(a.id + a.cu[v], it, v);
    return a;
}

void attributes_free(struct attributes *a)
{
    free(a->cu);
    free(a->id);
    *a = (struct attributes){ 0 };
}
