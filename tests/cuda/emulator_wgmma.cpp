// Products of warpgroups as PTX defines them ("asynchronous warpgroup-level matrix multiply-accumulate"), for the emulator.
//
// A product is made when it is waited for, as late as may be; until then its sums are NaN in the threads that own them. What
// it reads must be there when it is asked for, and must be the same when it is made.
#include "emulator.h"

#include <deque>
#include <memory>
#include <vector>

namespace {

enum { M = 64, K = 16, THREADS = 128 };

// The sums of the threads of a warpgroup while products add to them.
struct sums {
    float *d[THREADS];
    size_t n;
    std::vector<float> values; // [THREADS, n / 2]
    size_t n_products;         // that are not made yet
};

struct product {
    uint64_t a, b;
    std::vector<uint16_t> a_seen, b_seen; // when it was asked for
    std::shared_ptr<sums> to;
    size_t group;
};

struct warpgroup {
    std::deque<product> products;
    std::vector<std::shared_ptr<sums>> busy;
    size_t n_groups;
    bool fenced;
};

warpgroup warpgroups[8];

uint32_t bits(uint64_t descriptor, int first, int n) {
    return (uint32_t)(descriptor >> first) & ((1u << n) - 1);
}

// A matrix [n_rows, K] of 16-bit values in K-major order. The descriptor: bits 0-13 the address, 16-29 the leading dimension
// byte offset, 32-45 the stride dimension byte offset, all without their lowest 4 bits; 49-51 base offset, 62-63 swizzling;
// the rest is zero. Without swizzling, the first is the offset from a column of 16 bytes to the next, the second from 8 rows
// to the next 8, and the rows between lie 16 bytes apart.
std::vector<uint16_t> read_matrix(uint64_t descriptor, size_t n_rows) {
    if (bits(descriptor, 62, 2) != 0) emu_fail("a matrix descriptor with swizzling, which is not emulated");
    if (bits(descriptor, 14, 2) != 0 || bits(descriptor, 30, 2) != 0 || bits(descriptor, 46, 16) != 0)
        emu_fail("a matrix descriptor with bits that should be zero");
    uint32_t start = bits(descriptor, 0, 14) << 4, leading = bits(descriptor, 16, 14) << 4, stride = bits(descriptor, 32, 14) << 4;
    std::vector<uint16_t> values(n_rows * K);
    for (uint32_t row = 0; row < n_rows; row++) {
        for (uint32_t column = 0; column < K / 8; column++) {
            uint32_t address = start + column * leading + row / 8 * stride + row % 8 * 16;
            memcpy(&values[row * K + column * 8], emu_shared_row(address), 16);
        }
    }
    return values;
}

std::vector<double> as_numbers(const std::vector<uint16_t> &values) {
    std::vector<double> numbers(values.size());
    for (size_t i = 0; i < values.size(); i++) numbers[i] = (double)bits_float((uint32_t)values[i] << 16);
    return numbers;
}

std::shared_ptr<sums> sums_of(warpgroup &w, const emu_member members[THREADS]) {
    for (const auto &s : w.busy) {
        if (s->d[0] == members[0].d && s->n == members[0].n) return s;
    }
    if (!w.fenced) emu_fail("a product of a warpgroup without wgmma_fence behind what touched its sums");
    auto s = std::make_shared<sums>();
    s->n = members[0].n;
    s->n_products = 0;
    for (size_t t = 0; t < THREADS; t++) {
        s->d[t] = members[t].d;
        s->values.insert(s->values.end(), s->d[t], s->d[t] + s->n / 2);
        for (size_t i = 0; i < s->n / 2; i++) s->d[t][i] = NAN;
    }
    w.busy.push_back(s);
    return s;
}

// Accumulator fragments of f32: thread t has row 16 * (t / 32) + t % 32 / 4 in elements 0, 1, 4, 5, 8, .., and the row 8 below
// in 2, 3, 6, 7, ..; columns 2 * (t % 4) and the next of each 8.
void make(const product &p) {
    if (read_matrix(p.a, M) != p.a_seen || read_matrix(p.b, p.to->n) != p.b_seen)
        emu_fail("shared memory has changed while a product of a warpgroup read it");
    const std::vector<double> a = as_numbers(p.a_seen), b = as_numbers(p.b_seen);
    for (size_t t = 0; t < THREADS; t++) {
        for (size_t i = 0; i < p.to->n / 2; i++) {
            size_t row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + t % 4 * 2 + i % 2;
            float *sum = &p.to->values[t * (p.to->n / 2) + i];
            double exact = (double)*sum;
            for (size_t k = 0; k < K; k++) exact += a[row * K + k] * b[column * K + k];
            *sum = (float)exact;
        }
    }
}

void give_back(warpgroup &w, const std::shared_ptr<sums> &s) {
    for (size_t t = 0; t < THREADS; t++) memcpy(s->d[t], &s->values[t * (s->n / 2)], s->n / 2 * sizeof(float));
    for (size_t i = 0; i < w.busy.size(); i++) {
        if (w.busy[i] == s) w.busy.erase(w.busy.begin() + (long)i--);
    }
    w.fenced = false;
}

} // namespace

void emu_wgmma_begin() {
    for (warpgroup &w : warpgroups) w = warpgroup();
}

void emu_wgmma_end() {
    for (const warpgroup &w : warpgroups) {
        if (!w.products.empty()) emu_fail("a block ends before its products of warpgroups");
    }
}

void emu_wgmma_fence(uint32_t group, const emu_member *) {
    warpgroups[group].fenced = true;
}

void emu_wgmma_product(uint32_t group, const emu_member members[THREADS]) {
    warpgroup &w = warpgroups[group];
    product p;
    p.a = members[0].a, p.b = members[0].b;
    for (size_t t = 1; t < THREADS; t++) {
        if (members[t].a != p.a || members[t].b != p.b) emu_fail("the threads of a warpgroup give different descriptors");
    }
    if (members[0].n % 8 != 0 || members[0].n > 256) emu_fail("no shape of a product of a warpgroup");
    p.a_seen = read_matrix(p.a, M);
    p.b_seen = read_matrix(p.b, members[0].n);
    p.to = sums_of(w, members);
    p.to->n_products++;
    p.group = w.n_groups;
    w.products.push_back(std::move(p));
}

void emu_wgmma_commit(uint32_t group, const emu_member *) {
    warpgroups[group].n_groups++;
}

void emu_wgmma_wait(uint32_t group, const emu_member members[THREADS]) {
    warpgroup &w = warpgroups[group];
    while (!w.products.empty() && w.products.front().group + members[0].n < w.n_groups) {
        product p = std::move(w.products.front());
        w.products.pop_front();
        make(p);
        if (--p.to->n_products == 0) give_back(w, p.to);
    }
}
