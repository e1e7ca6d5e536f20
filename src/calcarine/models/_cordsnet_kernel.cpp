// One step of all areas of CordsNet, for the CPU. Compiled on demand by _cordsnet_kernel.py.
//
// A 3 x 3 convolution of stride 1 is computed tile by tile in the transform domain (lavin2016): an
// M x M tile of the output needs (M + 2)^2 products per pair of channels instead of 9 M^2. There
// the recurrent and the feed-forward convolution of an area are one product over the channels of
// both. Everything else is gathered into rows first: a product with one point.
//
// Rates are (item, row, column, channel). What is multiplied lies as
//     x        [point][block of tiles][channel / LANES][tile][LANES]
//     weights  [output channel / PANEL][point][channel][PANEL]
//
// A step has four stages, each of which reads what the one before wrote: tiles and rows are brought
// in place; the stride-2 products; tiles of what these gave; all areas. An area of many tiles is
// done block by block by one thread each, whose tiles never leave its cache; one of few tiles and
// many weights panel by panel.
//
// Every number is summed in the same order whatever the threads, the batch and its grouping are.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "_cordsnet_kernel_tiles.h"

namespace {

constexpr int64_t TOGETHER = 4;  // blocks of tiles that share one reading of the weights
constexpr int64_t MOST_POINTS = 36;

struct Area {
    int64_t channels, height, width, tile;
    const float *rates, *bias, *speed;      // speed: dt / tau of every unit, or none
    const float *inside, *down, *skip;      // weights; none where the area has no such connection
    float* after;
    int64_t bias_stride;                    // from item to item; 0 where all share it
    float rate;                             // dt / tau of all units
};

struct Network {
    int64_t count, batch, group, threads;
    float* scratch;
    Area areas[8];
};

// Where a channel of a block of `size` tiles lies.
inline int64_t row(int64_t channel, int64_t size) {
    return channel / LANES * LANES * size + channel % LANES;
}

inline int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The tiles of one product, from number `begin` of an area's on, and where its blocks begin.
struct Product {
    int64_t points, inputs, outputs, tiles;
    const float* weights;
    float* x;
    int64_t begin;

    int64_t blocks() const { return up(tiles, ROWS); }
    int64_t first(int64_t block) const { return block * tiles / blocks(); }
    float* place(int64_t point, int64_t tile) const {
        return x + (point * tiles + tile) * inputs;
    }
    // The same for one block, which is brought elsewhere.
    Product part(int64_t block, float* elsewhere) const {
        const int64_t size = first(block + 1) - first(block);
        return {points, inputs, outputs, size, weights, elsewhere, begin + first(block)};
    }
};

// ------------------------------------------------------------------------------ transforms

// Where a tile lies in its area.
struct Corner {
    int64_t item, row, column;
    Corner(const Area& a, int64_t tile) {
        const int64_t across = up(a.width, a.tile), each = across * up(a.height, a.tile);
        item = tile / each;
        row = tile % each / across * a.tile;
        column = tile % across * a.tile;
    }
};

// Bring one tile of a map of `depth` channels into the transform domain, from input `offset` on.
template <int M>
void transform(const Area& a, const Product& p, const float* map, int64_t depth, int64_t offset,
               bool rectify, int64_t block) {
    constexpr int N = Tile<M>::N;
    static const float nothing[WIDTH] = {};
    const int64_t from = p.first(block), size = p.first(block + 1) - from;
    const float* place[ROWS][N * N];  // none outside the area
    for (int64_t t = 0; t < size; ++t) {
        const Corner c(a, p.begin + from + t);
        for (int i = 0; i < N; ++i)
            for (int j = 0; j < N; ++j) {
                const int64_t y = c.row - 1 + i, x = c.column - 1 + j;
                const bool real = y >= 0 && y < a.height && x >= 0 && x < a.width;
                place[t][i * N + j] =
                    real ? map + ((c.item * a.height + y) * a.width + x) * depth : nullptr;
            }
    }
    for (int64_t k = 0; k < depth; k += WIDTH)
        for (int64_t t = 0; t < size; ++t) {
            V s[N * N];
#pragma GCC unroll 36
            for (int i = 0; i < N * N; ++i) s[i] = at(place[t][i] ? place[t][i] + k : nothing);
            if (rectify)
                for (int i = 0; i < N * N; ++i) s[i] = rectified(s[i]);
#pragma GCC unroll 6
            for (int j = 0; j < N; ++j) Tile<M>::in(s + j, N, s + j);
#pragma GCC unroll 6
            for (int i = 0; i < N; ++i) Tile<M>::in(s + i * N, 1, s + i * N);
            float* d = p.place(0, from) + row(offset + k, size) + t * LANES;
            for (int i = 0; i < N * N; ++i, d += p.tiles * p.inputs) put(d, s[i]);
        }
}

// Return to the area from the transform domain and take the step there.
template <int M>
void finish(const Area& a, const float* m, int64_t gap, int64_t tile, int64_t panel,
            const float* below) {
    constexpr int N = Tile<M>::N;
    const Corner c(a, tile);
    for (int64_t k = 0; k < PANEL; k += WIDTH) {
        V s[N * N], d[N * N];
#pragma GCC unroll 36
        for (int i = 0; i < N * N; ++i) s[i] = at(m + i * gap + k);
#pragma GCC unroll 6
        for (int j = 0; j < N; ++j) Tile<M>::out(s + j, N, d + j);
#pragma GCC unroll 4
        for (int i = 0; i < M; ++i) Tile<M>::out(d + i * N, 1, s + i * N);
        for (int i = 0; i < M && c.row + i < a.height; ++i)
            for (int j = 0; j < M && c.column + j < a.width; ++j) {
                const int64_t unit =
                    ((c.row + i) * a.width + c.column + j) * a.channels + panel * PANEL + k;
                const int64_t all = c.item * a.height * a.width * a.channels + unit;
                V drive = s[i * N + j] + at(a.bias + c.item * a.bias_stride + unit);
                if (below) drive += at(below + all);
                const V r = at(a.rates + all), change = rectified(drive) - r;
                put(a.after + all,
                    a.speed ? r + at(a.speed + unit) * change : r + a.rate * change);
            }
    }
}

// ------------------------------------------------------------------------------ products

template <int T>
void multiply(const float* tiles, const float* weights, int64_t inputs, float* out) {
    for (int64_t part = 0; part < PANEL; part += 2 * WIDTH) {
        const float *x = tiles, *w = weights + part;
        V sum[T][2] = {};
        for (int64_t k = 0; k < inputs; k += LANES, x += T * LANES)
            for (int64_t i = 0; i < LANES; ++i, w += PANEL) {
                const V u = at(w), v = at(w + WIDTH);
#pragma GCC unroll 14
                for (int t = 0; t < T; ++t) {
                    sum[t][0] += x[t * LANES + i] * u;
                    sum[t][1] += x[t * LANES + i] * v;
                }
            }
        for (int t = 0; t < T; ++t) {
            put(out + t * PANEL + part, sum[t][0]);
            put(out + t * PANEL + part + WIDTH, sum[t][1]);
        }
    }
}

template <int T = ROWS>
inline void multiply_any(int64_t size, const float* x, const float* w, int64_t inputs, float* out) {
    if (size == T) return multiply<T>(x, w, inputs, out);
    if constexpr (T > 1) multiply_any<T - 1>(size, x, w, inputs, out);
}

struct Item {
    int64_t area, block, panel;
};

// All points of some blocks of tiles for one panel of output channels; tiles lie PANEL apart.
inline int64_t multiply_blocks(const Product& p, const Item& item, float* m) {
    const int64_t end = std::min(item.block + TOGETHER, p.blocks());
    const int64_t from = p.first(item.block), gap = (p.first(end) - from) * PANEL;
    for (int64_t point = 0; point < p.points; ++point)
        for (int64_t b = item.block; b < end; ++b)
            multiply_any(p.first(b + 1) - p.first(b), p.place(point, p.first(b)),
                         p.weights + (item.panel * p.points + point) * p.inputs * PANEL, p.inputs,
                         m + point * gap + (p.first(b) - from) * PANEL);
    return gap;
}

// Where every area reads from and what there is to do, for one group of items.
struct Plan {
    Area areas[8];
    Product inner[8], side[8];  // side: the stride-2 feed-forward convolution, or the skip
    bool local[8];              // whether a thread brings tiles to its own memory and uses them all
    float* fed[8];              // what the side product gives: drive, or input to be transformed
    float *sums, *own;          // of the threads
    int64_t own_size = 0;
    std::vector<Item> transforms, sides, belows, inners;
    int64_t room = 0;

    float* take(float* scratch, int64_t size) {
        float* p = scratch + room;
        room += up(size, LANES) * LANES;
        return p;
    }

    Plan(const Network& n, int64_t first, int64_t group) {
        for (int64_t k = n.count - 1; k >= 0; --k) {
            Area& a = areas[k] = n.areas[k];
            const int64_t units = a.channels * a.height * a.width;
            a.rates += first * units;
            a.after += first * units;
            a.bias += first * a.bias_stride;
            add_inner(n, k, group * up(a.height, a.tile) * up(a.width, a.tile));
            if (k >= 2) add_side(n, k, group * a.height * a.width);
        }
        sums = take(n.scratch, n.threads * MOST_POINTS * TOGETHER * ROWS * PANEL);
        own = take(n.scratch, n.threads * own_size);
    }

    void add_inner(const Network& n, int64_t k, int64_t tiles) {
        const Area& a = areas[k];
        const int64_t points = (a.tile + 2) * (a.tile + 2);
        const int64_t inputs = a.channels + (k % 2 ? n.areas[k - 1].channels : 0);
        Product& p = inner[k] = {points, inputs, a.channels, tiles, a.inside, nullptr, 0};
        local[k] = a.tile == 4 && p.blocks() >= 2 * n.threads;
        if (local[k]) {
            own_size = std::max(own_size, points * ROWS * inputs);
            for (int64_t b = 0; b < p.blocks(); ++b) inners.push_back({k, b, 0});
            return;
        }
        p.x = take(n.scratch, points * tiles * inputs);
        for (int64_t b = 0; b < p.blocks(); ++b) {
            transforms.push_back({k, b, 0});
            if (k > 2 && k % 2) belows.push_back({k, b, 0});
        }
        split(p, k, inners);
    }

    void add_side(const Network& n, int64_t k, int64_t positions) {
        const int64_t below = n.areas[k - 1].channels;
        const int64_t inputs = k % 2 ? n.areas[k - 2].channels : 9 * below;
        const int64_t outputs = k % 2 ? below : areas[k].channels;
        const float* weights = k % 2 ? areas[k].skip : areas[k].down;
        side[k] = {1, inputs, outputs, positions, weights, take(n.scratch, positions * inputs), 0};
        fed[k] = take(n.scratch, positions * outputs);
        for (int64_t b = 0; b < side[k].blocks(); ++b) transforms.push_back({k + 8, b, 0});
        split(side[k], k, sides);
    }

    static void split(const Product& p, int64_t area, std::vector<Item>& items) {
        for (int64_t b = 0; b < p.blocks(); b += TOGETHER)
            for (int64_t panel = 0; panel < p.outputs / PANEL; ++panel)
                items.push_back({area, b, panel});
    }

    // Rows of what a convolution of stride 2 reads: 3 x 3 of both areas below, or 1 x 1 of one.
    void gather(int64_t k, int64_t block) const {
        const Area &a = areas[k], &far = areas[k - 2], &close = areas[k - 1];
        const Product& p = side[k];
        const int64_t from = p.first(block), size = p.first(block + 1) - from, depth = far.channels;
        const int64_t width = k % 2 ? 1 : 3, edge = width / 2, each = a.height * a.width;
        for (int64_t t = 0; t < size; ++t) {
            const int64_t position = (from + t) % each, item = (from + t) / each;
            float* d = p.place(0, from) + t * LANES;
            for (int64_t i = 0; i < width * width; ++i) {
                const int64_t y = position / a.width * 2 + i / width - edge;
                const int64_t x = position % a.width * 2 + i % width - edge;
                const bool real = y >= 0 && y < far.height && x >= 0 && x < far.width;
                const int64_t place = ((item * far.height + y) * far.width + x) * depth;
                for (int64_t c = 0; c < depth; c += WIDTH) {
                    V v{};
                    if (real) v = rectified(at(far.rates + place + c));
                    if (real && width == 3) v += rectified(at(close.rates + place + c));
                    put(d + row(c, size), v);
                }
                d += depth * size;
            }
        }
    }

    void bring(int64_t k, const Product& p, int64_t block, const float* map, int64_t depth,
               int64_t offset, bool rectify) const {
        if (areas[k].tile == 2)
            transform<2>(areas[k], p, map, depth, offset, rectify, block);
        else
            transform<4>(areas[k], p, map, depth, offset, rectify, block);
    }

    void bring_own(int64_t k, const Product& p, int64_t block) const {
        bring(k, p, block, areas[k].rates, areas[k].channels, 0, false);
        if (k == 1) bring(1, p, block, areas[0].rates, areas[0].channels, areas[1].channels, true);
    }

    void bring_below(int64_t k, const Product& p, int64_t block) const {
        bring(k, p, block, fed[k], areas[k - 1].channels, areas[k].channels, false);
    }

    void prepare(const Item& item) const {
        if (item.area >= 8) return gather(item.area - 8, item.block);
        bring_own(item.area, inner[item.area], item.block);
    }

    void sideways(const Item& item, float* m) const {
        const int64_t k = item.area, from = side[k].first(item.block);
        const int64_t count = multiply_blocks(side[k], item, m) / PANEL;
        const float* add = k % 2 ? areas[k - 1].rates : nullptr;
        for (int64_t t = 0; t < count; ++t)
            for (int64_t c = 0; c < PANEL; c += WIDTH) {
                const int64_t place = (from + t) * side[k].outputs + item.panel * PANEL + c;
                const V v = at(m + t * PANEL + c);
                put(fed[k] + place, add ? v + rectified(at(add + place)) : v);
            }
    }

    void advance(const Item& item, float* m, float* x) const {
        const int64_t k = item.area;
        if (!local[k]) return advance_panel(inner[k], item, m);
        const Product part = inner[k].part(item.block, x);
        bring_own(k, part, 0);
        if (k > 2 && k % 2) bring_below(k, part, 0);
        for (int64_t panel = 0; panel < part.outputs / PANEL; ++panel)
            advance_panel(part, {k, 0, panel}, m);
    }

    void advance_panel(const Product& p, const Item& item, float* m) const {
        const int64_t k = item.area, gap = multiply_blocks(p, item, m);
        const int64_t from = p.begin + p.first(item.block);
        const float* below = k >= 2 && k % 2 == 0 ? fed[k] : nullptr;
        for (int64_t t = 0; t < gap / PANEL; ++t)
            if (areas[k].tile == 2)
                finish<2>(areas[k], m + t * PANEL, gap, from + t, item.panel, below);
            else
                finish<4>(areas[k], m + t * PANEL, gap, from + t, item.panel, below);
    }
};

}  // namespace

extern "C" {

// Numbers of scratch memory; a smaller last group may be done in another way, which needs more.
int64_t cordsnet_scratch(const Network* n) {
    return std::max(Plan(*n, 0, n->group).room, Plan(*n, 0, n->batch % n->group).room);
}

// Numbers of the weights of one product; tile 0 stands for products with one point.
int64_t cordsnet_packed(int64_t tile, int64_t outputs, int64_t inputs) {
    return (tile ? (tile + 2) * (tile + 2) : 1) * outputs * inputs;
}

// Put (outputs, inputs, side, side) weights in place, from input `offset` of `all` on.
void cordsnet_pack(const float* w, int64_t tile, int64_t outputs, int64_t inputs, int64_t side,
                   int64_t offset, int64_t all, float* packed, int64_t threads) {
    const int64_t n = tile ? tile + 2 : 1, area = side * side;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t panel = 0; panel < outputs / PANEL; ++panel)
        for (int64_t i = 0; i < inputs; ++i)
            for (int64_t o = 0; o < PANEL; ++o) {
                const float* g = w + ((panel * PANEL + o) * inputs + i) * area;
                float* d = packed + panel * n * n * all * PANEL + o;
                if (tile == 0) {
                    for (int64_t s = 0; s < area; ++s) d[(s * inputs + i) * PANEL] = g[s];
                    continue;
                }
                const double(*spread)[3] = tile == 2 ? SPREAD2 : SPREAD4;
                double half[6][3];
                for (int64_t y = 0; y < n; ++y)
                    for (int x = 0; x < 3; ++x)
                        half[y][x] = spread[y][0] * g[x] + spread[y][1] * g[3 + x] +
                                     spread[y][2] * g[6 + x];
                for (int64_t y = 0; y < n; ++y)
                    for (int64_t x = 0; x < n; ++x)
                        d[((y * n + x) * all + offset + i) * PANEL] =
                            float(half[y][0] * spread[x][0] + half[y][1] * spread[x][1] +
                                  half[y][2] * spread[x][2]);
            }
}

void cordsnet_step(const Network* n) {
    for (int64_t first = 0; first < n->batch; first += n->group) {
        const Plan plan(*n, first, std::min(n->group, n->batch - first));
#pragma omp parallel num_threads(n->threads)
        {
            FlushDenormals flush;
            const int64_t thread = omp_get_thread_num();
            float* m = plan.sums + thread * MOST_POINTS * TOGETHER * ROWS * PANEL;
            float* x = plan.own + thread * plan.own_size;
#pragma omp for schedule(dynamic)
            for (size_t i = 0; i < plan.transforms.size(); ++i) plan.prepare(plan.transforms[i]);
            if (n->count > 2) {
#pragma omp for schedule(dynamic)
                for (size_t i = 0; i < plan.sides.size(); ++i) plan.sideways(plan.sides[i], m);
#pragma omp for schedule(dynamic)
                for (size_t i = 0; i < plan.belows.size(); ++i) {
                    const Item& item = plan.belows[i];
                    plan.bring_below(item.area, plan.inner[item.area], item.block);
                }
            }
#pragma omp for schedule(dynamic)
            for (size_t i = 0; i < plan.inners.size(); ++i) plan.advance(plan.inners[i], m, x);
        }
    }
}
}
