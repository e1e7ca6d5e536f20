// relu(convolution(reflect_pad(x))) and its gradients, for the CPU. Compiled on demand by
// _reflect_kernel.py.
//
// Some tiles at a time are brought into the transform domain (_reflect_kernel_tiles.h), multiplied
// there and brought back, all by one thread and in its cache. No padded copy is made: a tile reads
// and writes the pixels that its border is a reflection of.
//
// Maps are (item, row, column, channel), weights (output, row, column, input). A group is up to
// LANES channels of one map. What is multiplied lies as
//     tiles    [group][point][tile][LANES]
//     weights  [group of what results][point][channel of what is multiplied][LANES]
//     sums     [part][group of outputs][group of inputs][point][input][LANES outputs]
//
// Every number is summed in the same order whatever the number of threads is.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "_reflect_kernel_maps.h"

namespace {

// What there is to do, and where its memory lies.
struct Plan {
    const Layer& l;
    Map maps[MOST_SOURCES];
    std::vector<Group> in, out;
    int64_t inputs = 0, tiles, bands, parts;
    int64_t own_size, sums_size = 0, room = 0;
    float *weights, *own, *sums = nullptr;  // own: of every thread

    Plan(const Layer& layer, bool backward) : l(layer) {
        tiles = l.batch * up(l.height, 4) * up(l.width, 4);
        bands = l.batch * up(up(l.height, 4), BAND);
        parts = std::min(bands, clamp(tiles / PART, 1, MOST_PARTS));
        for (int64_t s = 0; s < l.count; inputs += l.channels[s++]) {
            const int64_t depth = l.channels[s];
            float* spill = l.source_gradients[s] ? take(bands * 2 * l.width * depth) : nullptr;
            maps[s] = {l.sources[s], l.source_gradients[s], spill, depth};
            for (int64_t c = 0; c < depth; c += LANES)
                in.push_back({&maps[s], c, std::min(LANES, depth - c), inputs + c});
        }
        for (int64_t c = 0; c < l.outputs; c += LANES)
            out.push_back({nullptr, c, std::min(LANES, l.outputs - c), c});
        const int64_t n = in.size(), m = out.size();
        weights = take(POINTS * LANES * (backward ? n * l.outputs : m * inputs));
        own_size = POINTS * GAP * (1 + (backward ? 1 + m : n));
        own = take(l.threads * own_size);
        if (!backward || !l.weight_gradient) return;
        sums_size = n * m * POINTS * LANES * LANES;
        parts = std::min(parts, std::max(FEW_PARTS, MOST_SUMS / sums_size));
        sums = take(parts * sums_size);
    }

    float* take(int64_t size) {
        float* p = l.scratch + room;
        room += up(size, LANES) * LANES;
        return p;
    }

    void forward(int64_t block, float* x) const {
        float* products = x + in.size() * POINTS * GAP;
        const std::vector<Place> places = some(block * BLOCK, tiles);
        for (size_t k = 0; k < in.size(); ++k)
            bring_input(l, places, in[k], x + k * POINTS * GAP);
        for (size_t k = 0; k < out.size(); ++k) {
            multiply_points(places.size(), x, in, inputs, weights + k * POINTS * inputs * LANES,
                            products);
            finish_output(l, places, out[k], products);
        }
    }

    std::vector<Place> some(int64_t begin, int64_t end) const {
        std::vector<Place> places;
        places.reserve(BLOCK);
        for (int64_t t = begin; t < std::min(begin + BLOCK, end); ++t) places.emplace_back(l, t);
        return places;
    }

    void backward(int64_t part, float* x) const {
        float* sum = sums + part * sums_size;
        if (sums) std::fill_n(sum, sums_size, 0.0f);
        for (int64_t b = part * bands / parts; b < (part + 1) * bands / parts; ++b)
            backward_band(Band(l, b), x, sum);
    }

    void backward_band(const Band& band, float* x, float* sum) const {
        const int64_t across = up(l.width, 4), start = band.item * up(l.height, 4);
        const int64_t end = (start + up(band.end, 4)) * across;
        float *products = x + POINTS * GAP, *dy = products + POINTS * GAP;
        int64_t cleared = std::max<int64_t>(band.begin - 1, 0);
        for (int64_t tile = (start + band.begin / 4) * across; tile < end; tile += BLOCK) {
            const std::vector<Place> places = some(tile, end);
            cleared = clear(band, cleared, places.back().top + 5);
            for (size_t o = 0; o < out.size(); ++o)
                bring_gradient(l, places, out[o], dy + o * POINTS * GAP);
            for (size_t i = 0; i < in.size(); ++i) {
                if (in[i].map->dx) {
                    multiply_points(places.size(), dy, out, l.outputs,
                                    weights + i * POINTS * l.outputs * LANES, products);
                    finish_input(l, band, places, in[i], products);
                }
                if (!sums) continue;
                bring_input(l, places, in[i], x);
                for (size_t o = 0; o < out.size(); ++o) {
                    const auto add = in[i].n > ROWS / 2 ? correlate<ROWS> : correlate<ROWS / 2>;
                    add(places.size(), in[i].n, x, dy + o * POINTS * GAP,
                        sum + (o * in.size() + i) * POINTS * LANES * LANES);
                }
            }
        }
    }

    // Rows that the next tiles are the first to add to.
    int64_t clear(const Band& band, int64_t from, int64_t to) const {
        to = std::min({to, band.end + 1, l.height});
        for (int64_t s = 0; s < l.count; ++s)
            for (int64_t y = from; maps[s].dx && y < to; ++y)
                std::fill_n(band.row(l, maps[s], y), l.width * maps[s].depth, 0.0f);
        return std::max(from, to);
    }

    // Add what a band and the one above it gave to each other's rows.
    void join(int64_t index) const {
        const Band band(l, index);
        if (band.begin == 0) return;
        const Band above(l, index - 1);
        for (int64_t s = 0; s < l.count; ++s) {
            if (!maps[s].dx) continue;
            const int64_t size = l.width * maps[s].depth;
            float* low = band.row(l, maps[s], band.begin);
            float* high = above.row(l, maps[s], band.begin - 1);
            const float *to_low = above.row(l, maps[s], band.begin),
                        *to_high = band.row(l, maps[s], band.begin - 1);
            for (int64_t k = 0; k < size; ++k) low[k] += to_low[k];
            for (int64_t k = 0; k < size; ++k) high[k] += to_high[k];
        }
    }

    void pack_forward(int64_t i, size_t k) const {
        const Group& g = out[k];
        pack(l.weight + g.first * 9 * inputs + i, 9 * inputs, inputs, g.n,
             weights + (k * POINTS * inputs + i) * LANES, inputs * LANES);
    }

    void pack_backward(int64_t o, size_t k) const {
        pack(l.weight + o * 9 * inputs + in[k].first, 1, inputs, in[k].n,
             weights + (k * POINTS * l.outputs + o) * LANES, l.outputs * LANES);
    }

    // The gradient of the weights between one input channel and a group of outputs.
    void finish_weight(size_t o, size_t i, int64_t lane) const {
        const float* s = sums + (o * in.size() + i) * POINTS * LANES * LANES + lane * LANES;
        for (int64_t c = 0; c < LANES; c += WIDTH) {
            V all[36] = {}, half[18], taps[9];
            for (int64_t part = 0; part < parts; ++part)
                for (int64_t k = 0; k < POINTS; ++k)
                    all[k] += at(s + part * sums_size + k * LANES * LANES + c);
            for (int x = 0; x < 6; ++x) spread_transposed<V, 6, 6>(all + x, half + x);
            for (int y = 0; y < 3; ++y) spread_transposed<V, 1, 1>(half + y * 6, taps + y * 3);
            for (int64_t k = c; k < std::min(c + WIDTH, out[o].n); ++k)
                for (int tap = 0; tap < 9; ++tap)
                    l.weight_gradient[((out[o].first + k) * 9 + tap) * inputs + in[i].first +
                                      lane] = taps[tap][k - c];
        }
    }
};

}  // namespace

extern "C" {

// Numbers of scratch memory.
int64_t reflect_scratch(const Layer* l, int64_t backward) { return Plan(*l, backward).room; }

void reflect_forward(const Layer* l) {
    const Plan plan(*l, false);
    advise(l->y, l->batch * l->height * l->width * l->outputs);
    const int64_t outs = plan.out.size();
#pragma omp parallel num_threads(l->threads)
    {
        FlushDenormals flush;
        float* own = plan.own + omp_get_thread_num() * plan.own_size;
#pragma omp for schedule(static) collapse(2)
        for (int64_t k = 0; k < outs; ++k)
            for (int64_t i = 0; i < plan.inputs; ++i) plan.pack_forward(i, k);
#pragma omp for schedule(dynamic, 2)
        for (int64_t block = 0; block < up(plan.tiles, BLOCK); ++block) plan.forward(block, own);
    }
}

void reflect_backward(const Layer* l) {
    const Plan plan(*l, true);
    for (int64_t s = 0; s < l->count; ++s)
        advise(l->source_gradients[s], l->batch * l->height * l->width * l->channels[s]);
    const int64_t ins = plan.in.size(), outs = plan.out.size();
#pragma omp parallel num_threads(l->threads)
    {
        FlushDenormals flush;
        float* own = plan.own + omp_get_thread_num() * plan.own_size;
#pragma omp for schedule(static) collapse(2)
        for (int64_t k = 0; k < ins; ++k)
            for (int64_t o = 0; o < l->outputs; ++o) plan.pack_backward(o, k);
#pragma omp for schedule(dynamic)
        for (int64_t part = 0; part < plan.parts; ++part) plan.backward(part, own);
#pragma omp for schedule(static)
        for (int64_t band = 0; band < plan.bands; ++band) plan.join(band);
        if (plan.sums) {
#pragma omp for schedule(static) collapse(2)
            for (int64_t k = 0; k < outs * ins; ++k)
                for (int64_t lane = 0; lane < LANES; ++lane)
                    if (lane < plan.in[k % ins].n) plan.finish_weight(k / ins, k % ins, lane);
        }
    }
}
}
