#include "core/serve/attr_names.h"
#include <string.h>

static struct attr_name *find(struct attr_names *a, struct str name)
{
    for (int32_t i = 0; i < a->n; i++)
        if (strlen(a->at[i].name) == (size_t)name.len &&
            memcmp(a->at[i].name, name.p, (size_t)name.len) == 0)
            return &a->at[i];
    return NULL;
}

const struct attr_name *attr_names_find(const struct attr_names *a, struct str name)
{
    return find((struct attr_names *)(uintptr_t)a, name);
}

static bool is_known(const struct items *catalogue, struct str name)
{
    return items_field_find(catalogue, name.p, (size_t)name.len) >= 0;
}

static int add(struct attr_names *a, const struct items *catalogue, const struct attr *x,
               struct err *e)
{
    struct attr_name *n = find(a, x->name);
    if (!n && items_fields(catalogue) + a->n >= LIMIT_FIELDS)
        return err_set(e, ERR_INVALID, "attribute \"%.*s\": there are %d others, the limit",
                       (int)x->name.len, x->name.p, LIMIT_FIELDS);
    if (!n) {
        n = &a->at[a->n++];
        *n = (struct attr_name){ .number = !x->value };
        memcpy(n->name, x->name.p, (size_t)x->name.len);
    }
    if (n->number == !x->value) {
        n->items++;
        return 0;
    }
    return err_set(e, ERR_INVALID, "attribute \"%s\": other changed items have %s there",
                   n->name, n->number ? "a number" : "text");
}

int attr_names_add(struct attr_names *a, const struct items *catalogue,
                   const struct attrs *item, struct err *e)
{
    int rc = 0;
    for (int32_t i = 0; i < item->n; i++) {
        if (is_known(catalogue, item->at[i].name)) continue;
        const int one = add(a, catalogue, &item->at[i], rc ? NULL : e);
        rc = rc ? rc : one;
    }
    return rc;
}

void attr_names_remove(struct attr_names *a, const struct items *catalogue,
                       const struct attrs *item)
{
    for (int32_t i = 0; i < item->n; i++) {
        const struct attr *x = &item->at[i];
        struct attr_name *n = is_known(catalogue, x->name) ? NULL : find(a, x->name);
        if (!n || n->number != !x->value) continue; /* it was refused */
        if (--n->items == 0) *n = a->at[--a->n];
    }
}
