#include "models/onnx_model.h"
#include "core/base/buf.h"
#include "core/num/seqpack.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct graph {
    struct onnx *o;
    const struct model *m;
    const struct model_cfg *c;
    char at[32]; /* what stands before names that begin with '.': "layers.0" */
    char x[64];  /* the newest states [batch, events, D] */
};

/* ---- helpers ---- */

static void expand(struct buf *out, const struct graph *g, const char *names)
{
    for (const char *s = names; *s; s++) {
        if (*s == '.' && (s == names || s[-1] == ' ')) buf_puts(out, g->at);
        buf_putc(out, *s);
    }
}

static void node(struct graph *g, const char *op, const char *outputs, const char *inputs)
{
    struct buf out = { 0 }, in = { 0 };
    expand(&out, g, outputs);
    expand(&in, g, inputs);
    onnx_node(g->o, op, out.data, in.data);
    buf_free(&out);
    buf_free(&in);
}

/* The same with the states as first input. */
static void node_x(struct graph *g, const char *op, const char *outputs, const char *more)
{
    char in[160];
    snprintf(in, sizeof in, "%s%s%s", g->x, *more ? " " : "", more);
    node(g, op, outputs, in);
}

static void norm(struct graph *g, const char *y, const char *x, const char *name)
{
    char in[160];
    snprintf(in, sizeof in, "%s %s.weight %s.bias", x, name, name);
    onnx_attr_int(g->o, "axis", -1);
    onnx_attr_float(g->o, "epsilon", 1e-12f);
    node(g, "LayerNormalization", y, in);
}

static void softmax(struct graph *g, const char *y, const char *x, int64_t axis)
{
    onnx_attr_int(g->o, "axis", axis);
    node(g, "Softmax", y, x);
}

static void transpose(struct graph *g, const char *y, const char *x, const int64_t *perm,
                      int32_t n)
{
    onnx_attr_ints(g->o, "perm", perm, n);
    node(g, "Transpose", y, x);
}

static void scalar(struct graph *g, const char *name, float v)
{
    onnx_floats(g->o, name, &v, 0, NULL);
}

static void ints(struct graph *g, const char *name, int64_t n, const int64_t *v)
{
    onnx_ints(g->o, name, v, 1, &n);
}

/* ---- constants ---- */

/* Weights under their names; what is added to or scales rows is a vector.  Label sequences' defaults are not used. */
static void put_weights(struct graph *g)
{
    const struct params *ps = model_params(g->m);
    for (int32_t i = 0; i < params_count(ps); i++) {
        const struct param *p = params_at(ps, i);
        const int64_t dims[] = { p->t.rows, p->t.cols };
        size_t n = strlen(p->name);
        bool vector = strstr(p->name, "norm") || strcmp(p->name + n - 4, "bias") == 0;
        if (strcmp(p->name, "interest.beta_out") == 0) continue;
        onnx_floats(g->o, p->name, p->t.x, vector ? 1 : 2, vector ? dims + 1 : dims);
    }
}

/* Only what has a use: runtimes warn of the rest. */
static void put_constants(struct graph *g)
{
    static const int64_t zero = 0, one = 1;
    onnx_ints(g->o, "zero", &zero, 0, NULL);
    onnx_ints(g->o, "one", &one, 0, NULL);
    ints(g, "axis_1", 1, (int64_t[]){ 1 });
    if (g->c->layers > 0 || g->c->interests > 0) scalar(g, "never", -1e30f);
}

static void put_block_constants(struct graph *g)
{
    const int64_t D = g->c->width, H = g->c->heads;
    ints(g, "axes_1_2", 2, (int64_t[]){ 1, 2 });
    ints(g, "thirds", 3, (int64_t[]){ D, D, D });
    ints(g, "by_head", 4, (int64_t[]){ 0, 0, H, D / H });
    ints(g, "together", 3, (int64_t[]){ 0, 0, D });
    scalar(g, "head_scale", 1.0f / sqrtf((float)D / (float)H));
    if (g->c->activation != 0) return;
    scalar(g, "half", 0.5f);
    scalar(g, "unit", 1);
    scalar(g, "inverse_root_2", 0.70710678f);
}

/* ---- the encoder ---- */

/* slot [T] = 0 1 2 ..; length [B,1]; event [B,T]: the slot holds one; row [B,T]; last [B,1] */
static void slots(struct graph *g)
{
    node(g, "Shape", "shape", "items");
    node(g, "Gather", "n_slots", "shape one");
    node(g, "Range", "slot", "zero n_slots one");
    node(g, "Unsqueeze", "length", "lengths axis_1");
    node(g, "Less", "event", "slot length");
    node(g, "Where", "row", "event items zero");
    node(g, "Sub", "last", "length one");
}

/* position: [T], or [B,T] when the last event has the fixed one; slots behind it get any. */
static void positions(struct graph *g)
{
    if (g->c->positions == POS_FIRST) {
        node(g, "Identity", "position", "slot");
        return;
    }
    ints(g, "max_len", 1, (int64_t[]){ g->c->max_len });
    ints(g, "last_position", 1, (int64_t[]){ g->c->max_len - 1 });
    node(g, "Sub", "first_position", "max_len length");
    node(g, "Add", "any_position", "first_position slot");
    node(g, "Min", "position", "any_position last_position");
}

/* may [B,1,1 or T,T]: query i attends key j */
static void mask(struct graph *g)
{
    node(g, "Unsqueeze", "key", "event axes_1_2");
    if (!g->c->causal) {
        node(g, "Identity", "may", "key");
        return;
    }
    node(g, "Unsqueeze", "query_slot", "slot axis_1");
    node(g, "Less", "later", "query_slot slot");
    node(g, "Not", "not_later", "later");
    node(g, "And", "may", "key not_later");
}

static void embed(struct graph *g)
{
    node(g, "Gather", "item_vectors", "item.weight row");
    node(g, "Gather", "position_vectors", "pos.weight position");
    node(g, "Add", "embedded", "item_vectors position_vectors");
    norm(g, "states", "embedded", "emb_norm");
    snprintf(g->x, sizeof g->x, "states");
}

static void attention(struct graph *g)
{
    static const int64_t heads_first[] = { 0, 2, 1, 3 }, keys_last[] = { 0, 2, 3, 1 };
    node_x(g, "MatMul", ".qkv_product", ".attn.qkv.weight");
    node(g, "Add", ".qkv", ".qkv_product .attn.qkv.bias");
    onnx_attr_int(g->o, "axis", -1);
    node(g, "Split", ".q .k .v", ".qkv thirds");
    node(g, "Reshape", ".q_heads", ".q by_head");
    node(g, "Reshape", ".k_heads", ".k by_head");
    node(g, "Reshape", ".v_heads", ".v by_head");
    transpose(g, ".query", ".q_heads", heads_first, 4);
    transpose(g, ".key", ".k_heads", keys_last, 4);
    transpose(g, ".value", ".v_heads", heads_first, 4);
    node(g, "MatMul", ".products", ".query .key");
    node(g, "Mul", ".scaled", ".products head_scale");
    node(g, "Where", ".scores", "may .scaled never");
    softmax(g, ".attention", ".scores", -1);
    node(g, "MatMul", ".context_heads", ".attention .value");
    transpose(g, ".context_parts", ".context_heads", heads_first, 4);
    node(g, "Reshape", ".context", ".context_parts together");
    node(g, "MatMul", ".out_product", ".context .attn.out.weight");
    node(g, "Add", ".out", ".out_product .attn.out.bias");
    node_x(g, "Add", ".attended", ".out");
    norm(g, ".middle", ".attended", ".attn_norm");
}

static void feed_forward(struct graph *g)
{
    node(g, "MatMul", ".up_product", ".middle .ffn.up.weight");
    node(g, "Add", ".up", ".up_product .ffn.up.bias");
    if (g->c->activation == 0) { /* x (1 + erf(x / sqrt 2)) / 2 */
        node(g, "Mul", ".up_root", ".up inverse_root_2");
        node(g, "Erf", ".erf", ".up_root");
        node(g, "Add", ".erf_1", ".erf unit");
        node(g, "Mul", ".up_half", ".up half");
        node(g, "Mul", ".active", ".up_half .erf_1");
    } else {
        node(g, "Relu", ".active", ".up");
    }
    node(g, "MatMul", ".down_product", ".active .ffn.down.weight");
    node(g, "Add", ".down", ".down_product .ffn.down.bias");
    node(g, "Add", ".fed", ".middle .down");
    norm(g, ".states", ".fed", ".ffn_norm");
    snprintf(g->x, sizeof g->x, "%s.states", g->at);
}

/* ---- heads ---- */

/* y [B,D]: the rows of x [B,T,D] at the last events */
static void last_of(struct graph *g, const char *y, const char *x)
{
    char in[96];
    snprintf(in, sizeof in, "%s last", x);
    onnx_attr_int(g->o, "batch_dims", 1);
    node(g, "GatherND", y, in);
}

static void single(struct graph *g)
{
    last_of(g, "last_state", g->x);
    node(g, "Unsqueeze", "interests", "last_state axis_1");
}

/* Importance p_i [B,T,1], equations of core/nn/interest.h. */
static void importance(struct graph *g)
{
    node(g, "Gather", ".alpha", ".pos position");
    node_x(g, "Add", ".placed", ".alpha");
    norm(g, ".kt", ".placed", ".norm3");
    node(g, "MatMul", ".kt_product", ".kt .ffn.weight");
    node(g, "Add", ".kt_linear", ".kt_product .ffn.bias");
    node(g, "Relu", ".kt_active", ".kt_linear");
    node(g, "Add", ".k", ".kt .kt_active");
    last_of(g, ".placed_last", ".placed");
    node(g, "Add", ".biased_last", ".placed_last .query_bias");
    norm(g, ".q", ".biased_last", ".norm4");
    node(g, "Unsqueeze", ".q_column", ".q axis_2");
    node(g, "MatMul", ".products", ".k .q_column");
    node(g, "Mul", ".scaled", ".products width_scale");
    node(g, "Unsqueeze", ".event", "event axis_2");
    node(g, "Where", ".scores", ".event .scaled never");
    softmax(g, ".importance", ".scores", 1);
}

static void interests(struct graph *g)
{
    snprintf(g->at, sizeof g->at, "interest");
    scalar(g, "width_scale", 1.0f / sqrtf((float)g->c->width));
    ints(g, "axis_2", 1, (int64_t[]){ 2 });
    norm(g, ".item", g->x, ".norm1");
    norm(g, ".proto", ".prototypes", ".norm2");
    transpose(g, ".proto_columns", ".proto", (int64_t[]){ 1, 0 }, 2);
    node(g, "MatMul", ".cosines", ".item .proto_columns");
    node(g, "Mul", ".cluster_scores", ".cosines width_scale");
    softmax(g, ".assign", ".cluster_scores", -1);
    importance(g);
    node(g, "Mul", ".share", ".assign .importance");
    onnx_attr_int(g->o, "keepdims", 0);
    node(g, "ReduceSum", "shares", ".share axis_1");
    transpose(g, ".share_rows", ".share", (int64_t[]){ 0, 2, 1 }, 3);
    char in[96];
    snprintf(in, sizeof in, ".share_rows %s", g->x);
    node(g, "MatMul", ".mix", in);
    node(g, "Add", ".biased", ".mix .beta_in");
    norm(g, "interests", ".biased", ".norm5");
}

void onnx_model(struct onnx *o, const struct model *m)
{
    struct graph g = { .o = o, .m = m, .c = model_config(m) };
    char K[16], D[16];
    snprintf(K, sizeof K, "%d", model_interests(m));
    snprintf(D, sizeof D, "%d", g.c->width);
    onnx_input(o, "items", ONNX_I64, (const char *[]){ "batch", "events", NULL });
    onnx_input(o, "lengths", ONNX_I64, (const char *[]){ "batch", NULL });
    onnx_output(o, "interests", ONNX_F32, (const char *[]){ "batch", K, D, NULL });
    put_weights(&g);
    put_constants(&g);
    slots(&g);
    positions(&g);
    embed(&g);
    if (g.c->layers > 0) {
        put_block_constants(&g);
        mask(&g);
    }
    for (int32_t i = 0; i < g.c->layers; i++) {
        snprintf(g.at, sizeof g.at, "layers.%d", i);
        attention(&g);
        feed_forward(&g);
    }
    if (g.c->interests == 0) {
        single(&g);
        return;
    }
    onnx_output(o, "shares", ONNX_F32, (const char *[]){ "batch", K, NULL });
    interests(&g);
}
