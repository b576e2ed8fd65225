#include "core/num/mm16.h"
#include "core/base/err.h"
#include "core/base/mem.h"
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>
#include <string.h>

/* libgomp's; clang has no omp.h of its own */
int omp_get_max_threads(void);
void omp_set_num_threads(int n);

/* oneDNN makes code for every shape, a third of a millisecond: it is kept.  A primitive works in memory of the thread
 * that made it, so each worker has its own. */
struct primitive {
    struct mm16_shape shape; /* M = 0: an empty place */
    dnnl_primitive_t run;
    dnnl_memory_t a, b, c;
};

enum { PLACES = 4096 }; /* shapes of a training: row counts vary */

struct worker {
    struct primitive *place; /* [PLACES] by hash, the next free one */
    int n;
    dnnl_stream_t stream;
};

struct mm16 {
    dnnl_engine_t engine;
    struct worker *worker;
    int workers;
};

static void check(dnnl_status_t s, const char *what)
{
    REQUIRE(s == dnnl_success, "oneDNN: %s: status %d", what, (int)s);
}

struct mm16 *mm16_new(int workers)
{
    if (DNNL_VERSION_MAJOR != 2 ||
        (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) !=
            dnnl_cpu_isa_avx512_core_bf16)
        return NULL;
    struct mm16 *m = xcalloc(1, sizeof *m);
    m->workers = workers;
    m->worker = xcalloc((size_t)workers, sizeof *m->worker);
    check(dnnl_engine_create(&m->engine, dnnl_cpu, 0), "engine");
    for (int i = 0; i < workers; i++) {
        m->worker[i].place = xcalloc(PLACES, sizeof(struct primitive));
        check(dnnl_stream_create(&m->worker[i].stream, m->engine, dnnl_stream_default_flags),
              "stream");
    }
    return m;
}

static void primitive_free(struct primitive *p)
{
    if (!p->run) return;
    dnnl_primitive_destroy(p->run);
    dnnl_memory_destroy(p->a);
    dnnl_memory_destroy(p->b);
    dnnl_memory_destroy(p->c);
    *p = (struct primitive){ 0 };
}

static void forget(struct worker *w)
{
    for (int i = 0; i < PLACES; i++) primitive_free(&w->place[i]);
    w->n = 0;
}

void mm16_free(struct mm16 *m)
{
    if (!m) return;
    for (int i = 0; i < m->workers; i++) {
        forget(&m->worker[i]);
        free(m->worker[i].place);
        dnnl_stream_destroy(m->worker[i].stream);
    }
    dnnl_engine_destroy(m->engine);
    free(m->worker);
    free(m);
}

/* rows x cols, stored with stride ld, or the transpose of what is stored */
static dnnl_memory_desc_t matrix(int32_t rows, int32_t cols, int32_t ld, bool turned,
                                 dnnl_data_type_t type)
{
    const dnnl_dims_t size = { rows, cols };
    const dnnl_dims_t stride = { turned ? 1 : ld, turned ? ld : 1 };
    dnnl_memory_desc_t d;
    check(dnnl_memory_desc_init_by_strides(&d, 2, size, type, stride), "matrix");
    return d;
}

static void primitive_make(struct primitive *p, dnnl_engine_t engine,
                           const struct mm16_shape *s)
{
    const dnnl_memory_desc_t a = matrix(s->M, s->K, s->lda, s->ta, dnnl_bf16);
    const dnnl_memory_desc_t b = matrix(s->K, s->N, s->ldb, s->tb, dnnl_bf16);
    const dnnl_memory_desc_t c = matrix(s->M, s->N, s->ldc, false, dnnl_f32);
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t after;
    dnnl_matmul_desc_t op;
    dnnl_primitive_desc_t desc;
    check(dnnl_primitive_attr_create(&attr), "attributes");
    check(dnnl_post_ops_create(&after), "sum");
    if (s->add) check(dnnl_post_ops_append_sum(after, 1), "sum");
    check(dnnl_primitive_attr_set_post_ops(attr, after), "sum");
    check(dnnl_matmul_desc_init(&op, &a, &b, NULL, &c), "product");
    check(dnnl_primitive_desc_create(&desc, &op, attr, engine, NULL), "product");
    check(dnnl_primitive_create(&p->run, desc), "product");
    check(dnnl_memory_create(&p->a, &a, engine, DNNL_MEMORY_NONE), "matrix");
    check(dnnl_memory_create(&p->b, &b, engine, DNNL_MEMORY_NONE), "matrix");
    check(dnnl_memory_create(&p->c, &c, engine, DNNL_MEMORY_NONE), "matrix");
    dnnl_primitive_desc_destroy(desc);
    dnnl_post_ops_destroy(after);
    dnnl_primitive_attr_destroy(attr);
    p->shape = *s;
}

static bool same(const struct mm16_shape *a, const struct mm16_shape *b)
{
    return a->M == b->M && a->N == b->N && a->K == b->K && a->lda == b->lda &&
           a->ldb == b->ldb && a->ldc == b->ldc && a->ta == b->ta && a->tb == b->tb &&
           a->add == b->add;
}

static struct primitive *primitive_of(struct mm16 *m, int worker, const struct mm16_shape *s)
{
    struct worker *w = &m->worker[worker];
    uint32_t h = (uint32_t)s->M * 0x9e3779b1u ^ (uint32_t)s->N * 0x85ebca6bu ^
                 (uint32_t)s->K * 0xc2b2ae35u ^ (uint32_t)(s->ta * 4 + s->tb * 2 + s->add);
    h ^= h >> 15;
    if (w->n > PLACES / 2) forget(w);
    for (;; h++) {
        struct primitive *p = &w->place[h % PLACES];
        if (p->shape.M == 0) {
            primitive_make(p, m->engine, s);
            w->n++;
            return p;
        }
        if (same(&p->shape, s)) return p;
    }
}

void mm16_product(struct mm16 *m, int worker, const struct mm16_shape *s, float *c,
                  const bf16 *a, const bf16 *b)
{
    if (s->M == 0 || s->N == 0 || s->K == 0) return;
    /* One thread: the pool splits the work.  The setting is the calling thread's, others use OpenMP too. */
    const int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    const struct primitive *p = primitive_of(m, worker, s);
    check(dnnl_memory_set_data_handle(p->a, (void *)(uintptr_t)a), "a");
    check(dnnl_memory_set_data_handle(p->b, (void *)(uintptr_t)b), "b");
    check(dnnl_memory_set_data_handle(p->c, c), "c");
    const dnnl_exec_arg_t arg[] = { { DNNL_ARG_SRC, p->a },
                                    { DNNL_ARG_WEIGHTS, p->b },
                                    { DNNL_ARG_DST, p->c } };
    check(dnnl_primitive_execute(p->run, m->worker[worker].stream, 3, arg), "run");
    omp_set_num_threads(threads);
}
