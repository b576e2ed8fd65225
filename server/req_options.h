/* req_options.h — members of a request's body that are objects of options, lists of numbers or vectors; for req.c.
 * Each sets what it is called after in p->out, or adds faults.  Thread: any (pure). */
#pragma once
#include "server/req_json.h"

void req_set_merge(struct req_json *p, const char *ptr, const json_t *v);
void req_set_diversity(struct req_json *p, const char *ptr, const json_t *v);
void req_set_search(struct req_json *p, const char *ptr, const json_t *v);
void req_set_exclude_lists(struct req_json *p, const char *ptr, const json_t *v);
void req_set_seed(struct req_json *p, const char *ptr, const json_t *v);
void req_set_allow_degraded(struct req_json *p, const char *ptr, const json_t *v);
void req_set_items(struct req_json *p, const char *ptr, const json_t *v);   /* /v1/similar */
void req_set_vectors(struct req_json *p, const char *ptr, const json_t *v); /* /v1/search */
