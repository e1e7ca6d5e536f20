// Maps between memory and the transform domain, and the products there; see _reflect_kernel.cpp.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "_reflect_kernel_tiles.h"

namespace {

constexpr int64_t BLOCK = 28;                   // tiles that are multiplied together
constexpr int64_t GAP = (BLOCK | 1) * LANES;    // between points: odd, or they share few cache sets
constexpr int64_t BAND = 8;                     // rows of tiles whose gradients one thread adds
constexpr int64_t PART = 128, MOST_PARTS = 32;  // tiles, at least, that have a sum of their own
constexpr int64_t FEW_PARTS = 4, MOST_SUMS = 1 << 22;  // numbers of all, unless there are few
constexpr int64_t MOST_SOURCES = 8;

struct Layer {
    int64_t batch, height, width, outputs, count, threads;
    int64_t channels[MOST_SOURCES];
    const float* sources[MOST_SOURCES];
    float* source_gradients[MOST_SOURCES];  // none where not wanted
    const float *weight, *gradient;
    float *y, *weight_gradient, *scratch;
};

// A map of inputs: what is read, and its gradient; rows that two bands share are apart, in spill.
struct Map {
    const float* x;
    float *dx, *spill;
    int64_t depth;  // channels
};

// Channels that are computed side by side: n from number `begin` of the map, `first` of all.
struct Group {
    const Map* map;
    int64_t begin, n, first;
};

inline int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t clamp(int64_t x, int64_t low, int64_t high) {
    return std::min(std::max(x, low), high);
}
inline int64_t reflected(int64_t x, int64_t size) {
    return x < 0 ? -x : x >= size ? 2 * size - 2 - x : x;
}

// Where the pixels of a tile lie: 6 x 6 with its border, of which `rows` x `columns` exist.
struct Place {
    int64_t item, top, left, rows, columns, row[6], column[6];
    Place(const Layer& l, int64_t tile) {
        const int64_t across = up(l.width, 4), each = across * up(l.height, 4);
        item = tile / each;
        top = tile % each / across * 4;
        left = tile % across * 4;
        rows = std::min<int64_t>(6, l.height + 2 - top);
        columns = std::min<int64_t>(6, l.width + 2 - left);
        for (int64_t i = 0; i < 6; ++i) {
            row[i] = reflected(std::min(top - 1 + i, l.height), l.height);
            column[i] = reflected(std::min(left - 1 + i, l.width), l.width);
        }
    }
};

// ------------------------------------------------------------------------------ transforms

void bring_input(const Layer& l, const std::vector<Place>& places, const Group& g, float* tiles) {
    const Map& map = *g.map;
    for (size_t t = 0; t < places.size(); ++t)
        by_vectors(g.n, [&](auto access, int64_t c) {
            typedef typename decltype(access)::Vector T;
            const Place& p = places[t];
            int64_t columns[6];
            for (int j = 0; j < 6; ++j) columns[j] = p.column[j] * map.depth;
            T s[36];
#pragma GCC unroll 6
            for (int i = 0; i < 6; ++i) {
                const float* x = map.x + g.begin + c +
                                 (p.item * l.height + p.row[i]) * l.width * map.depth;
#pragma GCC unroll 6
                for (int j = 0; j < 6; ++j) s[i * 6 + j] = access.get(x + columns[j]);
                in<T, 1, 1>(s + i * 6, s + i * 6);
            }
            float* d = tiles + t * LANES + c;
#pragma GCC unroll 6
            for (int j = 0; j < 6; ++j) {
                in<T, 6, 6>(s + j, s + j);
#pragma GCC unroll 6
                for (int i = 0; i < 6; ++i) put(d + (i * 6 + j) * GAP, s[i * 6 + j]);
            }
        });
}

// The gradient where the output is not rectified.
void bring_gradient(const Layer& l, const std::vector<Place>& places, const Group& g,
                    float* tiles) {
    for (size_t t = 0; t < places.size(); ++t)
        by_vectors(g.n, [&](auto access, int64_t c) {
            typedef typename decltype(access)::Vector T;
            const Place& p = places[t];
            T s[16], d[36];
            const auto read = [&](int i, int j) {
                const int64_t place = c + g.first +
                    ((p.item * l.height + p.top + i) * l.width + p.left + j) * l.outputs;
                const T y = access.get(l.y + place), dy = access.get(l.gradient + place);
                s[i * 4 + j] = y <= T{} ? T{} : dy;
            };
            if (p.rows == 6 && p.columns == 6) {
#pragma GCC unroll 16
                for (int k = 0; k < 16; ++k) read(k / 4, k % 4);
            } else {
                for (int k = 0; k < 16; ++k) s[k] = T{};
                for (int k = 0; k < 16; ++k)
                    if (k / 4 < p.rows - 2 && k % 4 < p.columns - 2) read(k / 4, k % 4);
            }
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) {
                T column[4] = {s[j], s[4 + j], s[8 + j], s[12 + j]};
                out_transposed<T, 1, 6>(column, d + j);
            }
            float* out = tiles + t * LANES + c;
#pragma GCC unroll 6
            for (int i = 0; i < 6; ++i) {
                out_transposed<T, 1, 1>(d + i * 6, d + i * 6);
#pragma GCC unroll 6
                for (int j = 0; j < 6; ++j) put(out + (i * 6 + j) * GAP, d[i * 6 + j]);
            }
        });
}

void finish_output(const Layer& l, const std::vector<Place>& places, const Group& g,
                   const float* sums) {
    for (size_t t = 0; t < places.size(); ++t)
        by_vectors(g.n, [&](auto access, int64_t c) {
            typedef typename decltype(access)::Vector T;
            const Place& p = places[t];
            T s[6], d[24];
            const float* m = sums + t * LANES + c;
#pragma GCC unroll 6
            for (int j = 0; j < 6; ++j) {
#pragma GCC unroll 6
                for (int i = 0; i < 6; ++i) s[i] = load<T>(m + (i * 6 + j) * GAP);
                out<T, 1, 6>(s, d + j);
            }
            for (int i = 0; i < std::min<int64_t>(4, p.rows - 2); ++i) {
                T r[4];
                out<T, 1, 1>(d + i * 6, r);
                float* y = l.y + c + g.first +
                           ((p.item * l.height + p.top + i) * l.width + p.left) * l.outputs;
                for (int j = 0; j < std::min<int64_t>(4, p.columns - 2); ++j)
                    access.set(y + j * l.outputs, r[j] < T{} ? T{} : r[j]);  // NaN stays
            }
        });
}

// A band of one item: rows of tiles whose gradients are added by one thread. What belongs to the
// row above or below it, which another thread may be writing, is kept aside.
struct Band {
    int64_t item, number, begin, end;  // rows of pixels
    Band(const Layer& l, int64_t index) : number(index) {
        const int64_t each = up(up(l.height, 4), BAND);
        item = index / each;
        begin = index % each * BAND * 4;
        end = std::min(l.height, begin + BAND * 4);
    }
    float* row(const Layer& l, const Map& map, int64_t y) const {
        if (y >= begin && y < end) return map.dx + (item * l.height + y) * l.width * map.depth;
        return map.spill + (2 * number + (y >= end)) * l.width * map.depth;
    }
};

void finish_input(const Layer& l, const Band& band, const std::vector<Place>& places,
                  const Group& g, const float* sums) {
    const Map& map = *g.map;
    for (size_t t = 0; t < places.size(); ++t)
        by_vectors(g.n, [&](auto access, int64_t c) {
            typedef typename decltype(access)::Vector T;
            const Place& p = places[t];
            int64_t columns[6];
            for (int j = 0; j < 6; ++j) columns[j] = p.column[j] * map.depth;
            T s[6], d[36];
            const float* m = sums + t * LANES + c;
#pragma GCC unroll 6
            for (int j = 0; j < 6; ++j) {
#pragma GCC unroll 6
                for (int i = 0; i < 6; ++i) s[i] = load<T>(m + (i * 6 + j) * GAP);
                in_transposed<T, 1, 6>(s, d + j);
            }
            for (int i = 0; i < p.rows; ++i) {
                in_transposed<T, 1, 1>(d + i * 6, s);
                float* dx = band.row(l, map, p.row[i]) + g.begin + c;
                for (int j = 0; j < p.columns; ++j)
                    access.set(dx + columns[j], access.get(dx + columns[j]) + s[j]);
            }
        });
}

// ------------------------------------------------------------------------------ products

// Some tiles at one point, times the weights of one group of results.
template <int N>
void multiply(const float* tiles, const std::vector<Group>& groups, const float* weights,
              float* sums) {
    V sum[N][PARTS] = {};
    const float* w = weights;
    for (const Group& g : groups) {
        const float* x = tiles;
        for (int64_t i = 0; i < g.n; ++i, ++x, w += LANES)
#pragma GCC unroll 4
            for (int part = 0; part < PARTS; ++part) {
                const V u = at(w + part * WIDTH);
#pragma GCC unroll 28
                for (int t = 0; t < N; ++t) sum[t][part] += x[t * LANES] * u;
            }
        tiles += POINTS * GAP;
    }
    for (int t = 0; t < N; ++t)
        for (int part = 0; part < PARTS; ++part) put(sums + t * LANES + part * WIDTH, sum[t][part]);
}

template <int N = TILES>
inline void multiply_any(int64_t size, const float* tiles, const std::vector<Group>& groups,
                         const float* weights, float* sums) {
    if (size == N) return multiply<N>(tiles, groups, weights, sums);
    if constexpr (N > 1) multiply_any<N - 1>(size, tiles, groups, weights, sums);
}

void multiply_points(int64_t size, const float* tiles, const std::vector<Group>& groups,
                     int64_t channels, const float* weights, float* sums) {
    for (int64_t point = 0; point < POINTS; ++point, weights += channels * LANES)
        for (int64_t t = 0; t < size; t += TILES)
            multiply_any(std::min(TILES, size - t), tiles + point * GAP + t * LANES, groups,
                         weights, sums + point * GAP + t * LANES);
}

// Add the products of input and gradient over some tiles, for n inputs of one group.
template <int N>
void correlate(int64_t size, int64_t n, const float* x, const float* dy, float* sums) {
    for (int64_t point = 0; point < POINTS; ++point, x += GAP, dy += GAP, sums += LANES * LANES)
        for (int64_t i = 0; i < n; i += N) {
            V sum[N][PARTS];
            for (int k = 0; k < N; ++k)
                for (int part = 0; part < PARTS; ++part)
                    sum[k][part] = at(sums + (i + k) * LANES + part * WIDTH);
            for (int64_t t = 0; t < size; ++t)
#pragma GCC unroll 4
                for (int part = 0; part < PARTS; ++part) {
                    const V u = at(dy + t * LANES + part * WIDTH);
#pragma GCC unroll 16
                    for (int k = 0; k < N; ++k) sum[k][part] += x[t * LANES + i + k] * u;
                }
            for (int k = 0; k < N; ++k)
                for (int part = 0; part < PARTS; ++part)
                    put(sums + (i + k) * LANES + part * WIDTH, sum[k][part]);
        }
}

// ------------------------------------------------------------------------------ weights

// Bring the weights between one channel and a group of channels to the transform domain.
void pack(const float* w, int64_t lane, int64_t tap, int64_t n, float* packed, int64_t gap) {
    float taps[9][LANES] = {};
    for (int s = 0; s < 9; ++s)
        for (int64_t k = 0; k < n; ++k) taps[s][k] = w[s * tap + k * lane];
    for (int64_t c = 0; c < LANES; c += WIDTH) {
        V s[9], half[18], all[36];
        for (int i = 0; i < 9; ++i) s[i] = at(taps[i] + c);
        for (int x = 0; x < 3; ++x) spread<V, 3, 3>(s + x, half + x);
        for (int y = 0; y < 6; ++y) spread<V, 1, 1>(half + y * 3, all + y * 6);
        for (int i = 0; i < 36; ++i) put(packed + i * gap + c, all[i]);
    }
}

}  // namespace
