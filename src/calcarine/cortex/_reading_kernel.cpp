// Images read at points, bilinearly, for the CPU, and what that teaches images and points.
// Compiled on demand by _reading_kernel.py.
//
//     x = clip(((u + 1) W - 1) / 2)       value = sum over the four cells around, nothing unknown
//
// Images have one channel after the other, or all channels of a cell side by side; the second is
// how a network leaves them, and takes one vector per neighbour. Where gradients are summed an
// item belongs to one thread: the same numbers whatever the threads.

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace {

constexpr int TILE = 64;        // points that are located together
constexpr int64_t PIECES = 32;  // pieces of work per image; ours

// The same order as in _reading_kernel.py.
struct Reading {
    int64_t is_double, items, channels, height, width, points, shared, together, threads;
    double edge_u, edge_v;
    const void *image, *lattice, *gradient;
    void *values, *known, *grad_image, *grad_lattice;
};

// Where points lie between four cells each, and by how much a step of a point moves that.
template <class T>
struct Places {
    T x[TILE], y[TILE];           // shares of the right and the lower cells
    T known[TILE];                // 1 or 0; not a number where the point is not one
    T slope_x[TILE], slope_y[TILE];
    int32_t at[TILE];             // the upper left cell
    int32_t right[TILE], down[TILE];  // steps to its neighbours; 0 at the border
};

template <class T>
void locate(const Reading& job, const T* u, const T* v, int count, Places<T>& places) {
    const int32_t width = job.width, last_x = job.width - 1, last_y = job.height - 1;
    const T half_x = T(job.width) / 2, half_y = T(job.height) / 2;
    const T edge_u = job.edge_u, edge_v = job.edge_v;
#pragma omp simd
    for (int p = 0; p < count; p++) {
        const T x = (u[p] + 1) * half_x - T(0.5), y = (v[p] + 1) * half_y - T(0.5);
        const T in_x = x > 0 ? (x < last_x ? x : T(last_x)) : T(0);
        const T in_y = y > 0 ? (y < last_y ? y : T(last_y)) : T(0);
        const int32_t column = static_cast<int32_t>(in_x), row = static_cast<int32_t>(in_y);
        const T known = (std::abs(u[p]) <= edge_u) & (std::abs(v[p]) <= edge_v) ? T(1) : T(0);
        places.at[p] = row * width + column;
        places.right[p] = column < last_x ? 1 : 0, places.down[p] = row < last_y ? width : 0;
        places.x[p] = in_x - column, places.y[p] = in_y - row;
        places.known[p] = (u[p] != u[p]) | (v[p] != v[p]) ? u[p] + v[p] : known;
        places.slope_x[p] = (x > 0) & (x < last_x) ? half_x : T(0);
        places.slope_y[p] = (y > 0) & (y < last_y) ? half_y : T(0);
    }
}

// CHANNELS is known when compiling, or 0; channels of a cell are side by side or planes.
template <class T, int CHANNELS, bool TOGETHER>
struct Reader {
    const Reading& job;
    // Functions, because what they return is known when compiling.
    int64_t channels() const { return CHANNELS ? CHANNELS : job.channels; }
    int64_t cells() const { return job.height * job.width; }
    int64_t step() const { return TOGETHER ? channels() : 1; }  // to the next cell or point

    void find(int64_t item, int64_t point, int count, Places<T>& places) const {
        const T* u = static_cast<const T*>(job.lattice) + (job.shared ? 0 : 2 * item * job.points);
        locate(job, u + point, u + job.points + point, count, places);
    }

    const T* image(int64_t item) const {
        return static_cast<const T*>(job.image) + item * channels() * cells();
    }

    void read(int64_t item, int64_t point, int count, const Places<T>& places) const {
        T* out = static_cast<T*>(job.values) + item * channels() * job.points + point * step();
        for (int64_t plane = 0; plane < (TOGETHER ? 1 : channels()); plane++)
            for (int p = 0; p < count; p++) {
                const T x = places.x[p], y = places.y[p], known = places.known[p];
                const T *a = image(item) + plane * cells() + places.at[p] * step();
                const T *b = a + places.right[p] * step(), *c = a + places.down[p] * step();
                const T* d = c + places.right[p] * step();
                const T right = known * x, left = known * (1 - x);
                T* to = out + plane * job.points + p * step();
#pragma omp simd
                for (int64_t k = 0; k < step(); k++)
                    to[k] = (left * a[k] + right * b[k]) * (1 - y) + (left * c[k] + right * d[k]) * y;
            }
    }

    void forward() const {
        const int64_t length = (job.points + PIECES - 1) / PIECES;
        const int64_t rounds = job.shared ? 1 : job.items, together = job.items / rounds;
#pragma omp parallel for schedule(static) num_threads(job.threads)
        for (int64_t task = 0; task < rounds * PIECES; task++) {
            const int64_t round = task / PIECES, begin = task % PIECES * length;
            const int64_t end = std::min(job.points, begin + length);
            for (int64_t point = begin; point < end; point += TILE) {
                Places<T> places;
                const int count = std::min<int64_t>(TILE, end - point);
                find(round, point, count, places);
                uint8_t* known = static_cast<uint8_t*>(job.known) + round * job.points + point;
                for (int p = 0; p < count; p++) known[p] = places.known[p] == 1;
                for (int64_t item = 0; item < together; item++)
                    read(round + item, point, count, places);
            }
        }
    }

    void teach_image(const Places<T>& places, int p, const T* out, T* to) const {
        const T x = places.x[p], y = places.y[p];
        const int64_t ways[4] = {0, places.right[p], places.down[p],
                                 int64_t(places.down[p]) + places.right[p]};
        const T weights[4] = {(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y};
        for (int corner = 0; corner < 4; corner++) {
            T* at = to + (places.at[p] + ways[corner]) * step();
            const T weight = places.known[p] * weights[corner];
#pragma omp simd
            for (int64_t k = 0; k < step(); k++) at[k] += weight * out[k];
        }
    }

    void teach_point(const Places<T>& places, int p, const T* out, const T* from, T* to) const {
        const T *a = from + places.at[p] * step(), *b = a + places.right[p] * step();
        const T *c = a + places.down[p] * step(), *d = c + places.right[p] * step();
        const T share_x = places.x[p], share_y = places.y[p];
        T x = 0, y = 0;
#pragma omp simd reduction(+ : x, y)
        for (int64_t k = 0; k < step(); k++) {
            const T upper = b[k] - a[k], lower = d[k] - c[k];
            x += out[k] * (upper + share_y * (lower - upper));
            y += out[k] * (c[k] - a[k] + share_x * (lower - upper));
        }
        to[p] += x * places.slope_x[p] * places.known[p];
        to[job.points + p] += y * places.slope_y[p] * places.known[p];
    }

    void teach(int64_t item) const {
        T* to_image = static_cast<T*>(job.grad_image);
        T* to_u = static_cast<T*>(job.grad_lattice);
        if (to_image) std::fill_n(to_image += item * channels() * cells(), channels() * cells(), T(0));
        if (to_u) std::fill_n(to_u += 2 * item * job.points, 2 * job.points, T(0));
        const T* gradient = static_cast<const T*>(job.gradient) + item * channels() * job.points;
        for (int64_t point = 0; point < job.points; point += TILE) {
            Places<T> places;
            const int count = std::min<int64_t>(TILE, job.points - point);
            find(item, point, count, places);
            for (int64_t plane = 0; plane < (TOGETHER ? 1 : channels()); plane++)
                for (int p = 0; p < count; p++) {
                    if (places.known[p] == 0) continue;
                    const T* out = gradient + plane * job.points + (point + p) * step();
                    if (to_image) teach_image(places, p, out, to_image + plane * cells());
                    if (to_u) teach_point(places, p, out, image(item) + plane * cells(), to_u + point);
                }
        }
    }

    void backward() const {
#pragma omp parallel for schedule(static) num_threads(job.threads)
        for (int64_t item = 0; item < job.items; item++) teach(item);
    }
};

template <class T>
void run(const Reading& job, bool back) {
    const auto either = [&](const auto& reader) { back ? reader.backward() : reader.forward(); };
    if (!job.together)
        either(Reader<T, 0, false>{job});
    else if (job.channels == 8)
        either(Reader<T, 8, true>{job});
    else
        either(Reader<T, 0, true>{job});
}

}  // namespace

extern "C" {

void reading_forward(const Reading* job) {
    job->is_double ? run<double>(*job, false) : run<float>(*job, false);
}

void reading_backward(const Reading* job) {
    job->is_double ? run<double>(*job, true) : run<float>(*job, true);
}
}
