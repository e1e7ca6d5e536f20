// Number types of the kernel of local connections: half-precision weights, vectors, denormals.

#pragma once

#include <cstdint>
#include <cstring>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace {

constexpr int BYTES = 64;  // of a vector, whatever the processor's own are

// Numbers below the smallest normal one slow every product down a hundredfold: they count as zero.
struct FlushDenormals {
#if defined(__SSE__)
    unsigned before = _mm_getcsr();
    FlushDenormals() { _mm_setcsr(before | 0x8040); }
    ~FlushDenormals() { _mm_setcsr(before); }
#endif
};

struct BFloat { uint16_t bits; };
struct Half { uint16_t bits; };

template <class T> struct Lanes;
template <> struct Lanes<float> {
    typedef float V __attribute__((vector_size(BYTES)));
    typedef int32_t I __attribute__((vector_size(BYTES)));
};
template <> struct Lanes<double> {
    typedef double V __attribute__((vector_size(BYTES)));
    typedef int64_t I __attribute__((vector_size(BYTES)));
};

template <class V, class T> inline V load(const T* p) {
    V v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline float widen(float w) { return w; }
inline double widen(double w) { return w; }
inline float widen(BFloat w) {
    uint32_t bits = uint32_t(w.bits) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
inline void narrow(float x, float& w) { w = x; }
inline void narrow(double x, double& w) { w = x; }
inline void narrow(float x, BFloat& w) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    w.bits = uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#if defined(__FLT16_MANT_DIG__)
inline float widen(Half w) {
    _Float16 h;
    std::memcpy(&h, &w.bits, 2);
    return float(h);
}
inline void narrow(float x, Half& w) {
    _Float16 h = _Float16(x);
    std::memcpy(&w.bits, &h, 2);
}
#else
inline float widen(Half w) {
    uint32_t sign = uint32_t(w.bits & 0x8000) << 16, rest = uint32_t(w.bits & 0x7fff) << 13;
    float f, scale = 5.192296858534828e+33f;  // 2^112 moves the exponent, subnormals included
    uint32_t bits = rest;
    std::memcpy(&f, &bits, 4);
    f *= scale;
    std::memcpy(&bits, &f, 4);
    bits |= sign;
    std::memcpy(&f, &bits, 4);
    return f;
}
#endif

inline Lanes<float>::V wide(const float* w) { return load<Lanes<float>::V>(w); }
inline Lanes<double>::V wide(const double* w) { return load<Lanes<double>::V>(w); }
inline Lanes<float>::V wide(const BFloat* w) {
    typedef uint16_t S __attribute__((vector_size(BYTES / 2)));
    typedef uint32_t U __attribute__((vector_size(BYTES)));
    U bits = __builtin_convertvector(load<S>(w), U) << 16;
    Lanes<float>::V v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}
inline Lanes<float>::V wide(const Half* w) {
#if defined(__FLT16_MANT_DIG__)
    typedef _Float16 H __attribute__((vector_size(BYTES / 2)));
    return __builtin_convertvector(load<H>(w), Lanes<float>::V);
#else
    Lanes<float>::V v;
    for (int t = 0; t < 16; ++t) v[t] = widen(w[t]);
    return v;
#endif
}

}  // namespace
