// Vectors of numbers, and tiles of maps in the transform domain of 3 x 3 convolutions.
//
//     y  = A^T [(G w G^T) (B^T x B)] A            x is 6 x 6, w 3 x 3, y 4 x 4; [] number by number
//     dx = B [(G w G^T) (A dy A^T)] B^T           the transpose for x
//     dw = G^T [(B^T x B) (A dy A^T)] G           and for w
//
// lavin2016: Toom-Cook at the points 0, +-1/sqrt 2, +-sqrt 2 and infinity, which give a third of
// the error that 0, +-1, +-2 give. Every function does one of the two axes; S and D are the steps
// in what it reads and gives.

#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "../v1/_local_numbers.h"

namespace {

constexpr int64_t LANES = 16;  // channels side by side
constexpr int64_t POINTS = 36;
constexpr uintptr_t PAGE = 1 << 21;  // bytes of a large page

// Numbers in a vector; tiles and channels whose sums fill the registers.
#if defined(__AVX512F__)
constexpr int64_t WIDTH = 16, TILES = 14, ROWS = 16;
#elif defined(__AVX2__)
constexpr int64_t WIDTH = 8, TILES = 6, ROWS = 4;
#elif defined(__aarch64__)
constexpr int64_t WIDTH = 4, TILES = 6, ROWS = 4;
#else
constexpr int64_t WIDTH = 4, TILES = 3, ROWS = 2;
#endif
constexpr int64_t PARTS = LANES / WIDTH;

typedef float V __attribute__((vector_size(WIDTH * sizeof(float))));
typedef float Half8 __attribute__((vector_size(8 * sizeof(float))));

inline V at(const float* p) { return load<V>(p); }
template <class T> inline void put(float* p, T v) { std::memcpy(p, &v, sizeof v); }

// How a vector of channels is read and written: all of it, or the channels that are there.
template <class T> struct Whole {
    typedef T Vector;
    T get(const float* p) const { return load<T>(p); }
    void set(float* p, T v) const { std::memcpy(p, &v, sizeof v); }
};
struct Some {
    typedef V Vector;
    int64_t n;
#if defined(__AVX512F__)
    V get(const float* p) const { return (V)_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p); }
    void set(float* p, V v) const { _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), (__m512)v); }
#else
    V get(const float* p) const {
        V v{};
        for (int64_t i = 0; i < n; ++i) v[i] = p[i];
        return v;
    }
    void set(float* p, V v) const {
        for (int64_t i = 0; i < n; ++i) p[i] = v[i];
    }
#endif
};

// Call f(access, first channel) for n channels in vectors.
template <class F> inline void by_vectors(int64_t n, F f) {
    int64_t c = 0;
    for (; c + WIDTH <= n; c += WIDTH) f(Whole<V>{}, c);
    if (c == n) return;
    if (WIDTH == 16 && n - c == 8) return f(Whole<Half8>{}, c);
    f(Some{n - c}, c);
}

// Ask for large pages for new memory: zeroing small ones would take as long as a convolution.
void advise(float* p, int64_t size) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t from = (uintptr_t(p) + PAGE - 1) / PAGE * PAGE;
    const uintptr_t to = uintptr_t(p + size) / PAGE * PAGE;
    if (p && from + PAGE < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
#else
    (void)p, (void)size;
#endif
}

constexpr float R = 1.41421356237309505f, H = R / 2;

// B^T
template <class T, int S, int D> inline void in(const T* s, T* d) {
    const T a = s[0], b = s[S], c = s[2 * S], e = s[3 * S], f = s[4 * S],
            g = s[5 * S];
    const T even = f - 2.0f * c, odd = H * e - R * b, near = f - 0.5f * c, far = R * e - H * b;
    d[0] = a - 2.5f * c + f;
    d[D] = even + odd;
    d[2 * D] = even - odd;
    d[3 * D] = near + far;
    d[4 * D] = near - far;
    d[5 * D] = b - 2.5f * e + g;
}

// B
template <class T, int S, int D> inline void in_transposed(const T* s, T* d) {
    const T a = s[0], f = s[5 * S];
    const T p = s[S] + s[2 * S], m = s[S] - s[2 * S];
    const T q = s[3 * S] + s[4 * S], n = s[3 * S] - s[4 * S];
    d[0] = a;
    d[D] = f - R * m - H * n;
    d[2 * D] = -2.5f * a - 2.0f * p - 0.5f * q;
    d[3 * D] = H * m + R * n - 2.5f * f;
    d[4 * D] = a + p + q;
    d[5 * D] = f;
}

// A^T
template <class T, int S, int D> inline void out(const T* s, T* d) {
    const T p = s[S] + s[2 * S], m = s[S] - s[2 * S];
    const T q = s[3 * S] + s[4 * S], n = s[3 * S] - s[4 * S];
    d[0] = s[0] + p + q;
    d[D] = H * m + R * n;
    d[2 * D] = 0.5f * p + 2.0f * q;
    d[3 * D] = H / 2 * m + 2 * R * n + s[5 * S];
}

// A
template <class T, int S, int D> inline void out_transposed(const T* s, T* d) {
    const T a = s[0], b = s[S], c = s[2 * S], e = s[3 * S];
    const T even = a + 0.5f * c, odd = H * b + H / 2 * e, far = a + 2.0f * c,
            near = R * b + 2 * R * e;
    d[0] = a;
    d[D] = even + odd;
    d[2 * D] = even - odd;
    d[3 * D] = far + near;
    d[4 * D] = far - near;
    d[5 * D] = e;
}

// G
template <class T, int S, int D> inline void spread(const T* s, T* d) {
    const T a = s[0], b = s[S], c = s[2 * S];
    const T even = (-2.0f * a - c) / 3.0f, odd = R / 3 * b, far = (0.5f * a + c) / 3.0f,
            near = R / 6 * b;
    d[0] = a;
    d[D] = even - odd;
    d[2 * D] = even + odd;
    d[3 * D] = far + near;
    d[4 * D] = far - near;
    d[5 * D] = c;
}

// G^T
template <class T, int S, int D> inline void spread_transposed(const T* s, T* d) {
    const T p = s[S] + s[2 * S], m = s[S] - s[2 * S];
    const T q = s[3 * S] + s[4 * S], n = s[3 * S] - s[4 * S];
    d[0] = s[0] + (0.5f * q - 2.0f * p) / 3.0f;
    d[D] = R / 6 * n - R / 3 * m;
    d[2 * D] = (q - p) / 3.0f + s[5 * S];
}

}  // namespace
