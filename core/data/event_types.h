/* event_types.h — which types of events are kept, and how much each counts: "view,cart=3,buy=5".  Types that are
 * not named are dropped; "*" names all others.
 *   struct event_types t;  event_types_parse(&t, "buy=5,*", &e);  float w = event_types_weight(&t, type);
 * Names are compared byte by byte.  Thread: any (pure); the text must outlive t. */
#pragma once
#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/data/text.h"

struct event_types {
    int n;
    struct {
        struct span name;
        float weight;
    } type[LIMIT_EVENT_TYPES];
    float others; /* weight of types that are not named; 0: dropped */
};

/* ERR_USAGE for an empty or repeated name, or a weight that is not above 0 and at most 1000. */
NODISCARD int event_types_parse(struct event_types *t, const char *text, struct err *e);
float event_types_weight(const struct event_types *t, struct span type); /* 0: dropped */
