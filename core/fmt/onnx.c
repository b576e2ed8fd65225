/* A message is a row of fields, in any order: a key (number << 3 | wire type), then a varint, four bytes, or a length
 * and as many bytes, which may be a message again. */
#include "core/fmt/onnx.h"
#include "core/base/buf.h"
#include "core/base/io.h"
#include "core/base/mem.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { VARINT = 0, BYTES = 2, FOUR = 5 };
enum { IR_VERSION = 8, OPSET = 17 };
/* Numbers of onnx.proto */
enum { MODEL_IR = 1, MODEL_PRODUCER = 2, MODEL_GRAPH = 7, MODEL_OPSET = 8, MODEL_META = 14 };
enum { GRAPH_NODE = 1, GRAPH_NAME = 2, GRAPH_CONST = 5, GRAPH_INPUT = 11, GRAPH_OUTPUT = 12 };
enum { NODE_INPUT = 1, NODE_OUTPUT = 2, NODE_OP = 4, NODE_ATTR = 5 };
enum { ATTR_NAME = 1, ATTR_F = 2, ATTR_I = 3, ATTR_INTS = 8, ATTR_TYPE = 20 };
enum { TYPE_FLOAT = 1, TYPE_INT = 2, TYPE_INTS = 7 };
enum { TENSOR_DIMS = 1, TENSOR_TYPE = 2, TENSOR_NAME = 8, TENSOR_RAW = 9 };

struct onnx {
    struct buf model, graph; /* the model without its graph */
    struct buf attrs;        /* of the next node, as its fields */
};

static void put_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) buf_putc(b, (char)(v | 0x80));
    buf_putc(b, (char)v);
}

static void put_key(struct buf *b, int field, int wire)
{
    put_varint(b, (uint64_t)field << 3 | (uint64_t)wire);
}

static void put_int(struct buf *b, int field, int64_t v)
{
    put_key(b, field, VARINT);
    put_varint(b, (uint64_t)v);
}

static void put_bytes(struct buf *b, int field, const void *p, size_t n)
{
    put_key(b, field, BYTES);
    put_varint(b, n);
    buf_put(b, p, n);
}

static void put_text(struct buf *b, int field, const char *s)
{
    put_bytes(b, field, s, strlen(s));
}

/* Appends m as a field and empties it. */
static void put_message(struct buf *b, int field, struct buf *m)
{
    put_bytes(b, field, m->data, m->len);
    buf_free(m);
}

struct onnx *onnx_new(const char *name)
{
    struct onnx *o = xcalloc(1, sizeof *o);
    struct buf opset = { 0 };
    o->graph.cap_max = o->model.cap_max = INT32_MAX;
    put_int(&o->model, MODEL_IR, IR_VERSION);
    put_text(&o->model, MODEL_PRODUCER, "intent");
    put_text(&opset, 1, "");
    put_int(&opset, 2, OPSET);
    put_message(&o->model, MODEL_OPSET, &opset);
    put_text(&o->graph, GRAPH_NAME, name);
    return o;
}

void onnx_free(struct onnx *o)
{
    buf_free(&o->model);
    buf_free(&o->graph);
    buf_free(&o->attrs);
    free(o);
}

void onnx_meta(struct onnx *o, const char *key, const char *value)
{
    struct buf entry = { 0 };
    put_text(&entry, 1, key);
    put_text(&entry, 2, value);
    put_message(&o->model, MODEL_META, &entry);
}

/* ValueInfoProto { name = 1, type = 2 { tensor_type = 1 { elem_type = 1, shape = 2 { dim = 1 { value = 1, param = 2 } } } } } */
static void put_value(struct onnx *o, int field, const char *name, enum onnx_type type,
                      const char *const *dims)
{
    struct buf shape = { 0 }, tensor = { 0 }, kind = { 0 }, value = { 0 };
    for (; *dims; dims++) {
        struct buf dim = { 0 };
        if (isdigit((unsigned char)**dims))
            put_int(&dim, 1, strtoll(*dims, NULL, 10));
        else
            put_text(&dim, 2, *dims);
        put_message(&shape, 1, &dim);
    }
    put_int(&tensor, 1, type);
    put_message(&tensor, 2, &shape);
    put_message(&kind, 1, &tensor);
    put_text(&value, 1, name);
    put_message(&value, 2, &kind);
    put_message(&o->graph, field, &value);
}

void onnx_input(struct onnx *o, const char *name, enum onnx_type type, const char *const *dims)
{
    put_value(o, GRAPH_INPUT, name, type, dims);
}

void onnx_output(struct onnx *o, const char *name, enum onnx_type type, const char *const *dims)
{
    put_value(o, GRAPH_OUTPUT, name, type, dims);
}

/* The bytes are written once: a table may be large. */
static void put_tensor(struct onnx *o, const char *name, enum onnx_type type, const void *x,
                       size_t size, int32_t rank, const int64_t *dims)
{
    struct buf t = { 0 }, raw = { 0 };
    size_t nb = size;
    for (int32_t i = 0; i < rank; i++) {
        put_int(&t, TENSOR_DIMS, dims[i]);
        nb *= (size_t)dims[i];
    }
    put_int(&t, TENSOR_TYPE, type);
    put_text(&t, TENSOR_NAME, name);
    put_key(&raw, TENSOR_RAW, BYTES);
    put_varint(&raw, nb);
    put_key(&o->graph, GRAPH_CONST, BYTES);
    put_varint(&o->graph, t.len + raw.len + nb);
    buf_put(&o->graph, t.data, t.len);
    buf_put(&o->graph, raw.data, raw.len);
    buf_put(&o->graph, x, nb);
    buf_free(&t);
    buf_free(&raw);
}

void onnx_floats(struct onnx *o, const char *name, const float *x, int32_t rank,
                 const int64_t *dims)
{
    put_tensor(o, name, ONNX_F32, x, sizeof *x, rank, dims);
}

void onnx_ints(struct onnx *o, const char *name, const int64_t *x, int32_t rank,
               const int64_t *dims)
{
    put_tensor(o, name, ONNX_I64, x, sizeof *x, rank, dims);
}

void onnx_attr_int(struct onnx *o, const char *name, int64_t v)
{
    struct buf a = { 0 };
    put_text(&a, ATTR_NAME, name);
    put_int(&a, ATTR_I, v);
    put_int(&a, ATTR_TYPE, TYPE_INT);
    put_message(&o->attrs, NODE_ATTR, &a);
}

void onnx_attr_ints(struct onnx *o, const char *name, const int64_t *v, int32_t n)
{
    struct buf a = { 0 };
    put_text(&a, ATTR_NAME, name);
    for (int32_t i = 0; i < n; i++) put_int(&a, ATTR_INTS, v[i]);
    put_int(&a, ATTR_TYPE, TYPE_INTS);
    put_message(&o->attrs, NODE_ATTR, &a);
}

void onnx_attr_float(struct onnx *o, const char *name, float v)
{
    struct buf a = { 0 };
    put_text(&a, ATTR_NAME, name);
    put_key(&a, ATTR_F, FOUR);
    buf_put(&a, &v, sizeof v);
    put_int(&a, ATTR_TYPE, TYPE_FLOAT);
    put_message(&o->attrs, NODE_ATTR, &a);
}

static void put_names(struct buf *b, int field, const char *names)
{
    for (const char *s = names; *s;) {
        size_t n = strcspn(s, " ");
        put_bytes(b, field, s, n);
        s += n + (s[n] == ' ');
    }
}

void onnx_node(struct onnx *o, const char *op, const char *outputs, const char *inputs)
{
    struct buf node = { 0 };
    put_names(&node, NODE_INPUT, inputs);
    put_names(&node, NODE_OUTPUT, outputs);
    put_text(&node, NODE_OP, op);
    buf_put(&node, o->attrs.data, o->attrs.len);
    buf_clear(&o->attrs);
    put_message(&o->graph, GRAPH_NODE, &node);
}

int onnx_write(const struct onnx *o, const char *path, struct err *e)
{
    struct buf key = { 0 };
    if (o->graph.failed || o->model.failed || o->graph.len + o->model.len > INT32_MAX - 16)
        return err_set(e, ERR_LIMIT,
                       "%s: passes 2 GiB, the most that an ONNX file may have: export "
                       "safetensors or npy",
                       path);
    put_key(&key, MODEL_GRAPH, BYTES);
    put_varint(&key, o->graph.len);
    const struct io_piece piece[] = { { o->model.data, o->model.len },
                                      { key.data, key.len },
                                      { o->graph.data, o->graph.len } };
    int rc = io_write_pieces(path, piece, 3, e);
    buf_free(&key);
    return rc;
}
