// Transposed convolution, 2 x 2 with stride 2, and its gradients. Compiled on demand by
// _upsampling.py.
//
//     y[2h + v, 2w + u, o] = b[o] + sum over i of x[h, w, i] W[i, v, u, o]
//
// Maps are (item, row, column, channel), so that u and o together are one index c of 2 O numbers
// side by side, and a row of y is a product of a row of x. Weights lie as
//     forward   [v][c / LANES][i][LANES]          backward   [i / LANES][v][c][LANES]
// and what a part of the rows gives to their gradient as [v][c / LANES][i][LANES] and [v][c] for b.
// Every number is summed in the same order whatever the number of threads is.

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "_reflect_kernel_tiles.h"

namespace {

struct Layer {
    int64_t batch, height, width, inputs, outputs, parts, threads;  // inputs, 2 outputs: of LANES
    const float *x, *weight, *bias, *gradient;
    float *y, *x_gradient, *sums;
    int64_t rows() const { return batch * height; }
    int64_t columns() const { return 2 * outputs; }
    int64_t part_size() const { return columns() * 2 * (inputs + 1); }
};

// Add N rows, `depth` apart, times the weights of LANES results.
template <int N>
inline void add(V (&sum)[N][PARTS], const float* x, int64_t depth, int64_t count, const float* w) {
    for (int64_t i = 0; i < count; ++i, ++x, w += LANES)
#pragma GCC unroll 4
        for (int part = 0; part < PARTS; ++part) {
            const V u = at(w + part * WIDTH);
#pragma GCC unroll 14
            for (int t = 0; t < N; ++t) sum[t][part] += x[t * depth] * u;
        }
}

struct Forward {
    template <int N> static void run(const Layer& l, int64_t row, int64_t first) {
        const float *x = l.x + (row * l.width + first) * l.inputs, *w = l.weight;
        for (int64_t v = 0; v < 2; ++v)
            for (int64_t c = 0; c < l.columns(); c += LANES, w += l.inputs * LANES) {
                V sum[N][PARTS];
                for (int t = 0; t < N; ++t)
                    for (int part = 0; part < PARTS; ++part)
                        sum[t][part] = at(l.bias + c + part * WIDTH);
                add<N>(sum, x, l.inputs, l.inputs, w);
                float* y = l.y + ((2 * row + v) * l.width + first) * l.columns() + c;
                for (int t = 0; t < N; ++t)
                    for (int part = 0; part < PARTS; ++part)
                        put(y + t * l.columns() + part * WIDTH, sum[t][part]);
            }
    }
};

struct Backward {
    template <int N> static void run(const Layer& l, int64_t row, int64_t first) {
        const float* w = l.weight;
        for (int64_t i = 0; i < l.inputs; i += LANES) {
            V sum[N][PARTS] = {};
            for (int64_t v = 0; v < 2; ++v, w += l.columns() * LANES)
                add<N>(sum, l.gradient + ((2 * row + v) * l.width + first) * l.columns(),
                       l.columns(), l.columns(), w);
            float* dx = l.x_gradient + (row * l.width + first) * l.inputs + i;
            for (int t = 0; t < N; ++t)
                for (int part = 0; part < PARTS; ++part)
                    put(dx + t * l.inputs + part * WIDTH, sum[t][part]);
        }
    }
};

template <class F, int N = TILES>
inline void run_any(int64_t size, const Layer& l, int64_t row, int64_t first) {
    if (size == N) return F::template run<N>(l, row, first);
    if constexpr (N > 1) run_any<F, N - 1>(size, l, row, first);
}

template <class F> void run_row(const Layer& l, int64_t row) {
    const int64_t blocks = (l.width + TILES - 1) / TILES;
    for (int64_t b = 0; b < blocks; ++b) {
        const int64_t first = b * l.width / blocks;
        run_any<F>((b + 1) * l.width / blocks - first, l, row, first);
    }
}

// Add what one row gives to the gradient of weights and bias.
void correlate(const Layer& l, int64_t row, float* sums) {
    const float* x = l.x + row * l.width * l.inputs;
    for (int64_t v = 0; v < 2; ++v)
        for (int64_t c = 0; c < l.columns(); c += LANES)
            for (int64_t i = 0; i < l.inputs; i += ROWS, sums += ROWS * LANES) {
                const float* dy = l.gradient + (2 * row + v) * l.width * l.columns() + c;
                V sum[ROWS][PARTS];
                for (int k = 0; k < ROWS; ++k)
                    for (int part = 0; part < PARTS; ++part)
                        sum[k][part] = at(sums + k * LANES + part * WIDTH);
                for (int64_t w = 0; w < l.width; ++w)
#pragma GCC unroll 4
                    for (int part = 0; part < PARTS; ++part) {
                        const V u = at(dy + w * l.columns() + part * WIDTH);
#pragma GCC unroll 16
                        for (int k = 0; k < ROWS; ++k)
                            sum[k][part] += x[w * l.inputs + i + k] * u;
                    }
                for (int k = 0; k < ROWS; ++k)
                    for (int part = 0; part < PARTS; ++part)
                        put(sums + k * LANES + part * WIDTH, sum[k][part]);
            }
    for (int64_t v = 0; v < 2; ++v, sums += l.columns())
        for (int64_t c = 0; c < l.columns(); c += WIDTH) {
            const float* dy = l.gradient + (2 * row + v) * l.width * l.columns() + c;
            V sum = at(sums + c);
            for (int64_t w = 0; w < l.width; ++w) sum += at(dy + w * l.columns());
            put(sums + c, sum);
        }
}

}  // namespace

extern "C" {

void upsampling_forward(const Layer* l) {
    advise(l->y, l->rows() * 2 * l->width * l->columns());
#pragma omp parallel num_threads(l->threads)
    {
        FlushDenormals flush;
#pragma omp for schedule(dynamic, 4)
        for (int64_t row = 0; row < l->rows(); ++row) run_row<Forward>(*l, row);
    }
}

// The sum over all parts is left in the first one.
void upsampling_backward(const Layer* l) {
    const int64_t size = l->part_size();
    if (l->x_gradient) advise(l->x_gradient, l->rows() * l->width * l->inputs);
#pragma omp parallel num_threads(l->threads)
    {
        FlushDenormals flush;
#pragma omp for schedule(dynamic)
        for (int64_t part = 0; part < l->parts; ++part) {
            if (l->sums) std::fill_n(l->sums + part * size, size, 0.0f);
            const int64_t end = (part + 1) * l->rows() / l->parts;
            for (int64_t row = part * l->rows() / l->parts; row < end; ++row) {
                if (l->x_gradient) run_row<Backward>(*l, row);
                if (l->sums) correlate(*l, row, l->sums + part * size);
            }
        }
#pragma omp for schedule(static)
        for (int64_t k = 0; k < (l->sums ? size : 0); ++k)
            for (int64_t part = 1; part < l->parts; ++part) l->sums[k] += l->sums[part * size + k];
    }
}
}
