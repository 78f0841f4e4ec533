#include "text/bpe_queue.h"

#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

bool mr_heap_push(uint64_t **heap, size_t *n, size_t *cap, uint64_t key) {
    if (*n == *cap) {
        size_t grown = *cap == 0 ? 128 : *cap * 2;
        uint64_t *keys = realloc(*heap, grown * sizeof *keys);
        if (keys == NULL) return false;
        *heap = keys;
        *cap = grown;
    }
    uint64_t *h = *heap;
    size_t i = (*n)++;
    while (i > 0 && h[(i - 1) / 2] > key) {
        h[i] = h[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h[i] = key;
    return true;
}

uint64_t mr_heap_pop(uint64_t *heap, size_t *n) {
    uint64_t top = heap[0], key = heap[--*n];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= *n) break;
        if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= key) break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
    return top;
}

void mr_bpe_queue_clear(mr_bpe_queue *q) {
    if (q->n_lists > 0) memset(q->lists, 0xFF, (q->mask + 1) * sizeof *q->lists);
    q->n_lists = q->n_entries = q->n_late = q->n_ranks = 0;
}

void mr_bpe_queue_free(mr_bpe_queue *q) {
    free(q->lists);
    free(q->entries);
    free(q->late);
    free(q->ranks);
    *q = (mr_bpe_queue){0};
}

static size_t slot_of(const mr_rank_list *lists, size_t mask, uint32_t rank) {
    size_t i = (size_t)(rank * 0x9E3779B97F4A7C15u >> 20) & mask;
    while (lists[i].rank != rank && lists[i].rank != NONE) i = (i + 1) & mask;
    return i;
}

static bool grow_lists(mr_bpe_queue *q) {
    size_t n = q->lists == NULL ? 256 : (q->mask + 1) * 2;
    mr_rank_list *lists = malloc(n * sizeof *lists);
    if (lists == NULL) return false;
    memset(lists, 0xFF, n * sizeof *lists);
    for (size_t i = 0; q->lists != NULL && i <= q->mask; i++) {
        if (q->lists[i].rank != NONE) lists[slot_of(lists, n - 1, q->lists[i].rank)] = q->lists[i];
    }
    free(q->lists);
    q->lists = lists;
    q->mask = n - 1;
    return true;
}

/* The list of a rank, made when there is none; NULL when memory runs out. */
static mr_rank_list *list_of(mr_bpe_queue *q, uint32_t rank) {
    if (q->lists == NULL || q->n_lists * 2 > q->mask) {
        if (!grow_lists(q)) return NULL;
    }
    mr_rank_list *list = &q->lists[slot_of(q->lists, q->mask, rank)];
    if (list->rank == NONE) {
        *list = (mr_rank_list){.rank = rank, .head = NONE, .tail = NONE};
        q->n_lists++;
    }
    return list;
}

bool mr_bpe_queue_push(mr_bpe_queue *q, uint32_t rank, uint32_t pos) {
    mr_rank_list *list = list_of(q, rank);
    if (list == NULL) return false;
    if (list->head != NONE && pos < list->last_pos) {
        return mr_heap_push(&q->late, &q->n_late, &q->cap_late, (uint64_t)rank << 32 | pos);
    }
    if (q->n_entries == q->cap_entries) {
        size_t cap = q->cap_entries == 0 ? 4096 : q->cap_entries * 2;
        mr_queue_entry *entries = cap >= NONE ? NULL : realloc(q->entries, cap * sizeof *entries);
        if (entries == NULL) return false;
        q->entries = entries;
        q->cap_entries = cap;
    }
    uint32_t entry = (uint32_t)q->n_entries++;
    q->entries[entry] = (mr_queue_entry){.pos = pos, .next = NONE};
    if (list->head == NONE) {
        list->head = entry;
        if (!mr_heap_push(&q->ranks, &q->n_ranks, &q->cap_ranks, rank)) return false;
    } else {
        q->entries[list->tail].next = entry;
    }
    list->tail = entry;
    list->last_pos = pos;
    return true;
}

bool mr_bpe_queue_pop(mr_bpe_queue *q, uint32_t *rank, uint32_t *pos) {
    mr_rank_list *list = NULL;
    uint64_t best = UINT64_MAX;
    if (q->n_ranks > 0) {
        list = &q->lists[slot_of(q->lists, q->mask, (uint32_t)q->ranks[0])];
        best = (uint64_t)list->rank << 32 | q->entries[list->head].pos;
    }
    if (q->n_late > 0 && q->late[0] < best) {
        best = mr_heap_pop(q->late, &q->n_late);
    } else if (list != NULL) {
        list->head = q->entries[list->head].next;
        if (list->head == NONE) mr_heap_pop(q->ranks, &q->n_ranks);
    } else {
        return false;
    }
    *rank = (uint32_t)(best >> 32);
    *pos = (uint32_t)best;
    return true;
}
