// Affine couplings read from tables, all of them at once for every point. Compiled on demand by
// _coupling_kernel.py.
//
//     block k     moved <- moved S_k(kept) + T_k(kept)      S, T linear between knots
//     along       x (0), y (1), or a diagonal (2, 3), for which points are mirrored and back
//
// A tile of points goes through all blocks while it lies in the first-level cache. The way back
// starts from the points again and repeats the way forward tile by tile, so that nothing between
// is stored. Points are cut into chunks whose number does not depend on the number of threads;
// every chunk has tables of its own for the gradient, which are added in order: the same numbers
// whatever the threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int TILE = 64;  // points that go through the blocks together

// The same order as in _coupling_kernel.py.
struct Job {
    int64_t is_double, blocks, knots, items, shared, points, chunks, threads;
    const int64_t* along;
    const void *start, *offset, *tables, *low, *rate;
    void* end;
    const void* grad_end;
    void *grad_start, *grad_offset, *grad_tables, *scratch;
};

template <class T>
struct Four {
    typedef T type __attribute__((vector_size(4 * sizeof(T))));
};

template <class T>
using four = typename Four<T>::type;

template <class T>
four<T> load(const T* from) {
    four<T> out;
    std::memcpy(&out, from, sizeof(out));
    return out;
}

template <class T>
void store(T* to, const four<T>& x) {
    std::memcpy(to, &x, sizeof(x));
}

template <class T>
void transpose(four<T>* rows) {
#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLED
    const four<T> a = __builtin_shufflevector(rows[0], rows[2], 0, 4, 1, 5);
    const four<T> b = __builtin_shufflevector(rows[1], rows[3], 0, 4, 1, 5);
    const four<T> c = __builtin_shufflevector(rows[0], rows[2], 2, 6, 3, 7);
    const four<T> d = __builtin_shufflevector(rows[1], rows[3], 2, 6, 3, 7);
    rows[0] = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    rows[1] = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    rows[2] = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    rows[3] = __builtin_shufflevector(c, d, 2, 6, 3, 7);
#endif
#endif
#ifndef SHUFFLED
    for (int i = 1; i < 4; i++)
        for (int j = 0; j < i; j++) {
            const T x = rows[i][j];
            rows[i][j] = rows[j][i], rows[j][i] = x;
        }
#endif
}

// What a block leaves behind for its way back, per point of a tile.
template <class T>
struct Trace {
    T moved[TILE], share[TILE], scale[TILE], steeper[TILE], higher[TILE];
    int32_t knot[TILE];
};

template <class T>
struct Tile {
    T xy[2][TILE];

    // Exchanges x and y for (x + y, x - y) / sqrt 2: its own inverse and its own transpose.
    void mirror() {
#pragma omp simd
        for (int p = 0; p < TILE; p++) {
            const T sum = xy[0][p] + xy[1][p], difference = xy[0][p] - xy[1][p];
            xy[0][p] = sum * T(0.70710678118654752440);
            xy[1][p] = difference * T(0.70710678118654752440);
        }
    }
};

// S, the step of S to the next knot, T, the step of T; the last knot has no next.
template <class T>
std::vector<T> with_steps(const Job& job) {
    const T* table = static_cast<const T*>(job.tables);
    std::vector<T> out(job.blocks * job.knots * 4);
    for (int64_t k = 0; k < job.blocks; k++)
        for (int64_t i = 0; i < job.knots; i++) {
            const int64_t at = k * job.knots + i, next = at + (i + 1 < job.knots);
            for (int c = 0; c < 2; c++) {
                out[4 * at + 2 * c] = table[2 * at + c];
                out[4 * at + 2 * c + 1] = table[2 * next + c] - table[2 * at + c];
            }
        }
    return out;
}

template <class T>
struct Blocks {
    const Job& job;
    std::vector<T> table = with_steps<T>(job);

    int axis(int64_t k) const { return job.along[k] % 2; }
    bool diagonal(int64_t k) const { return job.along[k] >= 2; }

    template <bool TRACED>
    void couple(int64_t k, Tile<T>& tile, Trace<T>* trace) const {
        const T* knots = table.data() + k * job.knots * 4;
        const T low = static_cast<const T*>(job.low)[k], rate = static_cast<const T*>(job.rate)[k];
        const T last = job.knots - 2;
        if (diagonal(k)) tile.mirror();
        T* moved = tile.xy[axis(k)];
        const T* kept = tile.xy[1 - axis(k)];
        T share[TILE];
        int32_t knot[TILE];
#pragma omp simd
        for (int p = 0; p < TILE; p++) {
            const T place = (kept[p] - low) * rate;
            T below = place > 0 ? place : T(0);  // NaN reaches the output, but is no index
            below = below < last ? below : last;
            knot[p] = static_cast<int32_t>(below);
            share[p] = place - knot[p];
        }
        alignas(64) T read[4][TILE];
        for (int p = 0; p < TILE; p += 4) {  // faster than gathering
            four<T> entries[4];
            for (int i = 0; i < 4; i++) entries[i] = load(knots + 4 * int64_t(knot[p + i]));
            transpose<T>(entries);
            for (int c = 0; c < 4; c++) store(read[c] + p, entries[c]);
        }
#pragma omp simd
        for (int p = 0; p < TILE; p++) {
            const T scale = read[0][p] + read[1][p] * share[p];
            const T shift = read[2][p] + read[3][p] * share[p];
            if (TRACED) {
                trace->moved[p] = moved[p], trace->share[p] = share[p], trace->scale[p] = scale;
                trace->steeper[p] = read[1][p], trace->higher[p] = read[3][p];
                trace->knot[p] = knot[p];
            }
            moved[p] = moved[p] * scale + shift;
        }
        if (diagonal(k)) tile.mirror();
    }

    // Turns the gradient after block k into that before it.
    void back(int64_t k, const Trace<T>& trace, Tile<T>& grad, int count, T* sums) const {
        const T rate = static_cast<const T*>(job.rate)[k];
        if (diagonal(k)) grad.mirror();
        T *moved = grad.xy[axis(k)], *kept = grad.xy[1 - axis(k)];
        T* block = sums + k * job.knots * 4;
        add_to_table(trace, moved, count, block);
#pragma omp simd
        for (int p = 0; p < TILE; p++) {
            kept[p] += moved[p] * (trace.moved[p] * trace.steeper[p] + trace.higher[p]) * rate;
            moved[p] *= trace.scale[p];
        }
        if (diagonal(k)) grad.mirror();
    }

    // Neighbours often fall between the same knots: they are summed before they go to memory.
    static void add_to_table(const Trace<T>& trace, const T* grad, int count, T* block) {
        for (int p = 0; p < count; p += 4) {  // beyond count gradients are 0
            const four<T> lower = load(grad + p), share = load(trace.share + p);
            const four<T> scaled = lower * load(trace.moved + p);
            four<T> parts[4] = {scaled - scaled * share, scaled * share, lower - lower * share,
                                lower * share};
            transpose<T>(parts);
            const int32_t* knot = trace.knot + p;
            if (knot[0] == knot[1] && knot[0] == knot[2] && knot[0] == knot[3])
                add(block, knot[0], (parts[0] + parts[1]) + (parts[2] + parts[3]));
            else
                for (int i = 0; i < 4; i++) add(block, knot[i], parts[i]);
        }
    }

    static void add(T* block, int64_t knot, const four<T>& x) {
        store(block + 4 * knot, load(block + 4 * knot) + x);
    }
};

template <class T>
struct Points {
    const Job& job;
    int64_t length = (job.points + job.chunks - 1) / job.chunks;

    int64_t begin(int64_t chunk) const { return std::min(job.points, chunk * length); }
    int64_t row(int64_t item, int axis) const { return (item * 2 + axis) * job.points; }

    void load(int64_t item, int64_t from, int count, Tile<T>& tile) const {
        for (int axis = 0; axis < 2; axis++) {
            const T* x = static_cast<const T*>(job.start) + row(job.shared ? 0 : item, axis) + from;
            const T by = job.offset ? static_cast<const T*>(job.offset)[2 * item + axis] : T(0);
            for (int p = 0; p < count; p++) tile.xy[axis][p] = x[p] + by;
            for (int p = count; p < TILE; p++) tile.xy[axis][p] = x[0] + by;
        }
    }
};

template <class T>
void forward(const Job& job) {
    const Blocks<T> blocks{job};
    const Points<T> points{job};
#pragma omp parallel for schedule(static) num_threads(job.threads)
    for (int64_t chunk = 0; chunk < job.chunks; chunk++)
        for (int64_t item = 0; item < job.items; item++)
            for (int64_t p = points.begin(chunk); p < points.begin(chunk + 1); p += TILE) {
                Tile<T> tile;
                const int count = std::min<int64_t>(TILE, points.begin(chunk + 1) - p);
                points.load(item, p, count, tile);
                for (int64_t k = 0; k < job.blocks; k++)
                    blocks.template couple<false>(k, tile, nullptr);
                for (int axis = 0; axis < 2; axis++)
                    std::copy_n(tile.xy[axis], count,
                                static_cast<T*>(job.end) + points.row(item, axis) + p);
            }
}

template <class T>
struct Backward {
    const Job& job;
    const Blocks<T> blocks{job};
    const Points<T> points{job};
    const int64_t sums = job.blocks * job.knots * 4;  // per chunk

    T* table_sums(int64_t chunk) const { return static_cast<T*>(job.scratch) + chunk * sums; }

    void chunk(int64_t chunk, double* offsets) const {
        std::vector<Trace<T>> traces(job.blocks);
        T* table = table_sums(chunk);
        std::fill_n(table, sums, T(0));
        for (int64_t item = 0; item < job.items; item++)
            for (int64_t p = points.begin(chunk); p < points.begin(chunk + 1); p += TILE) {
                Tile<T> tile, grad = {};
                const int count = std::min<int64_t>(TILE, points.begin(chunk + 1) - p);
                points.load(item, p, count, tile);
                for (int64_t k = 0; k < job.blocks; k++)
                    blocks.template couple<true>(k, tile, &traces[k]);
                for (int axis = 0; axis < 2; axis++)
                    std::copy_n(static_cast<const T*>(job.grad_end) + points.row(item, axis) + p,
                                count, grad.xy[axis]);
                for (int64_t k = job.blocks; k-- > 0;)
                    blocks.back(k, traces[k], grad, count, table);
                keep(item, p, count, grad, offsets + 2 * item);
            }
    }

    void keep(int64_t item, int64_t p, int count, const Tile<T>& grad, double* offset) const {
        for (int axis = 0; axis < 2; axis++) {
            T sum = 0;
            for (int i = 0; i < count; i++) sum += grad.xy[axis][i];
            offset[axis] += sum;
            if (!job.grad_start) continue;
            T* to = static_cast<T*>(job.grad_start) + points.row(job.shared ? 0 : item, axis) + p;
            if (job.shared && item)
                for (int i = 0; i < count; i++) to[i] += grad.xy[axis][i];
            else
                std::copy_n(grad.xy[axis], count, to);
        }
    }

    // What knot i gives as the lower one, and what knot i - 1 gave to its upper one.
    void add_tables() const {
        T* out = static_cast<T*>(job.grad_tables);
#pragma omp parallel for schedule(static) num_threads(job.threads)
        for (int64_t k = 0; k < job.blocks; k++)
            for (int64_t c = 0; c < job.chunks; c++) {
                const T* sum = table_sums(c) + k * job.knots * 4;
                T* to = out + k * job.knots * 2;
                if (!c) std::fill_n(to, 2 * job.knots, T(0));
                for (int64_t i = 0; i < job.knots; i++)
                    for (int s = 0; s < 2; s++)
                        to[2 * i + s] += sum[4 * i + 2 * s] + (i ? sum[4 * i - 3 + 2 * s] : T(0));
            }
    }

    void run() const {
        std::vector<double> offsets(job.chunks * job.items * 2);
#pragma omp parallel for schedule(static) num_threads(job.threads)
        for (int64_t c = 0; c < job.chunks; c++) chunk(c, offsets.data() + c * job.items * 2);
        add_tables();
        if (!job.grad_offset) return;
        for (int64_t i = 0; i < 2 * job.items; i++) {
            double sum = 0;
            for (int64_t c = 0; c < job.chunks; c++) sum += offsets[c * job.items * 2 + i];
            static_cast<T*>(job.grad_offset)[i] = sum;
        }
    }
};

}  // namespace

extern "C" {

void coupling_forward(const Job* job) {
    job->is_double ? forward<double>(*job) : forward<float>(*job);
}

// Numbers of the scratch that the way back needs.
int64_t coupling_scratch(const Job* job) { return job->chunks * job->blocks * job->knots * 4; }

void coupling_backward(const Job* job) {
    if (job->is_double)
        Backward<double>{*job}.run();
    else
        Backward<float>{*job}.run();
}
}
