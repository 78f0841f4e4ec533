/* Values of the template language and the state of one render (internal to the jinja_*.c files).
 *
 * A value is 16 bytes and is passed by copy; what it points at lives in the render's arena (or in the parsed template,
 * or in the caller's JSON) and is never changed after construction, so sharing is free. Functions that can fail return
 * false after recording an error with mr_jj_raise; the error then travels up unchanged. */
#ifndef MR_TEXT_JINJA_VALUE_H
#define MR_TEXT_JINJA_VALUE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum jj_kind {
    JJ_MISSING = 0, /* no value at all: an unbound variable or an absent argument; never seen by a template */
    JJ_UNDEFINED,
    JJ_NONE,
    JJ_BOOL,
    JJ_INT,
    JJ_BIG, /* an integer outside of 64 bits */
    JJ_FLOAT,
    JJ_STR,
    JJ_LIST,
    JJ_TUPLE,
    JJ_DICT,
    JJ_VIEW, /* dict.keys(), .values(), .items() */
    JJ_RANGE,
    JJ_NAMESPACE,
    JJ_ITER, /* a one-shot iterator: generators, reversed() */
    JJ_BUILTIN,
    JJ_METHOD, /* a builtin bound to a value */
    JJ_MACRO,
    JJ_LOOP,
    JJ_CYCLER,
    JJ_JOINER,
    JJ_SELF, /* the `self` of a template with blocks */
    JJ_BLOCK,
    JJ_SLICE,
} jj_kind;

typedef struct jj_value jj_value;
typedef struct jj_rt jj_rt;
typedef struct jj_node jj_node;
typedef struct jj_frame jj_frame;

/* Spare room behind a string, so that repeated appending is linear: a string that ends at `used` may grow in place. */
typedef struct jj_strbuf {
    char *data;
    size_t used, cap;
} jj_strbuf;

/* Valid UTF-8. n_chars == len means ASCII. */
typedef struct jj_str {
    const char *data;
    size_t len;
    size_t n_chars;
    jj_strbuf *buf; /* the buffer that data points into, or NULL */
} jj_str;

typedef struct jj_big {
    bool negative;
    uint32_t n;
    uint32_t limbs[]; /* base 10^9, least significant first, no leading zero limb */
} jj_big;

typedef struct jj_list {
    jj_value *items;
    size_t n;
} jj_list;

typedef struct jj_undef {
    const char *hint;  /* the whole message, or NULL */
    const char *owner; /* description of the object that lacked the name, or NULL for a variable */
    const jj_value *name;
    bool security; /* the sandbox refused the attribute */
} jj_undef;

typedef struct jj_view {
    struct jj_dict *dict;
    char what; /* 'k', 'v' or 'i' */
} jj_view;

typedef struct jj_range {
    int64_t start, stop, step;
    int64_t n;
} jj_range;

typedef struct jj_slice jj_slice;
typedef struct jj_iter jj_iter;
typedef struct jj_builtin jj_builtin;
typedef struct jj_method jj_method;
typedef struct jj_macro jj_macro;
typedef struct jj_loop jj_loop;
typedef struct jj_cycler jj_cycler;
typedef struct jj_dict jj_dict;

enum { JJ_FLAG_MARKUP = 1, JJ_FLAG_GROUP = 2 }; /* a string safe for HTML; the (grouper, list) tuple of groupby */

struct jj_value {
    uint8_t kind;
    uint8_t flags;
    union {
        bool b;
        int64_t i;
        double f;
        const jj_big *big;
        const jj_str *s;
        const jj_list *l;
        jj_dict *d;
        const jj_undef *undef;
        const jj_view *view;
        const jj_range *range;
        const jj_slice *slice;
        jj_iter *iter;
        const jj_builtin *builtin;
        const jj_method *method;
        const jj_macro *macro;
        jj_loop *loop;
        jj_cycler *cycler;
        const jj_node *node;
    } u;
};

struct jj_slice {
    jj_value start, stop, step;
};

typedef struct jj_entry {
    jj_value key, value;
    uint64_t hash;
} jj_entry;

/* An insertion-ordered map; `index` (open addressing, entry number + 1) exists from 9 entries on. */
struct jj_dict {
    jj_entry *entries;
    size_t n, cap;
    uint32_t *index;
    size_t n_index;
};

/* next: 1 and *out set, 0 at the end, -1 on an error. */
struct jj_iter {
    int (*next)(jj_rt *rt, jj_iter *it, jj_value *out);
    const char *name;  /* of its type */
    const char *label; /* a generator: of the function that made it, for printing; else NULL */
    jj_value source, a, b;
    size_t i;
    int64_t n;
    void *state;
    bool started, done;
    bool reversed;
};

typedef struct jj_kwarg {
    jj_value name; /* a string */
    jj_value value;
} jj_kwarg;

/* The arguments of a call; arrays in the arena. */
typedef struct jj_args {
    const jj_value *pos;
    size_t n_pos;
    const jj_kwarg *kw;
    size_t n_kw;
} jj_args;

enum { JJ_MAX_PARAMS = 10 };

/* A call of a builtin: `self` is what a method is bound to, a[] the arguments by parameter (JJ_MISSING where absent),
 * and raw all arguments as given. */
typedef struct jj_call {
    jj_value self;
    jj_value a[JJ_MAX_PARAMS];
    const jj_args *raw;
} jj_call;

typedef bool (*jj_builtin_fn)(jj_rt *rt, const jj_call *call, jj_value *out);

/* params: names separated by spaces in order; a trailing '?' marks an optional one, a leading '/' one that has no name
 * in calls. NULL: the function takes `raw` as it is. */
struct jj_builtin {
    const char *name;
    const char *params;
    jj_builtin_fn fn;
};

struct jj_method {
    jj_value self;
    const jj_builtin *fn;
};

struct jj_macro {
    const jj_node *node;
    jj_frame *outer; /* the activation it was defined in */
    bool autoescape;
};

struct jj_cycler {
    const jj_value *items;
    size_t n, pos;
    jj_value sep; /* joiner */
    bool used;
};

/* Kinds of errors, by the Python exception they stand for. */
typedef enum jj_error_kind {
    JJ_ERR_NONE = 0,
    JJ_ERR_TEMPLATE, /* raise_exception */
    JJ_ERR_UNDEFINED,
    JJ_ERR_SECURITY,
    JJ_ERR_RUNTIME,
    JJ_ERR_TYPE,
    JJ_ERR_VALUE,
    JJ_ERR_KEY,
    JJ_ERR_OVERFLOW,
    JJ_ERR_ZERO_DIVISION,
    JJ_ERR_FILTER_ARGUMENT,
    JJ_ERR_UNSUPPORTED,
    JJ_ERR_LIMIT,
    JJ_ERR_NOMEM,
} jj_error_kind;

enum { JJ_MESSAGE_MAX = 900 };

/* The state of one render. */
struct jj_rt {
    mr_arena arena;
    const struct mr_jinja *jinja;
    uint64_t steps_left;
    size_t max_output;
    unsigned depth, max_depth;
    const char *stack_base;
    int64_t now_unix;
    mr_buf *out;        /* where output goes now */
    mr_buf captures[8]; /* reused buffers of nested captures; deeper ones are made as needed */
    unsigned n_captures;
    bool autoescape;
    bool folding;      /* inside of a constant expression that may be folded */
    jj_value *globals; /* the variables of the context by name id */
    struct jj_context *context;
    uint64_t random;
    const jj_node *at; /* the node that is being evaluated, for positions in errors */
    jj_error_kind error;
    char message[JJ_MESSAGE_MAX];
};

/* Records the error (unless there is one already) and returns false. */
bool mr_jj_raise(jj_rt *rt, jj_error_kind kind, const char *format, ...) MR_PRINTF(3, 4);

/* Counts n units of work; false when the step limit is reached. */
bool mr_jj_step(jj_rt *rt, uint64_t n);

/* At the start of everything that recurses: false when the C stack is used up to its bound, or no step is left. */
bool mr_jj_enter(jj_rt *rt);

/* Arena memory; NULL after recording the error. */
void *mr_jj_alloc(jj_rt *rt, size_t n);
void *mr_jj_calloc(jj_rt *rt, size_t n, size_t size);

static inline jj_value mr_jj_none(void) {
    return (jj_value){.kind = JJ_NONE};
}
static inline jj_value mr_jj_bool(bool b) {
    return (jj_value){.kind = JJ_BOOL, .u.b = b};
}
static inline jj_value mr_jj_int(int64_t i) {
    return (jj_value){.kind = JJ_INT, .u.i = i};
}
static inline jj_value mr_jj_float(double f) {
    return (jj_value){.kind = JJ_FLOAT, .u.f = f};
}
static inline jj_value mr_jj_list_value(const jj_list *l) {
    return (jj_value){.kind = JJ_LIST, .u.l = l};
}
static inline jj_value mr_jj_tuple_value(const jj_list *l) {
    return (jj_value){.kind = JJ_TUPLE, .u.l = l};
}
static inline jj_value mr_jj_dict_value(jj_dict *d) {
    return (jj_value){.kind = JJ_DICT, .u.d = d};
}
static inline bool mr_jj_is_markup(jj_value v) {
    return v.kind == JJ_STR && (v.flags & JJ_FLAG_MARKUP) != 0;
}

/* A string that borrows data (which must outlive the render and be valid UTF-8). */
bool mr_jj_str_borrow(jj_rt *rt, const char *data, size_t len, jj_value *out);
/* A string with its own copy. */
bool mr_jj_str_new(jj_rt *rt, const char *data, size_t len, jj_value *out);
bool mr_jj_str_buf(jj_rt *rt, const mr_buf *buf, jj_value *out); /* copies; an error when the buffer failed */
jj_value mr_jj_str_static(const jj_str *s);
/* a + b, in place when there is room behind a. */
bool mr_jj_str_concat(jj_rt *rt, const jj_str *a, const jj_str *b, jj_value *out);
bool mr_jj_str_eq(const jj_str *a, const jj_str *b);
bool mr_jj_str_is(const jj_str *a, const char *text);
size_t mr_jj_utf8_count(const char *data, size_t len);

/* A growing list; finish with mr_jj_list_value(&…). */
typedef struct jj_vec {
    jj_value *items;
    size_t n, cap;
} jj_vec;
bool mr_jj_vec_push(jj_rt *rt, jj_vec *vec, jj_value v);
bool mr_jj_vec_list(jj_rt *rt, const jj_vec *vec, jj_kind kind, jj_value *out); /* kind: JJ_LIST or JJ_TUPLE */
bool mr_jj_pair(jj_rt *rt, jj_value a, jj_value b, jj_value *out);              /* the tuple (a, b) */

bool mr_jj_dict_new(jj_rt *rt, size_t n_expected, jj_dict **out);
/* Sets or replaces (a replaced key keeps its place). False on an unhashable key. */
bool mr_jj_dict_put(jj_rt *rt, jj_dict *dict, jj_value key, jj_value value);
bool mr_jj_dict_put_cstr(jj_rt *rt, jj_dict *dict, const char *key, jj_value value);
/* *found is NULL when the key is absent. False on an unhashable key. */
bool mr_jj_dict_get(jj_rt *rt, const jj_dict *dict, jj_value key, jj_value **found);
jj_value *mr_jj_dict_get_str(const jj_dict *dict, const char *key, size_t len);

/* Undefined values. */
bool mr_jj_undefined_hint(jj_rt *rt, const char *hint, jj_value *out);
bool mr_jj_undefined_name(jj_rt *rt, jj_value name, jj_value *out);
bool mr_jj_undefined_attr(jj_rt *rt, jj_value owner, jj_value name, jj_value *out);
bool mr_jj_undefined_unsafe(jj_rt *rt, jj_value owner, jj_value name, jj_value *out);
bool mr_jj_raise_undefined(jj_rt *rt, jj_value undefined); /* always false */

/* The name of the Python class that a global function is ("dict", "jinja2.utils.Namespace", …), NULL for a function. */
const char *mr_jj_class_name(const jj_builtin *fn);

/* The name Python gives the type: "str", "NoneType", … */
const char *mr_jj_type_name(jj_value v);

/* Semantics. */
bool mr_jj_truth(jj_rt *rt, jj_value v, bool *truth); /* bool(v) */
bool mr_jj_hash(jj_rt *rt, jj_value v, uint64_t *hash);
bool mr_jj_equal(jj_rt *rt, jj_value a, jj_value b, bool *equal);
bool mr_jj_less(jj_rt *rt, const char *op, jj_value a, jj_value b, bool *less); /* op: "<", "<=", ">" or ">=" */
bool mr_jj_contains(jj_rt *rt, jj_value needle, jj_value hay, bool *found);
bool mr_jj_length(jj_rt *rt, jj_value v, int64_t *n); /* len(v) */
bool mr_jj_has_length(jj_value v);
bool mr_jj_is_same(jj_value a, jj_value b);                                   /* Python's `is` */
bool mr_jj_binary(jj_rt *rt, char op, jj_value a, jj_value b, jj_value *out); /* + - * / % and 'f' for //, 'p' for ** */
bool mr_jj_negate(jj_rt *rt, jj_value a, jj_value *out);
bool mr_jj_positive(jj_rt *rt, jj_value a, jj_value *out);
bool mr_jj_getitem(jj_rt *rt, jj_value obj, jj_value key, jj_value *out);  /* obj[key], then obj.key */
bool mr_jj_getattr(jj_rt *rt, jj_value obj, jj_value name, jj_value *out); /* obj.name, then obj[name] */
bool mr_jj_slice(jj_rt *rt, jj_value obj, const jj_slice *slice, jj_value *out);
bool mr_jj_index(jj_value v, int64_t *i); /* an int or bool as int64 */
bool mr_jj_is_number(jj_value v);
double mr_jj_to_double(jj_value v);
bool mr_jj_is_callable(jj_value v);

/* The attribute of a Python object by name: 1 found, 0 the type has no such attribute, -1 error. */
int mr_jj_attribute(jj_rt *rt, jj_value obj, const jj_str *name, jj_value *out);

/* Big integers. */
bool mr_jj_big_parse(jj_rt *rt, const char *digits, size_t n, unsigned base, bool negative, jj_value *out);
bool mr_jj_big_binary(jj_rt *rt, char op, jj_value a, jj_value b, jj_value *out); /* + - * f % p on JJ_INT and JJ_BIG */
int mr_jj_big_compare(jj_value a, jj_value b);                                    /* JJ_INT and JJ_BIG */
int mr_jj_big_compare_double(const jj_big *big, double f);                        /* f is no NaN */
bool mr_jj_big_puts(mr_buf *buf, const jj_big *big);
double mr_jj_big_to_double(const jj_big *big);
bool mr_jj_big_from_double(jj_rt *rt, double f, jj_value *out); /* trunc(f); f finite */

/* Text of values. */
bool mr_jj_put_str(jj_rt *rt, mr_buf *buf, jj_value v);  /* str(v) */
bool mr_jj_put_repr(jj_rt *rt, mr_buf *buf, jj_value v); /* repr(v) */
bool mr_jj_put_repr_with(jj_rt *rt, mr_buf *buf, jj_value v, bool ascii, bool sort_dicts);
bool mr_jj_to_str(jj_rt *rt, jj_value v, jj_value *out);    /* v itself when it is a string */
bool mr_jj_plain_str(jj_rt *rt, jj_value v, jj_value *out); /* as above, and never Markup */
bool mr_jj_put_float(mr_buf *buf, double f);
bool mr_jj_put_escaped(mr_buf *buf, const char *text, size_t len); /* HTML */
bool mr_jj_escape(jj_rt *rt, jj_value v, jj_value *out);
const char *mr_jj_repr_cstr(jj_rt *rt, jj_value v); /* for messages; never NULL, cut when long */

/* Iteration. mr_jj_iterate fails with a TypeError on a value that cannot be iterated. */
bool mr_jj_iterate(jj_rt *rt, jj_value v, jj_iter **out);
bool mr_jj_is_iterable(jj_value v);
int mr_jj_next(jj_rt *rt, jj_iter *it, jj_value *out);
bool mr_jj_to_vec(jj_rt *rt, jj_value v, jj_vec *out); /* list(v) */
bool mr_jj_iter_new(jj_rt *rt, int (*next)(jj_rt *, jj_iter *, jj_value *), const char *name, jj_iter **out);
/* reversed(v): 1, 0 when v is not reversible, -1 on an error. */
int mr_jj_reversed(jj_rt *rt, jj_value v, jj_value *out);

/* Calls. */
bool mr_jj_call(jj_rt *rt, jj_value callee, const jj_args *args, jj_value *out);
bool mr_jj_call_builtin(jj_rt *rt, const jj_builtin *fn, jj_value self, const jj_args *args, jj_value *out);
bool mr_jj_call_macro(jj_rt *rt, const jj_macro *macro, const jj_args *args, jj_value *out);
bool mr_jj_call_loop(jj_rt *rt, jj_loop *loop, jj_value iterable, jj_value *out);
bool mr_jj_call_block(jj_rt *rt, const jj_node *block, jj_value *out);
bool mr_jj_loop_attr(jj_rt *rt, jj_loop *loop, const jj_str *name, jj_value *out, bool *found);
bool mr_jj_loop_length(jj_rt *rt, jj_loop *loop, int64_t *n);
int mr_jj_loop_next(jj_rt *rt, jj_loop *loop, jj_value *out);
bool mr_jj_loop_cycle(jj_rt *rt, jj_loop *loop, const jj_args *args, jj_value *out);
bool mr_jj_loop_changed(jj_rt *rt, jj_loop *loop, const jj_args *args, jj_value *out);

/* Lookup of builtins by name; NULL when there is none. */
const jj_builtin *mr_jj_find_filter(const char *name, size_t len);
const jj_builtin *mr_jj_find_test(const char *name, size_t len);
const jj_builtin *mr_jj_find_global(const char *name, size_t len);
const jj_builtin *mr_jj_find_str_method(const char *name, size_t len);
const jj_builtin *mr_jj_find_in(const jj_builtin *table, size_t n, const char *name, size_t len);

/* Redirects output into a buffer until mr_jj_capture_end, which makes a string of it. */
typedef struct jj_capture {
    mr_buf *outer;
    mr_buf *buf;
    mr_buf own;
} jj_capture;
bool mr_jj_capture_begin(jj_rt *rt, jj_capture *capture);
bool mr_jj_capture_end(jj_rt *rt, jj_capture *capture, bool ok, jj_value *out);

#endif
