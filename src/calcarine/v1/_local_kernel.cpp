// Sums over local connection fields, for the CPU. Compiled on demand by _local_compiler.py.
//
// Weights lie unit after unit, each unit's as runs along the rows of the source sheet. A run is
// (row, column, length). Everything here is bound by reading the weights once, so the source
// activity stays in the first-level cache, and runs are cut to the columns where it is not zero.
//
// Weight types: 0 float, 1 double, 2 bfloat16, 3 float16. Activity is float, or double for 1.

#include <cstdint>
#include <cstring>
#include <vector>

#include "_local_numbers.h"

namespace {

constexpr int BLOCK = 4;     // stimuli that share one reading of the weights
constexpr int PORTION = 32;  // units handed out at once: active units come in patches

struct Run { int16_t row, column, length; };

struct Fields {
    const int64_t* offsets;  // units + 1: where a unit's weights begin
    const int32_t* first;    // units + 1: where its runs begin
    const Run* runs;
    int64_t units, sources, width, rows, longest;  // longest: of all runs
};

// Activity with room to read past its end, and the columns [from, to) of each row that matter.
template <class T> struct Activity {
    std::vector<T> values;
    std::vector<int32_t> from, to;
    int64_t stride;

    Activity(const T* x, int64_t batch, const Fields& f)
        : values(batch * (f.sources + BYTES)), from(f.rows * ((batch + BLOCK - 1) / BLOCK)),
          to(from.size()), stride(f.sources + BYTES) {
        for (int64_t b = 0; b < batch; ++b) {
            std::memcpy(&values[b * stride], x + b * f.sources, f.sources * sizeof(T));
            for (int64_t r = 0; r < f.rows; ++r) {
                const T* line = x + b * f.sources + r * f.width;
                int32_t a = 0, e = int32_t(f.width);
                // NaN differs from 0 and so is kept.
                while (a < e && line[a] == 0) ++a;
                while (e > a && line[e - 1] == 0) --e;
                if (a == e) continue;
                int32_t &low = from[b / BLOCK * f.rows + r], &high = to[b / BLOCK * f.rows + r];
                if (low == high) { low = a; high = e; }
                if (a < low) low = a;
                if (e > high) high = e;
            }
        }
    }
};

// Weighted sums of one unit over N stimuli. Every run is read as K whole vectors whose lanes past
// its end are left out: a fixed number of steps costs less than branching on the length. K = 0
// serves runs of any length, and the last units, where reading on would leave the array.
template <class T, class W, int N, int K>
inline void unit_sums(const W* w, const Run* run, const Run* last, const T* x, int64_t stride,
                      const int32_t* from, const int32_t* to, int64_t width, T* out) {
    typedef typename Lanes<T>::V V;
    typedef typename Lanes<T>::I I;
    constexpr int L = BYTES / sizeof(T), C = K > 0 ? K : 1;
    I lane;
    for (int t = 0; t < L; ++t) lane[t] = t;
    V sum[C][N] = {};
    T rest[N] = {};
    for (; run < last; w += run->length, ++run) {
        int32_t a = run->column, e = a + run->length;
        if (from[run->row] > a) a = from[run->row];
        if (to[run->row] < e) e = to[run->row];
        if (a >= e) continue;
        const W* p = w + (a - run->column);
        const T* q = x + run->row * width + a;
        int n = e - a;
        if (K > 0) {
#pragma GCC unroll 4
            for (int k = 0; k < K; ++k) {
                const I kept = lane < (n - k * L);
                const V v = wide(p + k * L);
                for (int b = 0; b < N; ++b)
                    sum[k][b] = kept ? sum[k][b] + v * load<V>(q + b * stride + k * L) : sum[k][b];
            }
        } else {
            for (; n >= L; n -= L, p += L, q += L) {
                const V v = wide(p);
                for (int b = 0; b < N; ++b) sum[0][b] += v * load<V>(q + b * stride);
            }
            for (int t = 0; t < n; ++t)
                for (int b = 0; b < N; ++b) rest[b] += widen(p[t]) * q[b * stride + t];
        }
    }
    for (int b = 0; b < N; ++b) {
        for (int k = 1; k < C; ++k) sum[0][b] += sum[k][b];
        T total = rest[b];
        for (int t = 0; t < L; ++t) total += sum[0][b][t];
        out[b] = total;
    }
}

// As many stimuli as a vector has lanes, side by side for each source: a weight is read once and
// multiplies them all.
template <class T> struct Bundle {
    static constexpr int L = BYTES / sizeof(T);
    std::vector<T> values;  // sources x L
    std::vector<int32_t> from, to;

    Bundle(const T* x, int64_t count, const Fields& f)
        : values(f.sources * L), from(f.rows, 0), to(f.rows, 0) {
        for (int64_t b = 0; b < count; ++b)
            for (int64_t i = 0; i < f.sources; ++i) values[i * L + b] = x[b * f.sources + i];
        for (int64_t r = 0; r < f.rows; ++r) {
            int32_t low = int32_t(f.width), high = 0;
            for (int32_t c = 0; c < f.width; ++c)
                for (int b = 0; b < L; ++b)
                    if (values[(r * f.width + c) * L + b] != 0) {
                        if (c < low) low = c;
                        high = c + 1;
                        break;
                    }
            if (low < high) { from[r] = low; to[r] = high; }
        }
    }
};

template <class T, class W>
inline void bundle_sums(const W* w, const Run* run, const Run* last, const Bundle<T>& x,
                        int64_t width, T* out) {
    typedef typename Lanes<T>::V V;
    constexpr int L = Bundle<T>::L;
    V sum[4] = {};
    for (; run < last; w += run->length, ++run) {
        int32_t a = run->column, e = a + run->length;
        if (x.from[run->row] > a) a = x.from[run->row];
        if (x.to[run->row] < e) e = x.to[run->row];
        const W* p = w + (a - run->column);
        const T* q = &x.values[0] + (run->row * width + a) * L;
        int n = e - a;
        for (; n >= 4; n -= 4, p += 4, q += 4 * L)
            for (int k = 0; k < 4; ++k) sum[k] += widen(p[k]) * load<V>(q + k * L);
        for (int k = 0; k < n; ++k) sum[k] += widen(p[k]) * load<V>(q + k * L);
    }
    const V total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    std::memcpy(out, &total, sizeof total);
}

// Stimuli beyond what fills bundles, up to a quarter of one.
template <class T, class W, int K>
inline void rest_sums(const Fields& f, const W* w, int64_t u, const Activity<T>& act, int64_t batch,
                      T* y) {
    constexpr int64_t AHEAD = K * BYTES / sizeof(T);
    const Run *run = f.runs + f.first[u], *last = f.runs + f.first[u + 1];
    const W* own = w + f.offsets[u];
    const bool roomy = f.offsets[u + 1] + AHEAD <= f.offsets[f.units];
    for (int64_t b = 0; b < batch; b += BLOCK) {
        const T* q = &act.values[b * act.stride];
        const int32_t *from = &act.from[b / BLOCK * f.rows], *to = &act.to[b / BLOCK * f.rows];
        T out[BLOCK];
        const int64_t n = batch - b < BLOCK ? batch - b : BLOCK;
        if (roomy && n == BLOCK)
            unit_sums<T, W, BLOCK, K>(own, run, last, q, act.stride, from, to, f.width, out);
        else
            for (int64_t k = 0; k < n; ++k) {
                const T* one = q + k * act.stride;
                if (roomy)
                    unit_sums<T, W, 1, K>(own, run, last, one, act.stride, from, to, f.width,
                                          out + k);
                else
                    unit_sums<T, W, 1, 0>(own, run, last, one, act.stride, from, to, f.width,
                                          out + k);
            }
        for (int64_t k = 0; k < n; ++k) y[(b + k) * f.units + u] = out[k];
    }
}

template <class T, class W, int K>
void forward_fields(const Fields& f, const W* w, const T* x, T* y, int64_t batch, int threads) {
    constexpr int64_t L = Bundle<T>::L;
    const int64_t left = batch % L > L / 4 ? 0 : batch % L, bundled = batch - left;
    const Activity<T> act(x + bundled * f.sources, left, f);
    std::vector<Bundle<T>> bundles;
    for (int64_t b = 0; b < bundled; b += L)
        bundles.emplace_back(x + b * f.sources, bundled - b < L ? bundled - b : L, f);
#pragma omp parallel num_threads(threads)
    {
        FlushDenormals flush;
#pragma omp for schedule(dynamic, PORTION)
        for (int64_t u = 0; u < f.units; ++u) {
            const Run *run = f.runs + f.first[u], *last = f.runs + f.first[u + 1];
            for (int64_t g = 0; g < int64_t(bundles.size()); ++g) {
                T out[L];
                bundle_sums<T, W>(w + f.offsets[u], run, last, bundles[g], f.width, out);
                const int64_t n = bundled - g * L < L ? bundled - g * L : L;
                for (int64_t k = 0; k < n; ++k) y[(g * L + k) * f.units + u] = out[k];
            }
            rest_sums<T, W, K>(f, w, u, act, left, y + bundled * f.units);
        }
    }
}

template <class T, class W>
void forward(const Fields& f, const W* w, const T* x, T* y, int64_t batch, int threads) {
    const int64_t lanes = BYTES / sizeof(T);
    switch ((f.longest + lanes - 1) / lanes) {
        case 1: return forward_fields<T, W, 1>(f, w, x, y, batch, threads);
        case 2: return forward_fields<T, W, 2>(f, w, x, y, batch, threads);
        case 3: return forward_fields<T, W, 3>(f, w, x, y, batch, threads);
        case 4: return forward_fields<T, W, 4>(f, w, x, y, batch, threads);
        default: return forward_fields<T, W, 0>(f, w, x, y, batch, threads);
    }
}

// Each share of the units adds into its own copy of the source sheet; the number of shares, not
// the number of threads, fixes the order of summation.
template <class T, class W>
void transpose(const Fields& f, const W* w, const T* g, T* y, int64_t batch, int threads) {
    constexpr int64_t SHARES = 8;
    std::vector<T> parts(SHARES * f.sources);
    for (int64_t b = 0; b < batch; ++b) {
#pragma omp parallel num_threads(threads)
        {
            FlushDenormals flush;
#pragma omp for schedule(static)
            for (int64_t s = 0; s < SHARES; ++s) {
                T* part = &parts[s * f.sources];
                std::memset(part, 0, f.sources * sizeof(T));
                for (int64_t u = f.units * s / SHARES; u < f.units * (s + 1) / SHARES; ++u) {
                    T factor = g[b * f.units + u];
                    if (factor == 0) continue;
                    const W* p = w + f.offsets[u];
                    for (int32_t k = f.first[u]; k < f.first[u + 1]; ++k) {
                        const Run& run = f.runs[k];
                        T* q = part + run.row * f.width + run.column;
                        for (int t = 0; t < run.length; ++t) q[t] += factor * widen(p[t]);
                        p += run.length;
                    }
                }
            }
#pragma omp for schedule(static)
            for (int64_t i = 0; i < f.sources; ++i) {
                T total = 0;
                for (int64_t s = 0; s < SHARES; ++s) total += parts[s * f.sources + i];
                y[b * f.sources + i] = total;
            }
        }
    }
}

template <class T>
void outer(const Fields& f, T* w, const T* x, const T* g, int64_t batch, int threads) {
#pragma omp parallel num_threads(threads)
    {
        FlushDenormals flush;
#pragma omp for schedule(static)
        for (int64_t u = 0; u < f.units; ++u) {
            T* start = w + f.offsets[u];
            std::memset(start, 0, (f.offsets[u + 1] - f.offsets[u]) * sizeof(T));
            for (int64_t b = 0; b < batch; ++b) {
                T factor = g[b * f.units + u];
                T* p = start;
                for (int32_t k = f.first[u]; k < f.first[u + 1]; ++k) {
                    const Run& run = f.runs[k];
                    const T* q = x + b * f.sources + run.row * f.width + run.column;
                    for (int t = 0; t < run.length; ++t) p[t] += factor * q[t];
                    p += run.length;
                }
            }
        }
    }
}

// One learning step of one unit over all fields that are normalised together. A weight of exactly
// zero is no connection and stays zero.
template <class T, class W>
void hebbian_unit(const Fields* fields, W* const* weights, const T* const* pre, const double* rate,
                  int together, const T* post, int64_t batch, int64_t u, int64_t units,
                  std::vector<T>& line) {
    T total = 0;
    size_t room = 0;
    for (int c = 0; c < together; ++c) room += fields[c].offsets[u + 1] - fields[c].offsets[u];
    if (line.size() < room) line.resize(room);
    T* grown = line.data();
    for (int c = 0; c < together; ++c) {
        const Fields& f = fields[c];
        const W* p = weights[c] + f.offsets[u];
        for (int32_t k = f.first[u]; k < f.first[u + 1]; ++k) {
            const Run& run = f.runs[k];
            const int n = run.length;
            const T* q = pre[c] + run.row * f.width + run.column;
            for (int t = 0; t < n; ++t) grown[t] = widen(p[t]);
            for (int64_t b = 0; b < batch; ++b) {
                const T factor = T(rate[c]) * post[b * units + u];
                const T* r = q + b * f.sources;
                for (int t = 0; t < n; ++t) grown[t] += factor * r[t];
            }
            for (int t = 0; t < n; ++t) {
                grown[t] = widen(p[t]) == 0 ? T(0) : grown[t];
                total += grown[t];
            }
            p += n;
            grown += n;
        }
    }
    const T scale = total > 0 ? 1 / total : T(1);
    grown = line.data();
    for (int c = 0; c < together; ++c) {
        W* p = weights[c] + fields[c].offsets[u];
        const int64_t n = fields[c].offsets[u + 1] - fields[c].offsets[u];
        for (int64_t t = 0; t < n; ++t) narrow(grown[t] * scale, p[t]);
        grown += n;
    }
}

template <class T, class W>
void hebbian(const Fields* fields, W* const* weights, const T* const* pre, const double* rate,
             int together, const T* post, int64_t batch, int threads) {
    const int64_t units = fields[0].units;
#pragma omp parallel num_threads(threads)
    {
        FlushDenormals flush;
        std::vector<T> line;
#pragma omp for schedule(dynamic, PORTION)
        for (int64_t u = 0; u < units; ++u) {
            bool active = false;
            for (int64_t b = 0; b < batch; ++b) active |= post[b * units + u] != 0;
            if (active)
                hebbian_unit<T, W>(fields, weights, pre, rate, together, post, batch, u, units,
                                   line);
        }
    }
}

}  // namespace

#define BY_TYPE(CALL)                                   \
    switch (type) {                                     \
        case 0: { typedef float T; typedef float W; CALL; break; }    \
        case 1: { typedef double T; typedef double W; CALL; break; }  \
        case 2: { typedef float T; typedef BFloat W; CALL; break; }   \
        case 3: { typedef float T; typedef Half W; CALL; break; }     \
        default: return 1;                              \
    }                                                   \
    return 0;

extern "C" {

int local_forward(const Fields* f, int type, const void* w, const void* x, void* y, int64_t batch,
                  int threads) {
    BY_TYPE((forward<T, W>(*f, (const W*)w, (const T*)x, (T*)y, batch, threads)))
}

int local_transpose(const Fields* f, int type, const void* w, const void* g, void* y,
                    int64_t batch, int threads) {
    BY_TYPE((transpose<T, W>(*f, (const W*)w, (const T*)g, (T*)y, batch, threads)))
}

int local_outer(const Fields* f, int type, void* w, const void* x, const void* g, int64_t batch,
                int threads) {
    if (type == 0) outer<float>(*f, (float*)w, (const float*)x, (const float*)g, batch, threads);
    else if (type == 1)
        outer<double>(*f, (double*)w, (const double*)x, (const double*)g, batch, threads);
    else return 1;
    return 0;
}

int local_hebbian(const Fields* fields, int type, void* const* weights, const void* const* pre,
                  const double* rates, int together, const void* post, int64_t batch,
                  int threads) {
    BY_TYPE((hebbian<T, W>(fields, (W* const*)weights, (const T* const*)pre, rates, together,
                           (const T*)post, batch, threads)))
}
}
