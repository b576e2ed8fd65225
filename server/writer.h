/* writer.h — the thread on which changes of items wait for the disk, so that no thread that serves does.
 *   struct writer *w = writer_new(done);   writer_add(w, c);   ...   writer_free(w)
 * Changes are made in the order in which they came.  Thread: any; done is called on the writer's. */
#pragma once
#include "server/call.h"

struct writer;
typedef void writer_done_fn(struct call *c); /* the reply is written */
struct writer *writer_new(writer_done_fn *done);
void writer_free(struct writer *w); /* after what was added is done */
void writer_add(struct writer *w, struct call *c);
