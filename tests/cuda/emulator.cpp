// The fibres behind emulator.h.
#include "emulator.h"

#include <deque>
#include <mutex>
#include <vector>

#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

emu_dim emu_thread_index, emu_block_index, emu_block_size, emu_grid_size;
void *emu_shared;

void emu_fail(const char *what) {
    fprintf(stderr, "emulator: %s (block %u %u %u, thread %u)\n", what, emu_block_index.x, emu_block_index.y,
            emu_block_index.z, emu_thread_index.x);
    abort();
}

// ---- changing between fibres

#if defined(__x86_64__)
// Pushes what a call must preserve, stores the stack pointer in *from, and takes up the other stack.
extern "C" void emu_switch(void **from, void *to);
asm(R"(
.text
.type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch, .-emu_switch
)");
#endif

namespace {

#if defined(__SANITIZE_ADDRESS__)
enum : size_t { STACK_BYTES = 256 << 10 };
#else
enum : size_t { STACK_BYTES = 64 << 10 };
#endif
enum : size_t { MAX_THREADS = 1024, MAX_SHARED = 227 << 10 };

struct copy {
    void *shared;
    const void *global;
    size_t n, group;
    bool valid;
};

// 16 bytes of dynamic shared memory: copies to them that are not finished, and by whom the last was.
struct unit {
    uint32_t n_pending, writer;
    size_t fence; // how many fences the writer had passed then; SIZE_MAX: nobody copied to it
};

struct fibre {
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    uint8_t *stack;
    void *fake_stack; // AddressSanitizer's
    uint32_t index;
    bool done;
    std::deque<copy> copies;
    size_t n_groups;
    std::vector<uint64_t> fences; // of asynchronous reads: barriers before each
};

struct warpgroup {
    emu_member members[128];
    uint64_t n_ops;
    uint32_t n_here;
    emu_group_op op;
};

struct warp {
    emu_lane lanes[2][32]; // of operations with even and odd numbers: a lane is at most one ahead
    uint64_t n_ops;
    uint32_t n_here;
    emu_op op;
};

struct block_state {
    std::vector<fibre> fibres{MAX_THREADS};
    std::vector<warp> warps{MAX_THREADS / 32};
    std::vector<warpgroup> warpgroups{MAX_THREADS / 128};
    std::vector<unit> units; // of dynamic shared memory
    uint32_t n, n_alive, current;
    uint64_t n_barriers, progress;
    uint32_t n_at_barrier;
    bool backwards;
    const emu_kernel *kernel;
    const void *args;
#if defined(__x86_64__)
    void *scheduler;
#else
    ucontext_t scheduler;
#endif
    void *scheduler_fake;
    const void *scheduler_stack; // NULL until the first fibre of a block has found out
    size_t scheduler_stack_bytes;
};

block_state state;
std::mutex launching;
emu_kernel *kernels;

void enter(fibre *f) { // f is what runs now
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(f->fake_stack, nullptr, nullptr);
#endif
    (void)f;
}

void change(fibre *from, fibre *to) {
    state.current = to->index;
    emu_thread_index = {to->index, 0, 0};
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, STACK_BYTES);
#endif
#if defined(__x86_64__)
    emu_switch(&from->sp, to->sp);
#else
    swapcontext(&from->context, &to->context);
#endif
    enter(from);
}

fibre *next_of(uint32_t index) {
    for (uint32_t i = 1; i <= state.n; i++) {
        uint32_t at = state.backwards ? (index + state.n - i) % state.n : (index + i) % state.n;
        if (!state.fibres[at].done) return &state.fibres[at];
    }
    return nullptr;
}

void yield() {
    fibre *self = &state.fibres[state.current], *next = next_of(self->index);
    if (next != self) change(self, next);
}

// Waits until `done`; when a few rounds of all threads bring nothing, nothing will.
template <typename F> void wait_for(F done, const char *what) {
    uint64_t seen = state.progress;
    for (uint32_t idle = 0; !done(); idle++) {
        if (state.progress != seen) seen = state.progress, idle = 0;
        if (idle > 4) emu_fail(what);
        yield();
    }
}

void body() {
#if defined(__SANITIZE_ADDRESS__)
    const void *stack;
    size_t n_bytes;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &n_bytes);
    if (state.scheduler_stack == nullptr) state.scheduler_stack = stack, state.scheduler_stack_bytes = n_bytes;
#endif
    fibre *self = &state.fibres[state.current];
    state.kernel->run(state.args);
    self = &state.fibres[state.current];
    if (!self->copies.empty()) self->copies.clear();
    self->done = true;
    state.n_alive--;
    state.progress++;
    if (state.n_alive > 0 && state.n_at_barrier == state.n_alive) state.n_at_barrier = 0, state.n_barriers++;
    fibre *next = next_of(self->index);
    if (next != nullptr) {
        state.current = next->index;
        emu_thread_index = {next->index, 0, 0};
    }
#if defined(__SANITIZE_ADDRESS__)
    if (next != nullptr)
        __sanitizer_start_switch_fiber(nullptr, next->stack, STACK_BYTES);
    else
        __sanitizer_start_switch_fiber(nullptr, state.scheduler_stack, state.scheduler_stack_bytes);
#endif
#if defined(__x86_64__)
    void *unused;
    emu_switch(&unused, next != nullptr ? next->sp : state.scheduler);
#else
    setcontext(next != nullptr ? &next->context : &state.scheduler);
#endif
    abort();
}

void begin(fibre *f, uint32_t index) {
    if (f->stack == nullptr) {
        void *p = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) emu_fail("no memory for stacks");
        f->stack = (uint8_t *)p;
    }
    f->index = index;
    f->done = false;
    f->fake_stack = nullptr;
    f->n_groups = 0;
    f->fences.clear();
    f->copies.clear();
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f->stack, STACK_BYTES);
#endif
#if defined(__x86_64__)
    void **top = (void **)(f->stack + STACK_BYTES - 64);
    *--top = nullptr; // the stack is aligned as behind a call
    *--top = (void *)body;
    for (int i = 0; i < 6; i++) *--top = nullptr;
    f->sp = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_BYTES;
    f->context.uc_link = nullptr;
    makecontext(&f->context, body, 0);
#endif
}

void run_block() {
    state.n_alive = state.n;
    state.n_at_barrier = 0;
    for (uint32_t w = 0; w < state.n / 32; w++) state.warps[w].n_here = 0, state.warps[w].n_ops = 0;
    for (uint32_t g = 0; g < state.n / 128; g++) state.warpgroups[g].n_here = 0, state.warpgroups[g].n_ops = 0;
    for (unit &u : state.units) u = {0, 0, SIZE_MAX};
    emu_wgmma_begin();
    for (uint32_t i = 0; i < state.n; i++) begin(&state.fibres[i], i);
    fibre *first = &state.fibres[state.backwards ? state.n - 1 : 0];
    state.current = first->index;
    emu_thread_index = {first->index, 0, 0};
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&state.scheduler_fake, first->stack, STACK_BYTES);
#endif
#if defined(__x86_64__)
    emu_switch(&state.scheduler, first->sp);
#else
    swapcontext(&state.scheduler, &first->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(state.scheduler_fake, nullptr, nullptr);
#endif
    emu_wgmma_end();
}

} // namespace

// ---- meeting

emu_lane *emu_warp(emu_op op, const uint32_t *in, size_t n_in, const void *row, void (*all)(emu_lane lanes[32])) {
    uint32_t index = state.current;
    warp *w = &state.warps[index / 32];
    uint64_t number = w->n_ops;
    emu_lane *lane = &w->lanes[number % 2][index % 32];
    if (w->n_here == 0) w->op = op;
    if (w->op != op) emu_fail("the lanes of a warp meet at different operations");
    if (n_in > 0) memcpy(lane->in, in, n_in * sizeof *in);
    lane->row = row;
    if (++w->n_here == 32) {
        if (all != nullptr) all(w->lanes[number % 2]);
        w->n_here = 0;
        w->n_ops++;
        state.progress++;
    } else {
        wait_for([=] { return w->n_ops != number; }, "a lane of a warp never came to where the others wait");
    }
    return lane;
}

void emu_warpgroup(emu_group_op op, const emu_member &member, void (*all)(uint32_t group, const emu_member members[128])) {
    uint32_t index = state.current;
    if (index / 128 >= state.n / 128) emu_fail("a warpgroup has 4 warps");
    warpgroup *w = &state.warpgroups[index / 128];
    uint64_t number = w->n_ops;
    if (w->n_here == 0) w->op = op;
    if (w->op != op) emu_fail("the threads of a warpgroup meet at different operations");
    w->members[index % 128] = member;
    if (++w->n_here == 128) {
        all(index / 128, w->members);
        w->n_here = 0;
        w->n_ops++;
        state.progress++;
    } else {
        wait_for([=] { return w->n_ops != number; }, "a thread of a warpgroup never came to where the others wait");
    }
}

void emu_sync_block() {
    uint64_t number = state.n_barriers;
    if (++state.n_at_barrier == state.n_alive) {
        state.n_at_barrier = 0;
        state.n_barriers++;
        state.progress++;
        return;
    }
    wait_for([=] { return state.n_barriers != number; }, "a thread never came to the barrier");
}

// The unit of an address, nullptr for static shared memory.
static unit *unit_of(const void *shared) {
    size_t at = (size_t)((const uint8_t *)shared - (const uint8_t *)emu_shared) / 16;
    return (const uint8_t *)shared >= (const uint8_t *)emu_shared && at < state.units.size() ? &state.units[at] : nullptr;
}

void emu_copy_async(void *shared, const void *global, size_t n, bool valid) {
    fibre *self = &state.fibres[state.current];
    unit *u = unit_of(shared);
    if (u != nullptr) u->n_pending++;
    self->copies.push_back({shared, global, n, self->n_groups, valid});
}

void emu_copy_commit() {
    state.fibres[state.current].n_groups++;
}

void emu_copy_wait(size_t newest) {
    fibre *self = &state.fibres[state.current];
    while (!self->copies.empty() && self->copies.front().group + newest < self->n_groups) {
        const copy c = self->copies.front();
        self->copies.pop_front();
        if (c.valid)
            memcpy(c.shared, c.global, c.n);
        else
            memset(c.shared, 0, c.n);
        unit *u = unit_of(c.shared);
        if (u != nullptr) u->n_pending--, u->writer = self->index, u->fence = self->fences.size();
    }
}

void emu_fence_async() {
    state.fibres[state.current].fences.push_back(state.n_barriers);
}

uint32_t emu_shared_address(const void *shared) {
    if (unit_of(shared) == nullptr) emu_fail("an address that is not in dynamic shared memory");
    return EMU_SHARED_BASE + (uint32_t)((const uint8_t *)shared - (const uint8_t *)emu_shared);
}

const uint8_t *emu_shared_row(uint32_t address) {
    size_t at = (size_t)address - EMU_SHARED_BASE;
    if (address < EMU_SHARED_BASE || at / 16 >= state.units.size() || at % 16 != 0)
        emu_fail("an asynchronous operation reads outside of dynamic shared memory");
    const unit *u = &state.units[at / 16];
    if (u->n_pending > 0) emu_fail("an asynchronous operation reads what a copy is still to write");
    if (u->fence != SIZE_MAX) {
        const std::vector<uint64_t> &fences = state.fibres[u->writer].fences;
        if (u->fence >= fences.size() || fences[u->fence] >= state.n_barriers)
            emu_fail("an asynchronous operation reads a copy without a fence of the thread that made it and a barrier");
    }
    return (const uint8_t *)emu_shared + at;
}

// ---- kernels

emu_kernel::emu_kernel(const char *name, size_t args_bytes, void (*run)(const void *args))
    : name(name), args_bytes(args_bytes), run(run), next(kernels) {
    kernels = this;
}

const emu_kernel *emu_find(const char *name) {
    for (const emu_kernel *k = kernels; k != nullptr; k = k->next)
        if (strcmp(k->name, name) == 0) return k;
    return nullptr;
}

bool emu_launch(const emu_kernel *kernel, emu_dim grid, uint32_t block, uint32_t shared_bytes, const void *args) {
    if (block == 0 || block > MAX_THREADS || block % 32 != 0 || shared_bytes > MAX_SHARED || grid.x == 0 || grid.y == 0 ||
        grid.z == 0 || grid.y > 65535 || grid.z > 65535)
        return false;
    std::lock_guard<std::mutex> lock(launching);
    static bool backwards = getenv("MR_EMU_BACKWARDS") != nullptr;
    void *shared = nullptr;
    if (shared_bytes > 0 && posix_memalign(&shared, 128, shared_bytes) != 0) return false;
    state.kernel = kernel;
    state.args = args;
    state.n = block;
    state.backwards = backwards;
    emu_shared = shared;
    state.units.resize(shared_bytes / 16);
    emu_grid_size = grid;
    emu_block_size = {block, 1, 1};
    state.scheduler_stack = nullptr;
    for (uint32_t z = 0; z < grid.z; z++) {
        for (uint32_t y = 0; y < grid.y; y++) {
            for (uint32_t x = 0; x < grid.x; x++) {
                emu_block_index = {x, y, z};
                if (shared != nullptr) memset(shared, 0xFF, shared_bytes); // NaN
                run_block();
            }
        }
    }
    free(shared);
    return true;
}

// ---- fragments

static int8_t byte_of(uint32_t word, int i) {
    return (int8_t)(word >> 8 * i);
}

template <int k_words> static void mma_s8(emu_lane lanes[32]) {
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            int row = g + i / 2 * 8, column = 2 * t + i % 2;
            int32_t sum = (int32_t)lanes[lane].in[8 + i];
            for (int word = 0; word < k_words; word++) { // 4 k each
                uint32_t a = lanes[row % 8 * 4 + word % 4].in[row / 8 + word / 4 * 2];
                uint32_t b = lanes[column * 4 + word % 4].in[4 + word / 4];
                for (int j = 0; j < 4; j++) sum += byte_of(a, j) * byte_of(b, j);
            }
            lanes[lane].out[i] = (uint32_t)sum;
        }
    }
}

void emu_mma_s8_k32(emu_lane lanes[32]) {
    mma_s8<8>(lanes);
}
void emu_mma_s8_k16(emu_lane lanes[32]) {
    mma_s8<4>(lanes);
}

// 16-bit values, of which a word has two.
template <typename F> static void mma_16(emu_lane lanes[32], F value) {
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            int row = g + i / 2 * 8, column = 2 * t + i % 2;
            float sum;
            memcpy(&sum, &lanes[lane].in[8 + i], 4);
            double exact = sum;
            for (int word = 0; word < 8; word++) {
                uint32_t a = lanes[row % 8 * 4 + word % 4].in[row / 8 + word / 4 * 2];
                uint32_t b = lanes[column * 4 + word % 4].in[4 + word / 4];
                for (int j = 0; j < 2; j++)
                    exact += (double)value((uint16_t)(a >> 16 * j)) * (double)value((uint16_t)(b >> 16 * j));
            }
            sum = (float)exact;
            memcpy(&lanes[lane].out[i], &sum, 4);
        }
    }
}

void emu_mma_bf16(emu_lane lanes[32]) {
    mma_16(lanes, [](uint16_t bits) { return bits_float((uint32_t)bits << 16); });
}
void emu_mma_f16(emu_lane lanes[32]) {
    mma_16(lanes, [](uint16_t bits) { return mr_f16_to_f32(bits); });
}

void emu_mma_tf32(emu_lane lanes[32]) {
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            int row = g + i / 2 * 8, column = 2 * t + i % 2;
            float sum;
            memcpy(&sum, &lanes[lane].in[8 + i], 4);
            double exact = sum;
            for (int k = 0; k < 8; k++) {
                uint32_t a = lanes[row % 8 * 4 + k % 4].in[row / 8 + k / 4 * 2] & 0xFFFFE000u;
                uint32_t b = lanes[column * 4 + k % 4].in[4 + k / 4] & 0xFFFFE000u;
                exact += (double)bits_float(a) * (double)bits_float(b);
            }
            sum = (float)exact;
            memcpy(&lanes[lane].out[i], &sum, 4);
        }
    }
}

void emu_load_transposed(emu_lane lanes[32]) {
    for (int lane = 0; lane < 32; lane++) {
        int g = lane / 4, t = lane % 4;
        for (int matrix = 0; matrix < 4; matrix++) {
            uint16_t v[2];
            for (int j = 0; j < 2; j++) memcpy(&v[j], (const uint16_t *)lanes[8 * matrix + 2 * t + j].row + g, 2);
            lanes[lane].out[matrix] = v[0] | (uint32_t)v[1] << 16;
        }
    }
}
