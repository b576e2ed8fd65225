/* A pickle is a program for a stack machine.  This one builds values and names; it has no way to import or call. */
#include "core/fmt/pickle.h"
#include "core/base/arena.h"
#include "core/base/limits.h"
#include <string.h>

struct vm {
    const uint8_t *begin, *p, *end;
    struct pickle *out;
    struct pval **stack, **memo;
    size_t n_stack, cap_stack, n_memo, cap_memo, cap_persids;
    bool done;
};

/* ---- memory ---- */

static int get_mem(void **out, struct vm *vm, size_t nb, struct err *e)
{
    *out = arena_try(vm->out->mem, nb);
    if (*out) return 0;
    return err_set(e, ERR_LIMIT, "the pickle takes more than %d bytes of memory: not weights?",
                   LIMIT_PICKLE_BYTES);
}

/* Room for element n of an array of pointers. */
static int grow(void *array, struct vm *vm, size_t n, size_t *cap, struct err *e)
{
    void **old = *(void ***)array, *fresh;
    if (n < *cap) return 0;
    size_t want = *cap ? *cap : 4;
    while (want <= n) want *= 2;
    TRY(get_mem(&fresh, vm, want * sizeof *old, e));
    memset(fresh, 0, want * sizeof *old);
    if (old) memcpy(fresh, old, *cap * sizeof *old);
    *(void ***)array = fresh;
    *cap = want;
    return 0;
}

static int push(struct vm *vm, struct pval v, struct err *e)
{
    void *at;
    TRY(get_mem(&at, vm, sizeof v, e));
    memcpy(at, &v, sizeof v);
    TRY(grow(&vm->stack, vm, vm->n_stack, &vm->cap_stack, e));
    vm->stack[vm->n_stack++] = at;
    return 0;
}

static int append(struct vm *vm, struct pval *to, struct pval *v, struct err *e)
{
    size_t cap = (size_t)to->cap;
    TRY(grow(&to->at, vm, (size_t)to->n, &cap, e));
    to->cap = (int32_t)cap;
    to->at[to->n++] = v;
    return 0;
}

/* ---- the bytes and the stack ---- */

static int take(const uint8_t **out, struct vm *vm, uint64_t n, struct err *e)
{
    *out = vm->p;
    if (n > (size_t)(vm->end - vm->p))
        return err_set(e, ERR_FORMAT, "the pickle ends in the middle: file truncated?");
    vm->p += n;
    return 0;
}

/* An unsigned number of nb <= 8 bytes. */
static int take_le(uint64_t *out, struct vm *vm, size_t nb, struct err *e)
{
    const uint8_t *p;
    TRY(take(&p, vm, nb, e));
    *out = 0;
    for (size_t i = nb; i-- > 0;) *out = *out << 8 | p[i];
    return 0;
}

static int take_line(const char **out, size_t *len, struct vm *vm, struct err *e)
{
    const uint8_t *nl = memchr(vm->p, '\n', (size_t)(vm->end - vm->p));
    *out = (const char *)vm->p;
    *len = nl ? (size_t)(nl - vm->p) : 0;
    if (!nl) return err_set(e, ERR_FORMAT, "the pickle ends in the middle of a name");
    vm->p = nl + 1;
    return 0;
}

static int pop(struct pval **out, struct vm *vm, struct err *e)
{
    if (vm->n_stack == 0 || vm->stack[vm->n_stack - 1]->kind == PICKLE_MARK)
        return err_set(e, ERR_FORMAT, "byte %zu of the pickle: its stack is empty",
                       (size_t)(vm->p - vm->begin));
    *out = vm->stack[--vm->n_stack];
    return 0;
}

static int peek(struct pval **out, struct vm *vm, struct err *e)
{
    TRY(pop(out, vm, e));
    vm->n_stack++;
    return 0;
}

/* What lies above the newest mark, which goes away with it; valid until the next push. */
static int pop_mark(struct pval ***out, size_t *n, struct vm *vm, struct err *e)
{
    size_t at = vm->n_stack;
    while (at > 0 && vm->stack[at - 1]->kind != PICKLE_MARK) at--;
    if (at == 0)
        return err_set(e, ERR_FORMAT, "byte %zu of the pickle: no mark on its stack",
                       (size_t)(vm->p - vm->begin));
    *n = vm->n_stack - at;
    *out = vm->stack + at;
    vm->n_stack = at - 1;
    return 0;
}

/* ---- names ---- */

/* Modules of Python's library with which code is run or loaded.  Nothing here is ever run, so nobody's safety hangs on
 * the list: it is there to tell what the file is. */
static const char *const code_modules[] = {
    "os",     "posix",  "nt",      "subprocess", "sys",        "pty",        "runpy",
    "imp",    "code",   "codeop",  "importlib",  "ctypes",     "marshal",    "shutil",
    "socket", "pickle", "_pickle", "cPickle",    "webbrowser", "timeit",     "pdb",
    "bdb",    "types",  "signal",  "commands",   "builtins",   "__builtin__"
};
/* Of those modules, what ordinary data has: types, and getattr, by which Python 3.11 saves enumerations. */
static const char *const data_names[] = {
    "set",      "frozenset", "list",    "dict",    "tuple",           "int",
    "float",    "bool",      "complex", "str",     "bytes",           "bytearray",
    "slice",    "range",     "object",  "getattr", "SimpleNamespace", "PathLike",
    "NoneType", "unicode",   "long"
};

static bool listed(const char *const *list, size_t n, const char *s, size_t len)
{
    for (size_t i = 0; i < n; i++)
        if (strlen(list[i]) == len && memcmp(list[i], s, len) == 0) return true;
    return false;
}

static bool runs_code(const char *module, size_t n_module, const char *name, size_t n_name)
{
    const char *dot = memchr(module, '.', n_module); /* importlib.util is importlib */
    size_t top = dot ? (size_t)(dot - module) : n_module;
    return listed(code_modules, sizeof code_modules / sizeof *code_modules, module, top) &&
           !listed(data_names, sizeof data_names / sizeof *data_names, name, n_name);
}

static bool has_keys(const struct pval *v)
{
    return v->kind == PICKLE_DICT || v->kind == PICKLE_CALL;
}

/* The key of the dictionary whose value is being built, the innermost one; NULL: none near the top of the stack. */
static const struct pval *key_at_work(const struct vm *vm)
{
    enum { NEAR = 1000 }; /* a message is not worth looking through millions */
    const size_t end = vm->n_stack > NEAR ? vm->n_stack - NEAR : 0;
    for (size_t i = vm->n_stack; i-- > end + 1;) {
        const struct pval *v = vm->stack[i];
        size_t mark = i;
        if (v->kind != PICKLE_STR) continue;
        if (has_keys(vm->stack[i - 1])) return v; /* SETITEM */
        while (mark > end && vm->stack[mark]->kind != PICKLE_MARK) mark--;
        if (mark > end && has_keys(vm->stack[mark - 1]) && (i - mark) % 2 == 1) return v;
    }
    return NULL;
}

static int refuse_code(const struct vm *vm, const char *name, struct err *e)
{
    const struct pval *key = key_at_work(vm);
    err_set(e, ERR_FORMAT,
            "%s: this file wants to run code, and none of it was run; get the weights from "
            "somebody you trust, saved as a state dict",
            name);
    if (key) err_ctx(e, "key '%.*s'", (int)(key->len < 100 ? key->len : 100), key->str);
    return ERR_FORMAT;
}

static int push_global(struct vm *vm, const char *module, size_t n_module, const char *name,
                       size_t n_name, struct err *e)
{
    void *mem;
    if (n_module == 0 || n_name == 0 || n_module + n_name > LIMIT_TENSOR_NAME ||
        memchr(module, '\0', n_module) || memchr(name, '\0', n_name))
        return err_set(e, ERR_FORMAT,
                       "byte %zu of the pickle: a class's name has %zu bytes, at most %d",
                       (size_t)(vm->p - vm->begin), n_module + n_name, LIMIT_TENSOR_NAME);
    TRY(get_mem(&mem, vm, n_module + n_name + 2, e));
    char *s = mem;
    memcpy(s, module, n_module);
    s[n_module] = '.';
    memcpy(s + n_module + 1, name, n_name);
    s[n_module + n_name + 1] = '\0';
    if (runs_code(module, n_module, name, n_name)) return refuse_code(vm, s, e);
    return push(
        vm, (struct pval){ .kind = PICKLE_GLOBAL, .str = s, .len = n_module + n_name + 1 }, e);
}

static int op_global(struct vm *vm, struct err *e)
{
    const char *module, *name;
    size_t n_module, n_name;
    TRY(take_line(&module, &n_module, vm, e));
    TRY(take_line(&name, &n_name, vm, e));
    return push_global(vm, module, n_module, name, n_name, e);
}

static int op_stack_global(struct vm *vm, struct err *e)
{
    struct pval *name, *module;
    TRY(pop(&name, vm, e));
    TRY(pop(&module, vm, e));
    if (name->kind != PICKLE_STR || module->kind != PICKLE_STR)
        return err_set(e, ERR_FORMAT, "byte %zu of the pickle: a class's name is not text",
                       (size_t)(vm->p - vm->begin));
    return push_global(vm, module->str, module->len, name->str, name->len, e);
}

/* ---- values ---- */

static int push_int(struct vm *vm, int64_t i, struct err *e)
{
    return push(vm, (struct pval){ .kind = PICKLE_INT, .i = i }, e);
}

/* A number of nb bytes, unsigned unless it has four, as pickle has it. */
static int op_int(struct vm *vm, size_t nb, struct err *e)
{
    uint64_t v;
    TRY(take_le(&v, vm, nb, e));
    return push_int(vm, nb == 4 ? (int32_t)(uint32_t)v : (int64_t)v, e);
}

/* Two's complement of any length. */
static int op_long(struct vm *vm, size_t nb_len, struct err *e)
{
    uint64_t len, v = 0;
    const uint8_t *p;
    TRY(take_le(&len, vm, nb_len, e));
    TRY(take(&p, vm, len, e));
    if (len > 8)
        return push(
            vm,
            (struct pval){ .kind = PICKLE_LONG, .str = (const char *)p, .len = (size_t)len },
            e);
    if (len > 0 && p[len - 1] & 0x80) v = ~(uint64_t)0;
    for (uint64_t i = len; i-- > 0;) v = v << 8 | p[i];
    return push_int(vm, (int64_t)v, e);
}

static int op_float(struct vm *vm, struct err *e)
{
    const uint8_t *p;
    uint64_t bits = 0;
    double f;
    TRY(take(&p, vm, 8, e));
    for (int i = 0; i < 8; i++) bits = bits << 8 | p[i];
    memcpy(&f, &bits, sizeof f);
    return push(vm, (struct pval){ .kind = PICKLE_FLOAT, .f = f }, e);
}

static int op_text(struct vm *vm, enum pickle_kind kind, size_t nb_len, struct err *e)
{
    uint64_t len;
    const uint8_t *p;
    TRY(take_le(&len, vm, nb_len, e));
    TRY(take(&p, vm, len, e));
    return push(vm, (struct pval){ .kind = kind, .str = (const char *)p, .len = (size_t)len },
                e);
}

/* The newest n values as one. */
static int op_tuple(struct vm *vm, size_t n, struct err *e)
{
    struct pval t = { .kind = PICKLE_TUPLE }, *v;
    for (size_t i = 0; i < n; i++) {
        TRY(peek(&v, vm, e));
        vm->n_stack--;
    }
    for (size_t i = 0; i < n; i++) TRY(append(vm, &t, vm->stack[vm->n_stack + i], e));
    return push(vm, t, e);
}

static int op_marked(struct vm *vm, enum pickle_kind kind, struct err *e)
{
    struct pval t = { .kind = kind }, **v;
    size_t n;
    TRY(pop_mark(&v, &n, vm, e));
    for (size_t i = 0; i < n; i++) TRY(append(vm, &t, v[i], e));
    return push(vm, t, e);
}

/* Values or entries into the container below them. */
static int add(struct vm *vm, struct pval **v, size_t n, bool entries, struct err *e)
{
    struct pval *to;
    TRY(peek(&to, vm, e));
    bool fits = entries ? has_keys(to) : to->kind == PICKLE_LIST || to->kind == PICKLE_CALL;
    if (!fits || (entries && n % 2 != 0))
        return err_set(e, ERR_FORMAT, "byte %zu of the pickle: %s", (size_t)(vm->p - vm->begin),
                       fits ? "a key without a value" : "what it adds to holds no values");
    for (size_t i = 0; i < n; i++) TRY(append(vm, to, v[i], e));
    return 0;
}

static int op_add_marked(struct vm *vm, bool entries, struct err *e)
{
    struct pval **v;
    size_t n;
    TRY(pop_mark(&v, &n, vm, e));
    return add(vm, v, n, entries, e);
}

static int op_add(struct vm *vm, bool entries, struct err *e)
{
    struct pval *v[2];
    if (entries) {
        TRY(pop(&v[1], vm, e));
        TRY(pop(&v[0], vm, e));
    } else {
        TRY(pop(&v[0], vm, e));
    }
    return add(vm, v, entries ? 2 : 1, entries, e);
}

static int op_call(struct vm *vm, bool keywords, struct err *e)
{
    struct pval *kw, *args, *func;
    if (keywords) TRY(pop(&kw, vm, e));
    TRY(pop(&args, vm, e));
    TRY(pop(&func, vm, e));
    if (args->kind != PICKLE_TUPLE ||
        (func->kind != PICKLE_GLOBAL && func->kind != PICKLE_CALL))
        return err_set(e, ERR_FORMAT, "byte %zu of the pickle: it builds what has no class",
                       (size_t)(vm->p - vm->begin));
    return push(vm, (struct pval){ .kind = PICKLE_CALL, .func = func, .args = args }, e);
}

static int op_build(struct vm *vm, struct err *e)
{
    struct pval *state, *of;
    TRY(pop(&state, vm, e));
    TRY(peek(&of, vm, e));
    if (of->kind != PICKLE_CALL)
        return err_set(e, ERR_FORMAT, "byte %zu of the pickle: a state for what has none",
                       (size_t)(vm->p - vm->begin));
    of->state = state;
    return 0;
}

static int op_persid(struct vm *vm, struct err *e)
{
    struct pval *id;
    struct pickle *out = vm->out;
    TRY(pop(&id, vm, e));
    TRY(push(vm, (struct pval){ .kind = PICKLE_PERSID, .args = id }, e));
    if (out->n_persids == INT32_MAX) return err_set(e, ERR_LIMIT, "too many storages");
    TRY(grow(&out->persid, vm, (size_t)out->n_persids, &vm->cap_persids, e));
    out->persid[out->n_persids++] = vm->stack[vm->n_stack - 1];
    return 0;
}

/* ---- the memo ---- */

static int op_put(struct vm *vm, uint64_t at, struct err *e)
{
    struct pval *v;
    TRY(peek(&v, vm, e));
    if (at > LIMIT_PICKLE_BYTES / sizeof v)
        return err_set(e, ERR_FORMAT, "byte %zu of the pickle: place %llu of its memo",
                       (size_t)(vm->p - vm->begin), (unsigned long long)at);
    TRY(grow(&vm->memo, vm, (size_t)at, &vm->cap_memo, e));
    vm->memo[at] = v;
    if (at >= vm->n_memo) vm->n_memo = (size_t)at + 1;
    return 0;
}

static int op_put_at(struct vm *vm, size_t nb, struct err *e)
{
    uint64_t at;
    TRY(take_le(&at, vm, nb, e));
    return op_put(vm, at, e);
}

static int op_get(struct vm *vm, size_t nb, struct err *e)
{
    uint64_t at;
    TRY(take_le(&at, vm, nb, e));
    if (at >= vm->n_memo || !vm->memo[at])
        return err_set(e, ERR_FORMAT, "byte %zu of the pickle: place %llu of its memo is empty",
                       (size_t)(vm->p - vm->begin), (unsigned long long)at);
    TRY(grow(&vm->stack, vm, vm->n_stack, &vm->cap_stack, e));
    vm->stack[vm->n_stack++] = vm->memo[at];
    return 0;
}

/* ---- the machine ---- */

static int op_skip(struct vm *vm, size_t nb, struct err *e)
{
    const uint8_t *p;
    return take(&p, vm, nb, e);
}

static int op_stop(struct vm *vm, struct err *e)
{
    struct pval *root;
    TRY(pop(&root, vm, e));
    vm->out->root = root;
    vm->done = true;
    return 0;
}

/* POP takes a mark as well. */
static int op_pop(struct vm *vm, struct err *e)
{
    struct pval *v;
    if (vm->n_stack > 0 && vm->stack[vm->n_stack - 1]->kind == PICKLE_MARK)
        return vm->n_stack--, 0;
    return pop(&v, vm, e);
}

static int op_pop_mark(struct vm *vm, struct err *e)
{
    struct pval **v;
    size_t n;
    return pop_mark(&v, &n, vm, e);
}

/* INST, of protocol 0, is read for its name only. */
static int op_unknown(struct vm *vm, uint8_t op, struct err *e)
{
    if (op == 'i') TRY(op_global(vm, e));
    return err_set(e, ERR_FORMAT,
                   "byte %zu of the pickle: opcode 0x%02x is none that torch.save writes "
                   "(protocols 2 to 5)",
                   (size_t)(vm->p - vm->begin), op);
}

static int step_container(struct vm *vm, uint8_t op, struct err *e)
{
    switch (op) {
    case ')': return push(vm, (struct pval){ .kind = PICKLE_TUPLE }, e);
    case 't': return op_marked(vm, PICKLE_TUPLE, e);
    case 0x85: return op_tuple(vm, 1, e);
    case 0x86: return op_tuple(vm, 2, e);
    case 0x87: return op_tuple(vm, 3, e);
    case 0x8f: /* EMPTY_SET */
    case ']': return push(vm, (struct pval){ .kind = PICKLE_LIST }, e);
    case 0x91: return op_marked(vm, PICKLE_LIST, e); /* FROZENSET */
    case '}': return push(vm, (struct pval){ .kind = PICKLE_DICT }, e);
    case 'a': return op_add(vm, false, e);
    case 0x90: /* ADDITEMS */
    case 'e': return op_add_marked(vm, false, e);
    case 's': return op_add(vm, true, e);
    case 'u': return op_add_marked(vm, true, e);
    case 0x81: /* NEWOBJ */
    case 'R': return op_call(vm, false, e);
    case 0x92: return op_call(vm, true, e);
    case 'b': return op_build(vm, e);
    case 'c': return op_global(vm, e);
    case 0x93: return op_stack_global(vm, e);
    case 'Q': return op_persid(vm, e);
    default: return op_unknown(vm, op, e);
    }
}

static int step(struct vm *vm, uint8_t op, struct err *e)
{
    switch (op) {
    case 0x80: return op_skip(vm, 1, e); /* PROTO */
    case 0x95: return op_skip(vm, 8, e); /* FRAME */
    case '.': return op_stop(vm, e);
    case '(': return push(vm, (struct pval){ .kind = PICKLE_MARK }, e);
    case '0': return op_pop(vm, e);
    case '1': return op_pop_mark(vm, e);
    case 'N': return push(vm, (struct pval){ .kind = PICKLE_NONE }, e);
    case 0x88: return push(vm, (struct pval){ .kind = PICKLE_BOOL, .i = 1 }, e);
    case 0x89: return push(vm, (struct pval){ .kind = PICKLE_BOOL }, e);
    case 'K': return op_int(vm, 1, e);
    case 'M': return op_int(vm, 2, e);
    case 'J': return op_int(vm, 4, e);
    case 0x8a: return op_long(vm, 1, e);
    case 0x8b: return op_long(vm, 4, e);
    case 'G': return op_float(vm, e);
    case 'X': return op_text(vm, PICKLE_STR, 4, e);
    case 0x8c: return op_text(vm, PICKLE_STR, 1, e);
    case 0x8d: return op_text(vm, PICKLE_STR, 8, e);
    case 'U': return op_text(vm, PICKLE_STR, 1, e); /* Python 2's strings */
    case 'T': return op_text(vm, PICKLE_STR, 4, e);
    case 'C': return op_text(vm, PICKLE_BYTES, 1, e);
    case 'B': return op_text(vm, PICKLE_BYTES, 4, e);
    case 0x8e: /* BINBYTES8, BYTEARRAY8 */
    case 0x96: return op_text(vm, PICKLE_BYTES, 8, e);
    case 'q': return op_put_at(vm, 1, e);
    case 'r': return op_put_at(vm, 4, e);
    case 0x94: return op_put(vm, vm->n_memo, e);
    case 'h': return op_get(vm, 1, e);
    case 'j': return op_get(vm, 4, e);
    default: return step_container(vm, op, e);
    }
}

int pickle_read(struct pickle *out, const uint8_t *p, size_t nb, size_t *used, struct err *e)
{
    struct vm vm = { .begin = p, .p = p, .end = p + nb, .out = out };
    *out = (struct pickle){ .mem = arena_new("pickle", 1 << 16, LIMIT_PICKLE_BYTES) };
    int rc = 0;
    while (rc == 0 && !vm.done) {
        const uint8_t *op;
        rc = take(&op, &vm, 1, e);
        if (rc == 0) rc = step(&vm, *op, e);
    }
    *used = (size_t)(vm.p - p);
    if (rc < 0) pickle_free(out);
    return rc;
}

void pickle_free(struct pickle *pk)
{
    arena_free(pk->mem);
    *pk = (struct pickle){ 0 };
}

bool pickle_str_is(const struct pval *v, const char *s)
{
    return v->kind == PICKLE_STR && v->len == strlen(s) && memcmp(v->str, s, v->len) == 0;
}

bool pickle_global_is(const struct pval *v, const char *s)
{
    return v->kind == PICKLE_GLOBAL && strcmp(v->str, s) == 0;
}

const struct pval *pickle_get(const struct pval *v, const char *key)
{
    if (!has_keys(v)) return NULL;
    for (int32_t i = v->n - v->n % 2 - 2; i >= 0; i -= 2)
        if (pickle_str_is(v->at[i], key)) return v->at[i + 1];
    return NULL;
}
