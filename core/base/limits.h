/* limits.h — every cap on what comes from outside, in one place. */
#pragma once
#include <stdint.h>

/* bytes a packed data file may have unpacked */
#define LIMIT_UNPACKED_BYTES ((size_t)64 << 30)
/* events that are read into a data set: what is trained on is counted in 31 bits */
#define LIMIT_EVENTS ((int64_t)INT32_MAX)

enum {
    LIMIT_ID_BYTES = 1024,       /* an external item or user id */
    LIMIT_TITLE_BYTES = 4096,    /* an item's title */
    LIMIT_LINE_BYTES = 64 << 20, /* a line of a data file */
    LIMIT_ITEMS = 1 << 28,       /* items of a data set */
    LIMIT_USERS = 1 << 30,       /* users of a data set */
    LIMIT_FIELDS = 32,           /* attribute fields of a catalogue */
    LIMIT_FIELD_NAME = 47,       /* bytes of a field's name */
    LIMIT_EVENT_TYPES = 64,      /* types named by --events */
    LIMIT_FEATURES = 64,         /* features of a rank model */
    LIMIT_BUCKETS = 1 << 26,     /* hash buckets of a feature */
    LIMIT_VOCABULARY =
        1 << 16,          /* values that a recipe lists for a feature; boundaries of a number */
    LIMIT_TAGS = 128,     /* values of one cell that are read; the rest is left out */
    LIMIT_SEQ_LEN = 4096, /* positions of an encoder, L */
    LIMIT_WIDTH = 4096,   /* D */
    LIMIT_LAYERS = 64,
    LIMIT_INTERESTS = 64,             /* K */
    LIMIT_JSON_FILE_BYTES = 64 << 20, /* manifest, safetensors header */
    LIMIT_TENSORS = 65536,            /* tensors of one file */
    LIMIT_PICKLE_BYTES = 256 << 20,   /* memory that the tree of a pickle may take */
    LIMIT_TENSOR_NAME = 256,
    LIMIT_BODY_BYTES = 2 << 20,    /* HTTP request body */
    LIMIT_HISTORY = 1000,          /* events of one request; the newest are kept */
    LIMIT_HISTORY_PARSED = 100000, /* elements of `history` that are read at all */
    LIMIT_EXCLUDE = 10000,         /* exclude_items of one request */
    LIMIT_RESULTS = 1000,          /* `limit` */
    LIMIT_CANDIDATES = 4000,       /* candidates_per_interest */
    LIMIT_BATCH_ROWS = 128,        /* requests of one POST /v1/recommend/batch */
    LIMIT_EF = 4096,               /* width of one search, lists or nodes */
    LIMIT_EXCLUDE_LISTS = 64,      /* exclude_lists of one request */
    LIMIT_RANK = 1000,             /* candidates of one POST /v1/rank */
    LIMIT_FILTER_CLAUSES = 64,     /* of must, and of must_not */
    LIMIT_FILTER_VALUES = 10000,   /* values of one clause */
    LIMIT_MODEL_NAME = 255,        /* bytes of a model's name: a directory's */
    LIMIT_SPACE = 64,      /* bytes that name the space of a vector: a sha256 in hexadecimal */
    LIMIT_DELTA = 200000,  /* items of a model beside its index: they are searched one by one */
    LIMIT_BATCH = 10000,   /* changes of one POST /v1/items/batch; ids of one lookup */
    LIMIT_LISTS = 1000,    /* blocklists */
    LIMIT_LIST_NAME = 128, /* bytes of a blocklist's name */
    LIMIT_LIST_IDS = 200000, /* ids of a blocklist */
    LIMIT_REQUEST_ID = 128,
    LIMIT_REPLY_BYTES = 16 << 20,
};

/* Of vectors that come from outside: their products and norms stay finite. */
#define LIMIT_VECTOR_NUMBER 1e15f
