/* The form of a finished grammar, for the matcher. */
#ifndef MR_TEXT_GRAMMAR_IMPL_H
#define MR_TEXT_GRAMMAR_IMPL_H

#include "text/grammar.h"

typedef enum mr_edge_kind { MR_EDGE_SKIP, MR_EDGE_BYTE, MR_EDGE_TOKEN, MR_EDGE_CALL } mr_edge_kind;

typedef struct mr_edge {
    uint8_t kind, first, last; /* BYTE: the range */
    uint32_t what;             /* TOKEN: id; CALL: rule */
    uint32_t to, next;         /* next edge of the same node, or MR_GRAMMAR_NONE */
} mr_edge;

/* A node that texts of up to n_bytes cannot tell from this one. */
typedef struct mr_alike {
    uint32_t node, n_bytes;
} mr_alike;

typedef struct mr_rule {
    uint32_t entry, exit;
} mr_rule;

struct mr_grammar {
    mr_edge *edges;
    size_t n_edges, cap_edges;
    uint32_t *first;  /* [n_nodes], first edge of a node */
    uint8_t *is_exit; /* [n_nodes] */
    mr_alike *alike;  /* [n_nodes] */
    size_t n_nodes, cap_nodes;
    mr_rule *rules;
    size_t n_rules, cap_rules;
    mr_error error; /* status MR_OK: none */
};

#endif
