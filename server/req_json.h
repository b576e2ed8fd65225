/* req_json.h — reading single JSON values of a request's body, shared by the parsers of its
 * parts (req.c, req_filter.c); no one else needs it.
 *   struct req_json p = { .a = arena, .f = &faults, .strict = true, .text = room };
 *   if (!req_read_id(&p, "/model", json, &id)) ...    a fault was added, at that pointer
 * A reader that returns a bool says whether it read the value; where not, it added a fault.
 * Texts are copied, nothing points into the body.  Thread: owner. */
#pragma once
#include "core/base/arena.h"
#include "core/data/items.h"
#include "server/fault.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct req_recommend;
struct req_json {
    struct req_recommend *out; /* what the members of the body set */
    struct arena *a;
    struct faults *f;
    bool strict;
    /* Where the next text goes.  Room for as many bytes as the body has, which is enough:
     * neither an unescaped string nor an integer printed again is longer than its source. */
    char *text;
};

const char *req_type_name(const json_t *v); /* "an array" */
void req_bad_type(struct req_json *p, const char *ptr, const char *want, const json_t *v);
/* A member that ptr's object should not have: false and a fault when strict.  known:
 * "a, b, c". */
bool req_unknown_member(struct req_json *p, const char *ptr, const char *key,
                        const char *known);
/* RFC 6901 pointers to a member and to an element of what `to` points to; of a key 60 bytes.  Not by snprintf: every event
 * of every history has one. */
void req_pointer_step(char *out, size_t n, const char *to, const char *key);
void req_pointer_index(char *out, size_t n, const char *to, size_t i);

/* The body as JSON; NULL and a fault where it is none.  json_decref it. */
json_t *req_open_body(struct faults *f, const char *body, size_t n);

/* Base64 (RFC 4648) of n digits, padding left out: out has room for 3 n / 4 bytes.  How many, or -1: not base64. */
int64_t req_base64(unsigned char *out, const char *s, size_t n);

/* Arena memory; NULL and a fault when it is full. */
void *req_take(struct req_json *p, size_t nb);

bool req_read_int(struct req_json *p, const char *ptr, const json_t *v, int32_t lo, int32_t hi,
                  int32_t *out);
bool req_read_bool(struct req_json *p, const char *ptr, const json_t *v, bool *out);
/* Index of the word among words "a|b", or -1 and a fault. */
int req_read_word(struct req_json *p, const char *ptr, const json_t *v, const char *words);
/* A string of 1 to LIMIT_ID_BYTES without NUL, or an integer written in decimal; what: "id",
 * for the fault. */
bool req_read_text(struct req_json *p, const char *ptr, const char *what, const json_t *v,
                   struct str *out);
bool req_read_id(struct req_json *p, const char *ptr, const json_t *v, struct str *out);
/* Every id of an array of at most `most`. */
bool req_read_ids(struct req_json *p, const char *ptr, const json_t *v, size_t most,
                  const struct str **out, int32_t *n_out);
/* A number as the shortest text that reads back as it; point: of a whole one with .0 behind it. */
bool req_real_text(struct req_json *p, double x, bool point, struct str *out);
