// Integrate-and-fire neurons over a whole movie, for the CPU. Compiled on demand by _scan.py.
//
//     i1 = i + x;  v1 = v + rate ((v_leak - v) + i1);  z = [v1 > v_th];  reset;  i = decay i1
//
// The plain step in torch defines the numbers: the same operations in the same order, no fused
// multiply-add (-ffp-contract=off), denormal numbers kept. Neurons do not see each other, so every
// thread takes blocks of units through all of time; a block's state stays in the first-level
// cache. The way back starts from states kept every few steps and repeats the steps between,
// so that nothing of the size of the movie is stored. Gradients that have decayed to denormal
// numbers would cost a hundred times a normal one: they count as zero.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef __SSE2__
#include <xmmintrin.h>
#endif

namespace {

constexpr int BLOCK = 2048;  // most units that go through time together
enum Constant { RATE, LEAK, THRESHOLD, RESET, DECAY, CONSTANTS };
enum Surrogate { SUPERSPIKE, ARCTAN, SIGMOID, TRIANGULAR, STRAIGHT_THROUGH };

// The same order as in _scan.py.
struct Scan {
    int64_t steps, units, segment, threads;
    int64_t is_double, synapse, leaky, spiking, subtract, surrogate, learn;
    double alpha;
    const void* constant[CONSTANTS];
    int64_t per_unit[CONSTANTS];  // 0 one number, 1 one per unit
    const void *x, *v, *i;
    int64_t x_stride, grad_stride;  // units from one step to the next; 0 repeats the frame
    void *out, *v_end, *i_end, *v_kept, *i_kept;
    const void *grad_out, *grad_v_end, *grad_i_end;
    void *grad_x, *grad_v, *grad_i;
    void* grad_constant[CONSTANTS];
};

// While one lives, results too small for a normal number become zero in this thread. Inputs are
// left as they are: comparisons with the threshold stay those of the way forward.
class FlushToZero {
#ifdef __SSE2__
    unsigned before = _mm_getcsr();
public:
    FlushToZero() { _mm_setcsr(before | 0x8000u); }
    ~FlushToZero() { _mm_setcsr(before); }
#else
public:
    FlushToZero() {}
    ~FlushToZero() {}
#endif
};

// Pages of 2 MiB: first touching a large tensor in pages of 4 KiB takes longer than the work.
void prefer_large_pages(void* start, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr uintptr_t page = 1 << 21;
    uintptr_t from = (uintptr_t(start) + page - 1) & ~(page - 1);
    uintptr_t to = (uintptr_t(start) + bytes) & ~(page - 1);
    if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
#else
    (void)start, (void)bytes;
#endif
}

template <class T> const T* at(const void* base, int64_t index) {
    return static_cast<const T*>(base) + index;
}
template <class T> T* at(void* base, int64_t index) { return static_cast<T*>(base) + index; }

// Long rows stream well from memory; few units are shared out evenly, in whole cache lines.
int64_t block_size(const Scan& s) {
    const int64_t share = (s.units + s.threads - 1) / s.threads;
    return std::min<int64_t>(BLOCK, (share + 15) / 16 * 16);
}

// What a thread works in: state and constants of one block.
template <class T> struct Room {
    std::vector<T> store = std::vector<T>((CONSTANTS + 4) * BLOCK);
    T* constant(int which) { return &store[which * BLOCK]; }
    T* v() { return &store[CONSTANTS * BLOCK]; }
    T* i() { return &store[(CONSTANTS + 1) * BLOCK]; }
    T* slope() { return &store[(CONSTANTS + 2) * BLOCK]; }

    void load(const Scan& s, int64_t first, int n) {
        for (int c = 0; c < CONSTANTS; ++c) {
            const T* from = at<T>(s.constant[c], s.per_unit[c] ? first : 0);
            for (int u = 0; u < n; ++u) constant(c)[u] = from[s.per_unit[c] ? u : 0];
        }
    }
};

// One step of a block. What the way back needs goes to v1, and for learned constants to i1 and pull.
template <class T, bool SYNAPSE, bool LEAKY, bool SPIKING, bool SUBTRACT, bool OUTPUT, bool LEARN>
inline void step(Room<T>& room, int n, const T* __restrict x, T* __restrict out,
                 T* __restrict v1, T* __restrict i1, T* __restrict pull) {
    T *__restrict v = room.v(), *__restrict i = room.i();
    const T *__restrict rate = room.constant(RATE), *__restrict leak = room.constant(LEAK),
            *__restrict threshold = room.constant(THRESHOLD),
            *__restrict reset = room.constant(RESET), *__restrict decay = room.constant(DECAY);
#pragma omp simd
    for (int u = 0; u < n; ++u) {
        const T drive = SYNAPSE ? i[u] + x[u] : x[u];
        const T toward = LEAKY ? (leak[u] - v[u]) + drive : drive;
        const T after = v[u] + rate[u] * toward;
        const bool fires = SPIKING && after > threshold[u];
        if (!OUTPUT) v1[u] = after;
        if (LEARN) { i1[u] = drive; pull[u] = toward; }
        v[u] = !fires ? after : SUBTRACT ? after - threshold[u] : reset[u];
        if (SYNAPSE) i[u] = drive * decay[u];
        if (OUTPUT) out[u] = SPIKING ? T(fires) : after;
    }
}

template <class T, bool SYNAPSE, bool LEAKY, bool SPIKING, bool SUBTRACT>
void forward(const Scan& s) {
    const int64_t size = block_size(s), blocks = (s.units + size - 1) / size;
    prefer_large_pages(s.out, s.steps * s.units * sizeof(T));
#pragma omp parallel num_threads(int(s.threads))
    {
        Room<T> room;
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t first = block * size;
            const int n = int(std::min<int64_t>(size, s.units - first));
            room.load(s, first, n);
            std::copy_n(at<T>(s.v, first), n, room.v());
            if (SYNAPSE) std::copy_n(at<T>(s.i, first), n, room.i());
            for (int64_t t = 0; t < s.steps; ++t) {
                if (s.v_kept && t % s.segment == 0) {
                    const int64_t place = t / s.segment * s.units + first;
                    std::copy_n(room.v(), n, at<T>(s.v_kept, place));
                    if (SYNAPSE) std::copy_n(room.i(), n, at<T>(s.i_kept, place));
                }
                step<T, SYNAPSE, LEAKY, SPIKING, SUBTRACT, true, false>(
                    room, n, at<T>(s.x, t * s.x_stride + first),
                    at<T>(s.out, t * s.units + first), nullptr, nullptr, nullptr);
            }
            std::copy_n(room.v(), n, at<T>(s.v_end, first));
            if (SYNAPSE) std::copy_n(room.i(), n, at<T>(s.i_end, first));
        }
    }
}

// Slope of the surrogate at v1 - v_th.
template <class T>
inline void slopes(const Scan& s, int n, const T* __restrict v1, const T* __restrict threshold,
                   T* __restrict slope) {
    const T alpha = T(s.alpha);
    for (int u = 0; u < n; ++u) slope[u] = v1[u] - threshold[u];
    switch (s.surrogate) {
        case SUPERSPIKE:
            for (int u = 0; u < n; ++u) {
                const T wide = alpha * std::abs(slope[u]) + 1;
                slope[u] = 1 / (wide * wide);
            }
            break;
        case ARCTAN:
            for (int u = 0; u < n; ++u) {
                const T wide = T(0.5 * M_PI * s.alpha) * slope[u];
                slope[u] = 1 / (1 + wide * wide);
            }
            break;
        case SIGMOID:
            for (int u = 0; u < n; ++u) {
                const T small = std::exp(-std::abs(alpha * slope[u]));
                slope[u] = 4 * small / ((1 + small) * (1 + small));
            }
            break;
        case TRIANGULAR:
            for (int u = 0; u < n; ++u)
                slope[u] = std::max(T(0), 1 - alpha * std::abs(slope[u]));
            break;
        default:
            std::fill_n(slope, n, T(1));
    }
}

// Gradients of one block on their way back through time.
template <class T> struct Back {
    std::vector<T> store = std::vector<T>((CONSTANTS + 2) * BLOCK);
    T* constant(int which) { return &store[which * BLOCK]; }
    T* v() { return &store[CONSTANTS * BLOCK]; }
    T* i() { return &store[(CONSTANTS + 1) * BLOCK]; }
};

template <class T, bool SYNAPSE, bool LEAKY, bool SPIKING, bool SUBTRACT, bool LEARN>
inline void step_back(Room<T>& room, Back<T>& back, int n, const T* __restrict v1,
                      const T* __restrict i1, const T* __restrict pull,
                      const T* __restrict grad_out, T* __restrict grad_x) {
    const T *__restrict rate = room.constant(RATE), *__restrict threshold = room.constant(THRESHOLD),
            *__restrict reset = room.constant(RESET), *__restrict decay = room.constant(DECAY),
            *__restrict slope = room.slope();
    T *__restrict grad_v = back.v(), *__restrict grad_i = back.i();
    T *__restrict grad_rate = back.constant(RATE), *__restrict grad_leak = back.constant(LEAK),
      *__restrict grad_threshold = back.constant(THRESHOLD),
      *__restrict grad_reset = back.constant(RESET), *__restrict grad_decay = back.constant(DECAY);
#pragma omp simd
    for (int u = 0; u < n; ++u) {
        const T after = grad_v[u];
        T before;
        if (SPIKING) {
            const bool fires = v1[u] > threshold[u];
            const T from_reset = SUBTRACT ? -(after * threshold[u])
                                          : after * reset[u] - after * v1[u];
            const T surrogate = (grad_out[u] + from_reset) * slope[u];
            const T through = !SUBTRACT && fires ? T(0) : after;
            before = through + surrogate;
            if (LEARN) {
                const T fired = fires ? after : T(0);
                grad_threshold[u] -= SUBTRACT ? surrogate + fired : surrogate;
                if (!SUBTRACT) grad_reset[u] += fired;
            }
        } else {
            before = after + grad_out[u];
        }
        const T drive = before * rate[u];
        grad_v[u] = LEAKY ? before - drive : before;
        if (LEARN) {
            grad_rate[u] += before * pull[u];
            grad_leak[u] += drive;
        }
        if (SYNAPSE) {
            if (LEARN) grad_decay[u] += grad_i[u] * i1[u];
            grad_i[u] = grad_i[u] * decay[u] + drive;
            grad_x[u] = grad_i[u];
        } else {
            grad_x[u] = drive;
        }
    }
}

template <class T, bool SYNAPSE, bool LEAKY, bool SPIKING, bool SUBTRACT, bool LEARN>
void backward(const Scan& s) {
    const int64_t size = block_size(s), blocks = (s.units + size - 1) / size;
    prefer_large_pages(s.grad_x, s.steps * s.units * sizeof(T));
#pragma omp parallel num_threads(int(s.threads))
    {
        Room<T> room;
        Back<T> back;
        std::vector<T> kept((LEARN ? 3 : 1) * s.segment * BLOCK);
        T *v1 = kept.data(), *i1 = v1 + s.segment * BLOCK, *pull = i1 + s.segment * BLOCK;
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; ++block) {
            const int64_t first = block * size;
            const int n = int(std::min<int64_t>(size, s.units - first));
            room.load(s, first, n);
            std::fill(back.store.begin(), back.store.end(), T(0));
            std::copy_n(at<T>(s.grad_v_end, first), n, back.v());
            if (SYNAPSE) std::copy_n(at<T>(s.grad_i_end, first), n, back.i());
            for (int64_t part = (s.steps - 1) / s.segment; part >= 0; --part) {
                const int64_t start = part * s.segment, place = part * s.units + first;
                const int64_t count = std::min(s.segment, s.steps - start);
                std::copy_n(at<T>(s.v_kept, place), n, room.v());
                if (SYNAPSE) std::copy_n(at<T>(s.i_kept, place), n, room.i());
                for (int64_t k = 0; k < count; ++k) {
                    const T* x = at<T>(s.x, (start + k) * s.x_stride + first);
                    step<T, SYNAPSE, LEAKY, SPIKING, SUBTRACT, false, LEARN>(
                        room, n, x, nullptr, v1 + k * BLOCK, i1 + k * BLOCK, pull + k * BLOCK);
                }
                const FlushToZero scope;
                for (int64_t k = count - 1; k >= 0; --k) {
                    if (SPIKING)
                        slopes(s, n, v1 + k * BLOCK, room.constant(THRESHOLD), room.slope());
                    step_back<T, SYNAPSE, LEAKY, SPIKING, SUBTRACT, LEARN>(
                        room, back, n, v1 + k * BLOCK, i1 + k * BLOCK, pull + k * BLOCK,
                        at<T>(s.grad_out, (start + k) * s.grad_stride + first),
                        at<T>(s.grad_x, (start + k) * s.units + first));
                }
            }
            std::copy_n(back.v(), n, at<T>(s.grad_v, first));
            if (SYNAPSE) std::copy_n(back.i(), n, at<T>(s.grad_i, first));
            if (LEARN)
                for (int c = 0; c < CONSTANTS; ++c)
                    if (s.grad_constant[c])
                        std::copy_n(back.constant(c), n, at<T>(s.grad_constant[c], first));
        }
    }
}

template <class T, bool SYNAPSE, bool LEAKY, bool SPIKING, bool SUBTRACT>
void either(const Scan& s, bool back) {
    if (!back) forward<T, SYNAPSE, LEAKY, SPIKING, SUBTRACT>(s);
    else if (s.learn) backward<T, SYNAPSE, LEAKY, SPIKING, SUBTRACT, true>(s);
    else backward<T, SYNAPSE, LEAKY, SPIKING, SUBTRACT, false>(s);
}

template <class T> void neuron(const Scan& s, bool back) {
    const bool synapse = s.synapse, subtract = s.subtract;
    if (!s.leaky) {
        subtract ? either<T, false, false, true, true>(s, back)
                 : either<T, false, false, true, false>(s, back);
    } else if (!s.spiking) {
        synapse ? either<T, true, true, false, false>(s, back)
                : either<T, false, true, false, false>(s, back);
    } else if (synapse) {
        subtract ? either<T, true, true, true, true>(s, back)
                 : either<T, true, true, true, false>(s, back);
    } else {
        subtract ? either<T, false, true, true, true>(s, back)
                 : either<T, false, true, true, false>(s, back);
    }
}

}  // namespace

extern "C" void scan_forward(const Scan* s) {
    s->is_double ? neuron<double>(*s, false) : neuron<float>(*s, false);
}

extern "C" void scan_backward(const Scan* s) {
    s->is_double ? neuron<double>(*s, true) : neuron<float>(*s, true);
}
