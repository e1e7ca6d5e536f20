// Vectors of numbers, and tiles of maps in the transform domain of 3 x 3 convolutions.
//
//     y = A^T [(G g G^T) (B^T d B)] A
//
// with d a tile of the input and g a kernel: lavin2016, Toom-Cook at the points given below. `in` is
// B^T, `out` A^T, for one of the two axes; SPREAD is G.

#pragma once

#include <cstdint>
#include <cstring>

#include "../v1/_local_numbers.h"

namespace {

constexpr int64_t LANES = 16;  // channels side by side
constexpr int64_t PANEL = 32;  // output channels side by side

// Numbers in a vector, and tiles that are computed at once: 2 x ROWS registers hold their sums.
#if defined(__AVX512F__)
constexpr int64_t WIDTH = 16, ROWS = 14;
#elif defined(__AVX2__)
constexpr int64_t WIDTH = 8, ROWS = 6;
#elif defined(__aarch64__)
constexpr int64_t WIDTH = 4, ROWS = 14;
#else
constexpr int64_t WIDTH = 4, ROWS = 6;
#endif

// Not the vectors of _local_numbers.h: wider ones than the processor's end in memory.
typedef float V __attribute__((vector_size(WIDTH * sizeof(float))));

inline V at(const float* p) { return load<V>(p); }
inline void put(float* p, V v) { std::memcpy(p, &v, sizeof v); }
inline V rectified(V v) { return v < V{} ? V{} : v; }  // NaN stays

template <int M> struct Tile;

template <> struct Tile<2> {
    static constexpr int N = 4;
    static inline void in(const V* s, int step, V* d) {
        const V a = s[0], b = s[step], c = s[2 * step], e = s[3 * step];
        d[0] = a - c;
        d[step] = b + c;
        d[2 * step] = c - b;
        d[3 * step] = b - e;
    }
    static inline void out(const V* s, int step, V* d) {
        const V b = s[step], c = s[2 * step];
        d[0] = s[0] + b + c;
        d[step] = b - c - s[3 * step];
    }
};

// Points 0, +-1/sqrt 2, +-sqrt 2 and infinity: a third of the error that 0, +-1, +-2 give.
constexpr float R = 1.41421356237309505f, H = R / 2;

template <> struct Tile<4> {
    static constexpr int N = 6;
    static inline void in(const V* s, int step, V* d) {
        const V a = s[0], b = s[step], c = s[2 * step], e = s[3 * step], f = s[4 * step],
                g = s[5 * step];
        const V even = f - 2.0f * c, odd = H * e - R * b, near = f - 0.5f * c, far = R * e - H * b;
        d[0] = a - 2.5f * c + f;
        d[step] = even + odd;
        d[2 * step] = even - odd;
        d[3 * step] = near + far;
        d[4 * step] = near - far;
        d[5 * step] = b - 2.5f * e + g;
    }
    static inline void out(const V* s, int step, V* d) {
        const V p = s[step] + s[2 * step], m = s[step] - s[2 * step];
        const V q = s[3 * step] + s[4 * step], n = s[3 * step] - s[4 * step];
        d[0] = s[0] + p + q;
        d[step] = H * m + R * n;
        d[2 * step] = 0.5f * p + 2.0f * q;
        d[3 * step] = H / 2 * m + 2 * R * n + s[5 * step];
    }
};

const double ROOT = 1.4142135623730950488;
const double SPREAD2[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
const double SPREAD4[6][3] = {{1, 0, 0},
                              {-2. / 3, -ROOT / 3, -1. / 3},
                              {-2. / 3, ROOT / 3, -1. / 3},
                              {1. / 6, ROOT / 6, 1. / 3},
                              {1. / 6, -ROOT / 6, 1. / 3},
                              {0, 0, 1}};

}  // namespace
