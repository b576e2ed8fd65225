/* item_ssl.h — what the objective draws for a batch, two of them; tests give their own. */
#pragma once
#include "core/nn/tower.h"

/* A view of n items: ids EMBED_MASK where the id is masked, a bag of each field, empty where that is masked. */
struct item_view {
    int32_t n;
    const int32_t *ids;
    const struct item_field *bag; /* [fields] */
};
