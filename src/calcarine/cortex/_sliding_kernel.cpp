// Planes slid over planes, for the CPU: correlation with a small kernel, how much two signals
// differ when one of them is shifted, and the same signals at half the resolution. Compiled on
// demand by _sliding_kernel.py.
//
//     out[y, x]       = sum over i, j of kernel[i, j] in[y + i, x + j]        inside only
//     to kernel[i, j] = sum over y, x of gradient[y, x] in[y + i, x + j]
//     difference      = sum over y, x of known |first[y + dy, x + dx] - second[y, x]|
//     halved          = mean of the known ones of 2 x 2; known where all four are
//
// Sums run along rows in the dtype, and over rows and items in double, in a fixed order: the same
// numbers whatever the threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

constexpr int TILE = 64;  // outputs that are summed together

// The same order as in _sliding_kernel.py.
struct Sliding {
    int64_t is_double, items, height, width, rows, columns, threads;
    const void *planes, *kernel, *gradient;
    void* out;
};

struct Shifted {
    int64_t is_double, items, height, width, tried, top, left, rows, columns, masks, threads;
    int64_t first_step, second_step;  // from one item to the next
    const void *first, *second, *known, *shifts;
    void *difference, *count;
};

struct Halving {
    int64_t is_double, items, height, width, step, masks, threads;
    const void *planes, *known;
    void *halved, *all_known;
};

template <class T>
void correlate(const Sliding& job) {
    const int64_t height = job.height - job.rows + 1, width = job.width - job.columns + 1;
    const T* kernel = static_cast<const T*>(job.kernel);
#pragma omp parallel for schedule(static) num_threads(job.threads)
    for (int64_t line = 0; line < job.items * height; line++) {
        const int64_t item = line / height, y = line % height;
        const T* in = static_cast<const T*>(job.planes) + (item * job.height + y) * job.width;
        T* out = static_cast<T*>(job.out) + line * width;
        for (int64_t x = 0; x < width; x += TILE) {
            const int64_t count = std::min<int64_t>(TILE, width - x);
            T sum[TILE] = {};
            for (int64_t i = 0; i < job.rows; i++)
                for (int64_t j = 0; j < job.columns; j++) {
                    const T* from = in + i * job.width + x + j;
                    const T weight = kernel[i * job.columns + j];
                    if (count == TILE)
                        for (int p = 0; p < TILE; p++) sum[p] += weight * from[p];
                    else
                        for (int p = 0; p < count; p++) sum[p] += weight * from[p];
                }
            std::copy_n(sum, count, out + x);
        }
    }
}

template <class T>
T dot(const T* a, const T* b, int64_t count) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t x = 0; x < count; x++) sum += a[x] * b[x];
    return sum;
}

template <class T>
void to_kernel(const Sliding& job) {
    const int64_t height = job.height - job.rows + 1, width = job.width - job.columns + 1;
    const int64_t size = job.rows * job.columns;
    std::vector<double> sums(job.items * size);
#pragma omp parallel for schedule(static) num_threads(job.threads)
    for (int64_t item = 0; item < job.items; item++) {
        const T* in = static_cast<const T*>(job.planes) + item * job.height * job.width;
        const T* gradient = static_cast<const T*>(job.gradient) + item * height * width;
        double* sum = sums.data() + item * size;
        for (int64_t y = 0; y < height; y++)
            for (int64_t i = 0; i < job.rows; i++)
                for (int64_t j = 0; j < job.columns; j++)
                    sum[i * job.columns + j] +=
                        dot(gradient + y * width, in + (y + i) * job.width + j, width);
    }
    for (int64_t k = 0; k < size; k++) {
        double sum = 0;
        for (int64_t item = 0; item < job.items; item++) sum += sums[item * size + k];
        static_cast<T*>(job.out)[k] = sum;
    }
}

template <class T>
T apart(const T* a, const T* b, int64_t count) {
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t x = 0; x < count; x++) sum += std::abs(a[x] - b[x]);
    return sum;
}

template <class T>
void apart(const T* a, const T* b, const T* in_a, const T* in_b, int64_t count, T& difference,
           T& known) {
    T sum = 0, both = 0;
#pragma omp simd reduction(+ : sum, both)
    for (int64_t x = 0; x < count; x++) {
        const T in = in_a[x] * in_b[x];
        sum += std::abs(a[x] - b[x]) * in;
        both += in;
    }
    difference = sum, known = both;
}

template <class T>
void compare(const Shifted& job) {
    const int64_t plane = job.height * job.width;
    const int64_t* shifts = static_cast<const int64_t*>(job.shifts);
#pragma omp parallel for schedule(static) num_threads(job.threads)
    for (int64_t task = 0; task < job.items * job.tried; task++) {
        const int64_t item = task / job.tried, dx = shifts[2 * task], dy = shifts[2 * task + 1];
        const T* first = static_cast<const T*>(job.first) + item * job.first_step;
        const T* second = static_cast<const T*>(job.second) + item * job.second_step;
        const T* known = static_cast<const T*>(job.known);
        if (known && job.masks > 1) known += item * plane;
        const int64_t from = std::max(job.left, -dx);
        const int64_t to = std::min(job.left + job.columns, job.width - dx);
        const int64_t width = std::max<int64_t>(0, to - from);
        double difference = 0, count = 0;
        for (int64_t y = std::max(job.top, -dy);
             y < std::min(job.top + job.rows, job.height - dy); y++) {
            const int64_t there = y * job.width + from, here = there + dy * job.width + dx;
            T sum = 0, both = width;
            if (known)
                apart(first + here, second + there, known + here, known + there, width, sum, both);
            else
                sum = apart(first + here, second + there, width);
            difference += sum, count += both;
        }
        static_cast<T*>(job.difference)[task] = difference;
        static_cast<T*>(job.count)[task] = count;
    }
}

// The first items write the masks.
template <class T>
void halve(const Halving& job) {
    const int64_t height = job.height / 2, width = job.width / 2;
#pragma omp parallel for schedule(static) num_threads(job.threads)
    for (int64_t line = 0; line < job.items * height; line++) {
        const int64_t item = line / height, y = line % height, mask = job.masks > 1 ? item : 0;
        const T* a = static_cast<const T*>(job.planes) + item * job.step + 2 * y * job.width;
        const T* k = static_cast<const T*>(job.known) + (mask * job.height + 2 * y) * job.width;
        const T *b = a + job.width, *l = k + job.width;
        T* out = static_cast<T*>(job.halved) + line * width;
        T* all = static_cast<T*>(job.all_known) + (mask * height + y) * width;
#pragma omp simd
        for (int64_t x = 0; x < width; x++) {
            const T count = (k[2 * x] + k[2 * x + 1]) + (l[2 * x] + l[2 * x + 1]);
            const T sum = (a[2 * x] * k[2 * x] + a[2 * x + 1] * k[2 * x + 1]) +
                          (b[2 * x] * l[2 * x] + b[2 * x + 1] * l[2 * x + 1]);
            out[x] = sum / (count > 1 ? count : T(1));
        }
        if (item == mask)
            for (int64_t x = 0; x < width; x++)
                all[x] = (k[2 * x] + k[2 * x + 1]) + (l[2 * x] + l[2 * x + 1]) > T(3.96);
    }
}

}  // namespace

extern "C" {

void sliding_correlate(const Sliding* job) {
    job->is_double ? correlate<double>(*job) : correlate<float>(*job);
}

void sliding_to_kernel(const Sliding* job) {
    job->is_double ? to_kernel<double>(*job) : to_kernel<float>(*job);
}

void sliding_compare(const Shifted* job) {
    job->is_double ? compare<double>(*job) : compare<float>(*job);
}

void sliding_halve(const Halving* job) {
    job->is_double ? halve<double>(*job) : halve<float>(*job);
}
}
