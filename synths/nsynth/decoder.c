/* The WaveNet decoder of NSynth: time steps from the input history to the next mu-law codes.
 *
 * `python -m synths.nsynth.build_decoder` compiles this file to LLVM bitcode, once for each target
 * processor.  At run time decoder.py links in the sizes of a run as constants, and LLVM optimises
 * the bitcode and turns it into machine code.  docs/decoder.md explains the whole.
 *
 * Vectors are GCC's: a `floats` has LANES numbers, and operators work on all of them.
 */

/* Targets --------------------------------------------------------------------------------------
 *
 * LANES: float32 numbers in a vector register.  ROWS: rows of a product that one pass over its
 * weights can take, with two registers of sums for each.  `multiply_add(x, y, sum)` is x y + sum.
 * `dot(sum, x, y)` adds, in each lane of 32 bits, four products of bytes: activations x and weights
 * y.  Weights are signed bytes; activations are stored with LOWEST as their smallest value. */

#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 };
#elif defined(__AVX2__)
enum { LANES = 8, ROWS = 6 };
#elif defined(__aarch64__)
enum { LANES = 4, ROWS = 8 };
#else
enum { LANES = 4, ROWS = 4 };
#endif

typedef long long i64;
typedef unsigned char u8;
typedef float floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int ints __attribute__((vector_size(4 * LANES), aligned(4)));
typedef u8 bytes __attribute__((vector_size(LANES), aligned(1)));

#define INLINE static inline __attribute__((always_inline))
#define OUTLINE static __attribute__((noinline))
#define UNROLL _Pragma("clang loop unroll(full)")
#define larger __builtin_elementwise_max
#define smaller __builtin_elementwise_min

#if defined(__FMA__) || defined(__aarch64__)
#define multiply_add __builtin_elementwise_fma
#else
#define multiply_add(x, y, sum) ((x) * (y) + (sum))
#endif

#if defined(__aarch64__)
#include <arm_neon.h>
#define PAUSE __builtin_arm_yield
enum { LOWEST = -128 };
#else
#include <immintrin.h>
#define PAUSE __builtin_ia32_pause
enum { LOWEST = 0 };
#endif

#if defined(__AVX512VNNI__)
INLINE ints dot(ints sum, ints x, ints y)
{
    return (ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)y);
}
#elif defined(__AVXVNNI__)
INLINE ints dot(ints sum, ints x, ints y)
{
    return (ints)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)y);
}
#elif defined(__ARM_FEATURE_DOTPROD)
INLINE ints dot(ints sum, ints x, ints y)
{
    return (ints)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)y);
}
#elif defined(__aarch64__)
INLINE ints dot(ints sum, ints x, ints y)
{
    UNROLL for (int left = 24; left >= 0; left -= 8) sum += (x << left >> 24) * (y << left >> 24);
    return sum;
}
#else   /* The even and the odd bytes as 16-bit numbers, whose products are added in pairs. */
typedef short shorts __attribute__((vector_size(4 * LANES), aligned(4)));
#if defined(__AVX512BW__)
#define add_pairs(x, y) (ints)_mm512_madd_epi16((__m512i)(x), (__m512i)(y))
#elif defined(__AVX2__)
#define add_pairs(x, y) (ints)_mm256_madd_epi16((__m256i)(x), (__m256i)(y))
#else
#define add_pairs(x, y) (ints)_mm_madd_epi16((__m128i)(x), (__m128i)(y))
#endif
INLINE ints dot(ints sum, ints x, ints y)
{
    ints even = x & 0x00ff00ff, odd = x >> 8 & 0x00ff00ff;
    return sum + add_pairs(even, (shorts)y << 8 >> 8) + add_pairs(odd, (shorts)y >> 8);
}
#endif

/* The network ---------------------------------------------------------------------------------- */

/* TILE: columns of a weight matrix that are stored together.  CODES: mu-law codes.  HOP: samples
 * per frame of an encoding.  GROUP: layers whose skip connections int8 computes in one product. */
enum { TILE = 2 * LANES, CODES = 256, HOP = 512, GROUP = 5 };
static const float NO_FLOOR = -3e38f;

/* The sizes of a run: clips decoded side by side, the threads that share a step, the network's
 * layers and channels (multiples of 32), and whether the large products are int8. */
extern const i64 CLIPS, THREADS, LAYERS, WIDTH, SKIP, INT8;

/* Numbers from a row of activations to the next.  The extra cache line keeps rows from competing
 * for the same cache sets. */
#define STRIDE ((WIDTH > SKIP ? WIDTH : SKIP) + 16)
#define BYTE_STRIDE (GROUP * WIDTH + 64)
#define GATED_STRIDE (INT8 ? GROUP * WIDTH + 16 : STRIDE)

/* A residual layer.  Its dilated convolution has three taps: t - 2d, t - d and t. */
typedef struct {
    i64 dilation;
    i64 older_block, newer_block;   /* time steps for which the past taps are computed at once */
    float *inputs;                  /* ring buffer [2 dilation][clips][STRIDE] */
    float *past;                    /* the past taps' part of the gates [older_block][clips][2 width] */
    const float *condition;         /* the encoding's part of the gates, with biases [clips][2 width] */
    const void *older, *newer, *present, *residual, *skip;      /* weights, as tiles */
    const float *residual_bias, *skip_bias;
} Layer;

typedef struct {
    i64 *barrier;                   /* see `barrier` */
    float *recent;                  /* the last three samples of each clip [clips][STRIDE] */
    float *skips, *hidden;          /* [clips][STRIDE] */
    float *logits;                  /* [clips][CODES] */
    float *gated;                   /* activations; int8: of GROUP layers [clips][GATED_STRIDE] */
    const float *start, *start_bias, *skip_start, *skip_start_bias, *out1, *out1_bias;
    const float *condition;         /* the encoding's part of the output layer [clips][STRIDE] */
    const float *out2, *out2_bias, *zeros;
    const double *uniforms;         /* random numbers of a frame [HOP][clips] */
    u8 *codes;                      /* mu-law codes of a frame [HOP][clips] */
    u8 *past_bytes, *bytes;         /* quantised activations; `bytes`: a part for each thread */
    float *past_scales, *scales;    /* their scale (float32) and zero point (int32), side by side */
    Layer *layers;
} State;

/* Arithmetic ----------------------------------------------------------------------------------- */

INLINE floats load(const float *p) { return *(const floats *)p; }
INLINE void store(float *p, floats v) { *(floats *)p = v; }
INLINE floats splat(float x) { return x - (floats){}; }

/* Round to the nearest whole number, ties to even: |x| < 2^22. */
INLINE floats nearest(floats x) { return x + 12582912.f - 12582912.f; }

/* e^x = 2^n e^r with |r| <= ln 2 / 2, and e^r by its Taylor series. */
INLINE floats exponential(floats x)
{
    x = larger(smaller(x, splat(88)), splat(-87));
    floats n = nearest(x * 1.4426950408889634f);
    floats r = multiply_add(n, splat(-0.693359375f), x);
    r = multiply_add(n, splat(2.1219444005469057e-4f), r);
    const float factorials[] = {720, 120, 24, 6, 2, 1, 1};
    floats sum = splat(1 / 5040.f);
    UNROLL for (int k = 0; k < 7; k++) sum = multiply_add(sum, r, splat(1 / factorials[k]));
    return sum * (floats)((__builtin_convertvector(n, ints) + 127) << 23);
}

/* The gated activation unit, sigmoid(gate) tanh(filter), as one fraction of exponentials.
 * `_gated` in wavenet.py is the same for the scorer. */
INLINE floats activation(floats gate, floats filter)
{
    filter = larger(smaller(filter, splat(15)), splat(-15));    /* tanh is 1 from there on */
    floats a = exponential(-gate), e = exponential(filter * -2.f);
    return (1.f - e) / ((1.f + a) * (1.f + e));
}

/* Products -------------------------------------------------------------------------------------- */

/* out = max(base + bias + a @ weights, floor); a stride of 0 uses one row for all rows.  Float
 * weights are tiles [columns / TILE][inputs][TILE].  int8 weights have four inputs side by side,
 * and each tile ends in the scales (float32) and the sums over inputs (int32) of its columns. */
typedef struct {
    float *out; i64 out_stride;
    const float *base; i64 base_stride;
    const float *bias; i64 bias_stride;
    const void *a; const float *scales;
    const void *weights;
    i64 inputs, rows, columns;
    float floor;
} Product;

/* Compute R rows of one tile.  The sums stay in registers.  With `gates` a tile has the gates of
 * some channels and then their filters, and `out` receives the activations. */
INLINE void tile(const int R, const int int8, const int gates, const Product *p, i64 a_stride,
                 i64 row, i64 n)
{
    const i64 tile_size = int8 ? (p->inputs + 8) * TILE : 4 * p->inputs * TILE;
    const i64 input_size = p->inputs * (int8 ? 1 : 4);      /* bytes of a row of activations */
    const char *w = (const char *)p->weights + n * tile_size;
    const char *a = (const char *)p->a + row * a_stride;
    const float *base = p->base + row * p->base_stride + n * TILE;
    const float *bias = p->bias + row * p->bias_stride + n * TILE;
    float *out = p->out + row * p->out_stride + n * (gates ? LANES : TILE);
    floats sum[ROWS][2];
    ints dots[ROWS][2];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int h = 0; h < 2; h++) {
        dots[r][h] = (ints){};
        sum[r][h] = load(base + r * p->base_stride + h * LANES)
            + load(bias + r * p->bias_stride + h * LANES);
    }
    for (i64 i = 0; i < input_size; i += 16, a += 16)
        UNROLL for (int u = 0; u < 4; u++, w += 4 * TILE) {
            UNROLL for (int line = 0; line < 4 * TILE; line += 64)
                __builtin_prefetch(w + line + 8192, 0, 3);
            UNROLL for (int r = 0; r < R; r++) UNROLL for (int h = 0; h < 2; h++) {
                const char *x = a + r * a_stride + 4 * u;
                if (int8)
                    dots[r][h] = dot(dots[r][h], *(const int *)x - (ints){}, ((const ints *)w)[h]);
                else
                    sum[r][h] = multiply_add(splat(*(const float *)x), ((const floats *)w)[h],
                                             sum[r][h]);
            }
        }
    if (int8) UNROLL for (int r = 0; r < R; r++) UNROLL for (int h = 0; h < 2; h++) {
        const float *scale = p->scales + 2 * (row + r);
        ints exact = dots[r][h] - ((const int *)scale)[1] * ((const ints *)w)[2 + h];
        sum[r][h] = multiply_add(__builtin_convertvector(exact, floats),
                                 *scale * ((const floats *)w)[h], sum[r][h]);
    }
    UNROLL for (int r = 0; r < R; r++) {
        if (gates) store(out + r * p->out_stride, activation(sum[r][0], sum[r][1]));
        else UNROLL for (int h = 0; h < 2; h++)
            store(out + r * p->out_stride + h * LANES, larger(sum[r][h], splat(p->floor)));
    }
}

/* Whether some product leaves so many rows over: products have CLIPS 2^k rows. */
#define LEFT_OVER(R) (CLIPS % ROWS == R || 2 * CLIPS % ROWS == R || 4 * CLIPS % ROWS == R \
                      || 8 * CLIPS % ROWS == R)

/* Compute the calling thread's share of the columns. */
INLINE void multiply(const int int8, const int gates, const Product *p, i64 a_stride, i64 thread)
{
    i64 tiles = p->columns / TILE;
    for (i64 n = tiles * thread / THREADS; n < tiles * (thread + 1) / THREADS; n++) {
        i64 row = 0;
        for (; row + ROWS <= p->rows; row += ROWS) tile(ROWS, int8, gates, p, a_stride, row, n);
        switch (p->rows - row) {
#define CASE(R) \
        case R: if (R < ROWS && LEFT_OVER(R)) tile(R, int8, gates, p, a_stride, row, n); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11)
        }
    }
}

/* The four kinds of product, compiled once each. */
OUTLINE void float_product(const Product *p, i64 thread) { multiply(0, 0, p, 4 * STRIDE, thread); }
OUTLINE void float_gates(const Product *p, i64 thread) { multiply(0, 1, p, 4 * STRIDE, thread); }
OUTLINE void int8_product(const Product *p, i64 thread) { multiply(1, 0, p, BYTE_STRIDE, thread); }
OUTLINE void int8_gates(const Product *p, i64 thread) { multiply(1, 1, p, BYTE_STRIDE, thread); }

/* A product with a layer's weights, in the run's precision. */
INLINE void layer_product(const Product *p, i64 thread)
{
    if (INT8) int8_product(p, thread); else float_product(p, thread);
}

/* Quantise rows to bytes, each with a scale and a zero point, as XNNPACK does.  A row is `inputs`
 * numbers of `a`, followed by as many of `second` unless that is null. */
OUTLINE void quantise(u8 *out, float *scales, const float *a, const float *second, i64 stride,
                      i64 inputs, i64 first, i64 last)
{
    for (i64 row = first; row < last; row++) {
        floats low = {}, high = {};
        for (int part = 0; part < (second ? 2 : 1); part++)
            for (i64 i = 0; i < inputs; i += LANES) {
                floats x = load((part ? second : a) + row * stride + i);
                low = smaller(low, x);
                high = larger(high, x);
            }
        float least = __builtin_reduce_min(low), most = __builtin_reduce_max(high);
        float factor = least == most ? 1.f : 255.f / (most - least);
        float first_byte = least * factor, last_byte = most * factor;
        float zero = (-128.f + first_byte) + (127.f + last_byte) > 0 ? -128.f - first_byte
                                                                     : 127.f - last_byte;
        zero = zero < -128.f ? -128.f : zero > 127.f ? 127.f : zero;
        int zero_point = (int)nearest(splat(zero))[0] + 128 + LOWEST;
        scales[2 * row] = 1 / factor;
        ((int *)scales)[2 * row + 1] = zero_point;
        for (int part = 0; part < (second ? 2 : 1); part++)
            for (i64 i = 0; i < inputs; i += LANES) {
                floats x = nearest(load((part ? second : a) + row * stride + i) * factor);
                ints y = __builtin_convertvector(x, ints) + zero_point;
                y = larger(smaller(y, (ints){} + LOWEST + 255), (ints){} + LOWEST);
                *(bytes *)(out + row * BYTE_STRIDE + part * inputs + i)
                    = __builtin_convertvector(y, bytes);
            }
    }
}

/* Sampling -------------------------------------------------------------------------------------- */

/* Draw a code: the first whose cumulative probability reaches the uniform random number.  The row
 * of logits becomes unnormalised probabilities. */
static i64 draw(float *row, double uniform)
{
    enum { PART = 16 };
    floats high = splat(NO_FLOOR);
    for (int i = 0; i < CODES; i += LANES) high = larger(high, load(row + i));
    float most = __builtin_reduce_max(high);
    for (int i = 0; i < CODES; i += LANES) store(row + i, exponential(load(row + i) - most));
    double parts[CODES / PART] = {}, total = 0, sum = 0;
    for (int i = 0; i < PART; i++)
        for (int part = 0; part < CODES / PART; part++) parts[part] += row[part * PART + i];
    for (int part = 0; part < CODES / PART; part++) total += parts[part];
    const double wanted = uniform * total;
    i64 part = 0;
    for (; part < CODES / PART - 1 && sum + parts[part] < wanted; part++) sum += parts[part];
    i64 code = part * PART;
    for (; code < part * PART + PART - 1 && (sum += row[code]) < wanted; code++) {}
    return code;
}

/* Threads --------------------------------------------------------------------------------------- */

extern int yield_thread(void);      /* the system's: sched_yield, SwitchToThread */

/* Wait for all threads; return 0 if they have been cancelled.  Three counters, each on a cache line
 * of its own: the threads that have arrived, the number of openings, and the cancellation. */
OUTLINE int barrier(i64 *counters)
{
    if (THREADS == 1) return 1;
    i64 *openings = counters + 8, *cancelled = counters + 16;
    i64 before = __atomic_load_n(openings, __ATOMIC_ACQUIRE);
    if (__atomic_fetch_add(counters, 1, __ATOMIC_ACQ_REL) == THREADS - 1) {
        __atomic_store_n(counters, 0, __ATOMIC_RELAXED);
        __atomic_fetch_add(openings, 1, __ATOMIC_RELEASE);
        return 1;
    }
    for (i64 spins = 0;; spins++) {
        if (__atomic_load_n(openings, __ATOMIC_ACQUIRE) != before) return 1;
        if (__atomic_load_n(cancelled, __ATOMIC_RELAXED)) return 0;
        PAUSE();
        if (spins > 300) yield_thread();
    }
}
#define BARRIER if (!barrier(s->barrier)) return 0

/* A step ---------------------------------------------------------------------------------------- */

INLINE float *input_at(const Layer *layer, i64 t)
{
    return layer->inputs + (t & (2 * layer->dilation - 1)) * CLIPS * STRIDE;
}

INLINE float *past_at(const Layer *layer, i64 t)
{
    return layer->past + (t & (layer->older_block - 1)) * CLIPS * 2 * WIDTH;
}

typedef struct { const void *a; const float *scales; } Activations;

/* The clips' activations as a layer's product takes them: float32, or bytes that each thread
 * quantises for itself. */
INLINE Activations activations(State *s, const float *a, i64 stride, i64 inputs, i64 thread)
{
    if (!INT8) return (Activations){a, 0};
    u8 *out = s->bytes + thread * CLIPS * BYTE_STRIDE;
    float *scales = s->scales + thread * 2 * CLIPS;
    quantise(out, scales, a, 0, stride, inputs, 0, CLIPS);
    return (Activations){out, scales};
}

/* Compute the past taps of a layer, at the beginning of a block of time steps.  The tap t - 2d is
 * known 2d steps ahead, t - d only d; int8 computes both in one product. */
INLINE int past_taps(State *s, Layer *y, i64 t, i64 thread)
{
    const float *older = input_at(y, t), *newer = input_at(y, t + y->dilation);
    Product p = {.out = past_at(y, t), .out_stride = 2 * WIDTH, .base = s->zeros, .bias = s->zeros,
                 .inputs = WIDTH, .columns = 2 * WIDTH, .floor = NO_FLOOR};
    const int older_begins = !(t & (y->older_block - 1));
    const int newer_begins = !(t & (y->newer_block - 1));
    if (INT8) {
        if (!older_begins) return 1;
        p.rows = y->older_block * CLIPS;
        quantise(s->past_bytes, s->past_scales, older, newer, STRIDE, WIDTH,
                 p.rows * thread / THREADS, p.rows * (thread + 1) / THREADS);
        BARRIER;
        p.a = s->past_bytes; p.scales = s->past_scales; p.weights = y->older;
        p.inputs = 2 * WIDTH;
        int8_product(&p, thread);
        BARRIER;
        return 1;
    }
    if (older_begins) {
        p.a = older; p.weights = y->older; p.rows = y->older_block * CLIPS;
        float_product(&p, thread);
    }
    if (newer_begins) {
        p.base = p.out; p.base_stride = 2 * WIDTH;
        p.a = newer; p.weights = y->newer; p.rows = y->newer_block * CLIPS;
        float_product(&p, thread);
    }
    return 1;
}

/* Compute a layer: its activations, the next layer's input, and the skip connection. */
INLINE int compute_layer(State *s, i64 i, i64 t, i64 thread)
{
    Layer *y = s->layers + i;
    const float *input = input_at(y, t);
    const i64 place = INT8 ? i % GROUP : 0;     /* within the layers that share a skip product */
    const int is_last = i + 1 == LAYERS;
    float *gated = s->gated + place * WIDTH;

    Activations a = activations(s, input, STRIDE, WIDTH, thread);
    Product gates = {.out = gated, .out_stride = GATED_STRIDE,
                     .base = past_at(y, t), .base_stride = 2 * WIDTH,
                     .bias = y->condition, .bias_stride = 2 * WIDTH,
                     .a = a.a, .scales = a.scales, .weights = y->present,
                     .inputs = WIDTH, .rows = CLIPS, .columns = 2 * WIDTH};
    if (INT8) int8_gates(&gates, thread); else float_gates(&gates, thread);
    BARRIER;
    if (!is_last) {
        a = activations(s, gated, GATED_STRIDE, WIDTH, thread);
        Product residual = {.out = input_at(y + 1, t), .out_stride = STRIDE,
                            .base = input, .base_stride = STRIDE, .bias = y->residual_bias,
                            .a = a.a, .scales = a.scales, .weights = y->residual,
                            .inputs = WIDTH, .rows = CLIPS, .columns = WIDTH, .floor = NO_FLOOR};
        layer_product(&residual, thread);
    }
    if (!INT8 || is_last || place == GROUP - 1) {
        a = activations(s, s->gated, GATED_STRIDE, (place + 1) * WIDTH, thread);
        Product skip = {.out = s->skips, .out_stride = STRIDE, .base = s->skips,
                        .base_stride = STRIDE, .bias = y->skip_bias,
                        .a = a.a, .scales = a.scales, .weights = y->skip,
                        .inputs = (place + 1) * WIDTH, .rows = CLIPS, .columns = SKIP,
                        .floor = is_last ? 0 : NO_FLOOR};       /* the last: ReLU */
        layer_product(&skip, thread);
    }
    BARRIER;
    return 1;
}

/* Compute the output layers and draw the clips' codes. */
INLINE int draw_codes(State *s, i64 t, i64 thread)
{
    Product p = {.out = s->hidden, .out_stride = STRIDE, .base = s->condition,
                 .base_stride = STRIDE, .bias = s->out1_bias, .a = s->skips, .weights = s->out1,
                 .inputs = SKIP, .rows = CLIPS, .columns = SKIP};
    float_product(&p, thread);
    BARRIER;
    p = (Product){.out = s->logits, .out_stride = CODES, .base = s->zeros, .bias = s->out2_bias,
                  .a = s->hidden, .weights = s->out2, .inputs = SKIP, .rows = CLIPS,
                  .columns = CODES, .floor = NO_FLOOR};
    float_product(&p, thread);
    BARRIER;
    for (i64 clip = CLIPS * thread / THREADS; clip < CLIPS * (thread + 1) / THREADS; clip++) {
        i64 i = (t & (HOP - 1)) * CLIPS + clip;
        s->codes[i] = draw(s->logits + clip * CODES, s->uniforms[i]);
    }
    return 1;
}

/* Compute a time step of all clips.  With `known` the codes are given, and only the layers' inputs
 * are computed. */
INLINE int step(State *s, i64 t, i64 thread, i64 known)
{
    for (i64 i = 0; i < LAYERS; i++) if (!past_taps(s, s->layers + i, t, thread)) return 0;
    BARRIER;    /* the first layer's input overwrites what its past taps have read */
    float *input = input_at(s->layers, t);
    Product p = {.out = input, .out_stride = STRIDE, .base = s->zeros, .bias = s->start_bias,
                 .a = s->recent, .weights = s->start, .inputs = 4, .rows = CLIPS, .columns = WIDTH,
                 .floor = NO_FLOOR};
    float_product(&p, thread);
    BARRIER;
    p = (Product){.out = s->skips, .out_stride = STRIDE, .base = s->zeros,
                  .bias = s->skip_start_bias, .a = input, .weights = s->skip_start,
                  .inputs = WIDTH, .rows = CLIPS, .columns = SKIP, .floor = NO_FLOOR};
    float_product(&p, thread);
    for (i64 i = 0; i < LAYERS; i++) if (!compute_layer(s, i, t, thread)) return 0;
    if (!known && !draw_codes(s, t, thread)) return 0;
    for (i64 clip = CLIPS * thread / THREADS; clip < CLIPS * (thread + 1) / THREADS; clip++) {
        float *recent = s->recent + clip * STRIDE;
        recent[0] = recent[1];
        recent[1] = recent[2];
        recent[2] = s->codes[(t & (HOP - 1)) * CLIPS + clip] - CODES / 2;
    }
    BARRIER;
    return 1;
}

/* Compute the time steps `first` to `last`; all threads of a run call this with their number. */
void run(State *s, i64 thread, i64 first, i64 last, i64 known)
{
    for (i64 t = first; t < last && step(s, t, thread, known); t++) {}
}
