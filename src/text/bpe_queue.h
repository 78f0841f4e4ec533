/* The pairs of a long text that wait to be merged, best rank first, leftmost first among equals.
 *
 * A long text has few distinct ranks and its pairs come nearly in order of position, so each rank has a list to which
 * positions are appended; only what comes out of order goes to a heap. Appending and taking are then O(1) and walk
 * memory in order, where one heap of a million entries would miss the cache at every level. */
#ifndef MR_TEXT_BPE_QUEUE_H
#define MR_TEXT_BPE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mr_queue_entry {
    uint32_t pos, next; /* next: index of an entry, UINT32_MAX at the end */
} mr_queue_entry;

typedef struct mr_rank_list {
    uint32_t rank; /* UINT32_MAX: free slot */
    uint32_t head, tail, last_pos;
} mr_rank_list;

typedef struct mr_bpe_queue {
    mr_rank_list *lists; /* open addressing by rank */
    size_t n_lists, mask;
    mr_queue_entry *entries;
    size_t n_entries, cap_entries;
    uint64_t *late; /* heap of rank << 32 | position */
    size_t n_late, cap_late;
    uint64_t *ranks; /* heap of the ranks whose list is not empty */
    size_t n_ranks, cap_ranks;
} mr_bpe_queue;

/* Empties the queue and keeps its memory. */
void mr_bpe_queue_clear(mr_bpe_queue *queue);
void mr_bpe_queue_free(mr_bpe_queue *queue);

/* Adds a pair; rank must not be UINT32_MAX. False when memory runs out. */
bool mr_bpe_queue_push(mr_bpe_queue *queue, uint32_t rank, uint32_t pos);

/* Takes the best pair; false when there is none. */
bool mr_bpe_queue_pop(mr_bpe_queue *queue, uint32_t *rank, uint32_t *pos);

/* A binary heap of keys, the smallest first: for callers with few entries. */
bool mr_heap_push(uint64_t **heap, size_t *n, size_t *cap, uint64_t key);
uint64_t mr_heap_pop(uint64_t *heap, size_t *n);

#endif
