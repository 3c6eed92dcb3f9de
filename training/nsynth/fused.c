/* One WaveNet autoencoder clip at a time: forward and hand-written backward pass, in float32.
 * Processors with AVX-512 BF16 multiply in bfloat16, twice as fast, and add up in float32, unless
 * -DEXACT is given.
 *
 * Compiled on the training machine by fused.py with -DWIDTH, -DSKIP, -DENC_WIDTH (multiples
 * of 32) and called through ctypes.  Clips are rows of channels in time order, so that a dilated
 * tap is the same matrix a few rows earlier; each layer's three taps, gate, residual and skip are
 * done while its rows are in the nearest cache.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512BF16__) && !defined(EXACT)
#include <immintrin.h>
#define BF16
#endif

#define W WIDTH
#define W2 (2 * WIDTH)
#define S SKIP
#define E ENC_WIDTH
#define Q 256
#define HOP 512
#define STAGES 10
#define B 64 /* rows worked on at a time: they and the weights stay in the nearest cache */
#define PAD 1024 /* rows of silence before (after, for gradients) a clip: twice the widest dilation */

/* VL floats are one register.  A tile of TR rows and TN registers stays in registers while a
 * product runs along its depth, and has sums enough to hide how long one takes; wider ones would
 * spill. */
#if defined(__AVX512F__)
enum { VL = 16, TR = 8, TN = 2 };
#elif defined(__AVX__)
enum { VL = 8, TR = 6, TN = 2 };
#else
enum { VL = 4, TR = 6, TN = 2 };
#endif
enum { TC = VL * TN }; /* columns of a tile */
typedef float vf __attribute__((vector_size(sizeof(float) * VL), aligned(sizeof(float))));
#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p) { return *(const vf *)p; }
INLINE void store(float *p, vf v) { *(vf *)p = v; }

/* What is multiplied: floats, or bfloat16, DEEP of which, next to each other along the depth of a
 * product, take the place of one float. */
#ifdef BF16
typedef uint16_t factor;
enum { DEEP = 2 };
#else
typedef float factor;
enum { DEEP = 1 };
#endif
const int exact = DEEP == 1; /* fused.py asks */

/* sum [VL] plus the DEEP factors at a times those of each lane of b [VL][DEEP] */
INLINE vf multiplied(vf sum, const factor *a, const factor *b)
{
#ifdef BF16
    int both;
    memcpy(&both, a, 4);
    return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(both),
                                (__m512bh)_mm512_loadu_si512(b));
#else
    return sum + *a * load(b);
#endif
}

/* a [B][n] as factors of a product along n: a itself, or converted in `room` [B][n]; *ld becomes
 * their row stride */
INLINE const factor *along_row(const float *a, long lda, factor *room, int n, long *ld)
{
#ifdef BF16
    for (long r = 0; r < B; r++)
        for (int c = 0; c < n; c += 32)
            _mm512_storeu_si512(room + r * n + c, (__m512i)_mm512_cvtne2ps_pbh(
                _mm512_loadu_ps(a + r * lda + c + 16), _mm512_loadu_ps(a + r * lda + c)));
    *ld = n;
    return room;
#else
    *ld = lda;
    return a;
#endif
}

/* a [rows][n] as factors of a product along its rows: room [rows / DEEP][n][DEEP] */
INLINE void along_column(const float *a, long lda, factor *room, long rows, int n)
{
#ifdef BF16
    const __m512i pairs = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
        23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (long r = 0; r < rows; r += 2)
        for (int c = 0; c < n; c += 16)
            _mm512_storeu_si512(room + r * n + 2 * c, _mm512_permutexvar_epi16(
                pairs, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(a + (r + 1) * lda + c),
                                                    _mm512_loadu_ps(a + r * lda + c))));
#else
    for (long r = 0; r < rows; r++) memcpy(room + r * n, a + r * lda, sizeof(float) * n);
#endif
}

/* a [n] becomes 0 where v is not above 0 */
INLINE void gated(float *a, const float *v, long n)
{
    for (long c = 0; c < n; c += VL) {
        vf x = load(v + c);
        store(a + c, (vf)((__typeof__(x > 0))load(a + c) & (x > 0)));
    }
}

INLINE float fast_exp(float x)
{
    x = x > 80.f ? 80.f : (x < -80.f ? -80.f : x);
    float n = floorf(x * 1.44269504f + 0.5f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.f;
    int bits = ((int)n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return p * scale;
}

/* Do WORK for all `rows` with `r` the first row and `R`, a constant, the number of rows of a tile:
 * TR as often as it goes, and fours for the rest.  rows: a constant multiple of 4, over 4. */
#define TILES(rows, WORK)                                                                          \
    do {                                                                                           \
        long r = 0;                                                                                \
        const long fours = (rows) % TR == 0 ? 0 : ((rows) - 4) % TR == 0 ? 4 : 8;                  \
        for (; r < (rows) - fours; r += TR) { enum { R = TR }; WORK; }                             \
        for (; r < (rows); r += 4) { enum { R = 4 }; WORK; }                                       \
    } while (0)

/* acc [R][TC] += a [R][depth] times b [depth][TC], in factors; lda and step are a's strides, ldb is
 * b's */
INLINE void multiply(vf acc[][TN], int R, const factor *a, long lda, long step, const factor *b,
                     long ldb, long depth)
{
#pragma GCC unroll 1
    for (long i = 0; i < depth; i += DEEP) {
        const factor *at = a + i * step, *w = b + i * ldb;
#pragma GCC unroll 16
        for (int r = 0; r < R; r++)
            for (int j = 0; j < TN; j++)
                acc[r][j] = multiplied(acc[r][j], at + r * lda, w + VL * DEEP * j);
    }
}

INLINE void load_tile(vf acc[][TN], int R, const float *c, long ldc)
{
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
        for (int j = 0; j < TN; j++) acc[r][j] = load(c + r * ldc + VL * j);
}

INLINE void store_tile(vf acc[][TN], int R, float *c, long ldc)
{
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
        for (int j = 0; j < TN; j++) store(c + r * ldc + VL * j, acc[r][j]);
}

/* b [k][n] -> panels [n / TC][k][TC], which a product runs along. */
static void pack(const float *b, factor *to, int k, int n)
{
    for (int j = 0; j < n; j += TC) along_column(b + j, n, to + j * k, k, TC);
}

/* a [taps][rows][columns], each tap transposed: panels [rows / TC][taps * columns][TC] */
static void pack_transposed(const float *a, factor *to, int taps, int rows, int columns)
{
    int k = taps * columns;
    float panel[k * TC];
    for (int j = 0; j < rows; j += TC) {
        for (int tap = 0; tap < taps; tap++)
            for (int r = 0; r < TC; r++)
                for (int c = 0; c < columns; c++)
                    panel[(tap * columns + c) * TC + r] = a[(tap * rows + j + r) * columns + c];
        along_column(panel, TC, to + j * k, k, TC);
    }
}

/* c [B][n] (=, or += where add) a [B][k] times b, [k][n] in panels; n a multiple of TC */
INLINE void matmul(const float *a, long lda, const factor *b, float *c, long ldc, int k, int n,
                   int add)
{
    factor room[B * k];
    const factor *f = along_row(a, lda, room, k, &lda);
    for (int j = 0; j < n; j += TC)
        TILES(B, {
            vf acc[R][TN];
            if (add) load_tile(acc, R, c + r * ldc + j, ldc);
            else memset(acc, 0, sizeof acc);
            multiply(acc, R, f + r * lda, lda, 1, b + j * k, TC, k);
            store_tile(acc, R, c + r * ldc + j, ldc);
        });
}

/* One dilated layer of three taps: c [B][n] = from [B][n] (row stride ldf; zeros where NULL) plus,
 * for each tap, rows of a [..][k], the next tap's `step` rows on, times b, [3 * k][n] in panels */
INLINE void dilated(const float *a, long step, const factor *b, const float *from, long ldf,
                    float *c, int k, int n)
{
    factor room[3][B * k];
    const factor *f[3];
    long lda;
    for (int tap = 0; tap < 3; tap++)
        f[tap] = along_row(a + tap * step * k, k, room[tap], k, &lda);
    for (int j = 0; j < n; j += TC)
        TILES(B, {
            vf acc[R][TN];
            if (from) load_tile(acc, R, from + r * ldf + j, ldf);
            else memset(acc, 0, sizeof acc);
            for (int tap = 0; tap < 3; tap++)
                multiply(acc, R, f[tap] + r * lda, lda, 1, b + (3 * j + tap * TC) * k, TC, k);
            store_tile(acc, R, c + r * n + j, n);
        });
}

/* dw [k][n] += scale times the sum over the B rows of a [B][k] outer d [B][n]; k a multiple of 4,
 * n of TC */
INLINE void outer(const float *a, long lda, const float *d, long ldd, float *dw, int k, int n,
                  float scale)
{
    factor left[B * k], right[B * n];
    along_column(a, lda, left, B, k);
    along_column(d, ldd, right, B, n);
    for (int j = 0; j < n; j += TC)
        TILES(k, {
            vf acc[R][TN];
            memset(acc, 0, sizeof acc);
            multiply(acc, R, left + r * DEEP, DEEP, k, right + j * DEEP, n, B);
            for (int q = 0; q < R; q++)
                for (int c = 0; c < TN; c++) {
                    float *to = dw + (r + q) * n + j + VL * c;
                    store(to, load(to) + scale * acc[q][c]);
                }
        });
}

/* sum [n] += scale times the sum of the rows of a */
INLINE void add_rows(const float *a, long lda, float *sum, long rows, int n, float scale)
{
    for (long t = 0; t < rows; t++)
        for (int c = 0; c < n; c++) sum[c] += scale * a[t * lda + c];
}

/* ---- encoder ------------------------------------------------------------------------------ */
#define EPAD 512

/* Bytes of working memory encoder_* need for a clip of T samples, `kept` for the backward pass. */
long encoder_memory(long T, long L, int kept)
{
    long layers = kept ? L : 1;
    return sizeof(float) * E * (layers * (2 * T + 2 * EPAD) + T + T + 2 * EPAD);
}

/* signal [T] -> pooled [T/HOP][E], means over each hop of the network before its bottleneck. */
void encoder_forward(const float *start_w, const float *start_b, const float *dil_w,
                     const float *dil_b, const float *res_w, const float *res_b,
                     const float *signal, long T, long L, int kept, float *memory, float *pooled)
{
    long layers = kept ? L : 1;
    float *u_all = memory, *v_all = u_all + layers * (T + 2 * EPAD) * E;
    float *x = v_all + layers * T * E;
    factor wd[3 * E * E], wr[E * E];
    for (long t = 0; t < T; t++) {
        float a = t ? signal[t - 1] : 0.f, b = signal[t], c = t + 1 < T ? signal[t + 1] : 0.f;
        for (int e = 0; e < E; e++)
            x[t * E + e] = start_b[e] + a * start_w[e] + b * start_w[E + e]
                           + c * start_w[2 * E + e];
    }
    for (long i = 0; i < L; i++) {
        long d = 1L << (i % STAGES);
        long at = kept ? i : 0;
        float *u = u_all + at * (T + 2 * EPAD) * E + EPAD * E, *v = v_all + at * T * E;
        memset(u - d * E, 0, sizeof(float) * d * E);
        memset(u + T * E, 0, sizeof(float) * d * E);
        for (long n = 0; n < T * E; n++) u[n] = x[n] > 0 ? x[n] : 0;
        pack(dil_w + i * 3 * E * E, wd, 3 * E, E);
        pack(res_w + i * E * E, wr, E, E);
        for (long t = 0; t < T; t += B) {
            dilated(u + (t - d) * E, d, wd, dil_b + i * E, 0, v + t * E, E, E);
            for (long n = t * E; n < (t + B) * E; n++) v[n] = v[n] > 0 ? v[n] : 0;
            for (long r = t; r < t + B; r++)
                for (int e = 0; e < E; e++) x[r * E + e] += res_b[i * E + e];
            matmul(v + t * E, E, wr, x + t * E, E, E, E, 1);
        }
    }
    for (long f = 0; f < T / HOP; f++) {
        memset(pooled + f * E, 0, sizeof(float) * E);
        add_rows(x + f * HOP * E, E, pooled + f * E, HOP, E, 1.f / HOP);
    }
}

/* d_pooled [T/HOP][E] -> gradients, added to g_*; memory as encoder_forward left it. */
void encoder_backward(const float *dil_w, const float *res_w, const float *signal, long T, long L,
                      float *memory, const float *d_pooled, float *g_start_w, float *g_start_b,
                      float *g_dil_w, float *g_dil_b, float *g_res_w, float *g_res_b)
{
    float *u_all = memory, *v_all = u_all + L * (T + 2 * EPAD) * E, *g = v_all + L * T * E;
    float *dz = g + T * E + EPAD * E;
    factor wdt[3 * E * E], wrt[E * E];
    memset(dz - EPAD * E, 0, sizeof(float) * EPAD * E);
    memset(dz + T * E, 0, sizeof(float) * EPAD * E);
    for (long t = 0; t < T; t++)
        for (int e = 0; e < E; e++) g[t * E + e] = d_pooled[t / HOP * E + e] / HOP;
    for (long i = L - 1; i >= 0; i--) {
        long d = 1L << (i % STAGES);
        float *u = u_all + i * (T + 2 * EPAD) * E + EPAD * E, *v = v_all + i * T * E;
        pack_transposed(dil_w + i * 3 * E * E, wdt, 3, E, E);
        pack_transposed(res_w + i * E * E, wrt, 1, E, E);
        for (long b = 0; b < T; b += B) {
            matmul(g + b * E, E, wrt, dz + b * E, E, E, E, 0);
            gated(dz + b * E, v + b * E, B * E);
            outer(v + b * E, E, g + b * E, E, g_res_w + i * E * E, E, E, 1.f);
            for (int k = 0; k < 3; k++)
                outer(u + (b + (k - 1) * d) * E, E, dz + b * E, E, g_dil_w + (i * 3 + k) * E * E, E,
                      E, 1.f);
            add_rows(g + b * E, E, g_res_b + i * E, B, E, 1.f);
            add_rows(dz + b * E, E, g_dil_b + i * E, B, E, 1.f);
        }
        for (long t = 0; t < T; t += B) {
            float du[B * E];
            dilated(dz + (t + d) * E, -d, wdt, NULL, 0, du, E, E);
            gated(du, u + t * E, B * E);
            for (int n = 0; n < B * E; n++) g[t * E + n] += du[n];
        }
    }
    for (long t = 0; t < T; t++) {
        float a = t ? signal[t - 1] : 0.f, b = signal[t], c = t + 1 < T ? signal[t + 1] : 0.f;
        for (int e = 0; e < E; e++) {
            float v = g[t * E + e];
            g_start_b[e] += v;
            g_start_w[e] += a * v;
            g_start_w[E + e] += b * v;
            g_start_w[2 * E + e] += c * v;
        }
    }
}

/* ---- decoder ------------------------------------------------------------------------------ */
/* Bytes of working memory that the decoder needs for a clip of T samples. */
long decoder_memory(long T, long L)
{
    return sizeof(float) * ((L + 1) * (T + PAD) * W + (L + 1) * (T + PAD) * W2 + T * S + T * W);
}

/* Sum of the negative log likelihood of targets [T] (0..255), and its gradients.
 * history [T]: what the decoder hears (it is delayed by one sample here); cond [L][T/HOP][2W],
 * cond_out [T/HOP][S]: conditioning with every bias of its sum in it.  skip_b is the sum of all skip
 * biases.  Gradients, times `scale`, are added to g_*; g_cond, g_cond_out are written.
 * With g_start_w NULL only the loss is computed; with uniforms [T] too, targets [T] are drawn from
 * the predictions instead. */
double decoder(const float *start_w, const float *start_b, const float *skip0_w, const float *skip_b,
               const float *dil_w, const float *res_w, const float *res_b, const float *skip_w,
               const float *out_w, const float *logits_w, const float *logits_b,
               const float *history, int *targets, const float *uniforms, const float *cond,
               const float *cond_out,
               long T, long L, float scale, float *memory, float *g_start_w, float *g_start_b,
               float *g_skip0_w, float *g_skip_b, float *g_dil_w, float *g_res_w, float *g_res_b,
               float *g_skip_w, float *g_out_w, float *g_logits_w, float *g_logits_b, float *g_cond,
               float *g_cond_out)
{
    float *x_all = memory, *z_all = x_all + (L + 1) * (T + PAD) * W;
    float *s = z_all + (L + 1) * (T + PAD) * W2, *g = s + T * S;
    long F = T / HOP;
    float h[B * W], *x0 = x_all + PAD * W;
    for (long t = 0; t < T; t++) {
        float a = t > 2 ? history[t - 3] : 0.f, b = t > 1 ? history[t - 2] : 0.f;
        float c = t > 0 ? history[t - 1] : 0.f;
        for (int e = 0; e < W; e++)
            x0[t * W + e] = start_b[e] + a * start_w[e] + b * start_w[W + e]
                            + c * start_w[2 * W + e];
        memcpy(s + t * S, skip_b, sizeof(float) * S);
    }
    factor wd[3 * W * W2], wr[W * W], ws[W * S];
    pack(skip0_w, ws, W, S);
    for (long t = 0; t < T; t += B) matmul(x0 + t * W, W, ws, s + t * S, S, W, S, 1);
    for (long i = 0; i < L; i++) {
        long d = 1L << (i % STAGES);
        float *x = x_all + i * (T + PAD) * W + PAD * W, *y = x + (T + PAD) * W;
        float *z = z_all + i * (T + PAD) * W2;
        pack(dil_w + i * 3 * W * W2, wd, 3 * W, W2);
        pack(res_w + i * W * W, wr, W, W);
        pack(skip_w + i * W * S, ws, W, S);
        memset(x - 2 * d * W, 0, sizeof(float) * 2 * d * W);
        for (long t = 0; t < T; t += B) {
            float *zb = z + t * W2;
            dilated(x + (t - 2 * d) * W, d, wd, cond + (i * F + t / HOP) * W2, 0, zb, W, W2);
            for (long r = 0; r < B; r++) {
                float *gate = zb + r * W2, *value = gate + W;
                for (int e = 0; e < W; e++) {
                    gate[e] = 1.f / (1.f + fast_exp(-gate[e]));
                    value[e] = 2.f / (1.f + fast_exp(-2.f * value[e])) - 1.f;
                    h[r * W + e] = gate[e] * value[e];
                    y[(t + r) * W + e] = x[(t + r) * W + e] + res_b[i * W + e];
                }
            }
            matmul(h, W, wr, y + t * W, W, W, W, 1);
            matmul(h, W, ws, s + t * S, S, W, S, 1);
        }
    }
    /* Output layers, loss and their gradients, a block of rows at a time; s becomes its gradient. */
    float s0[B * S], t1[B * S], lg[B * Q], dt[B * S];
    factor out_p[S * S], out_t[S * S], logits_p[S * Q], logits_t[Q * S];
    pack(out_w, out_p, S, S);
    pack(logits_w, logits_p, S, Q);
    pack_transposed(out_w, out_t, 1, S, S);
    pack_transposed(logits_w, logits_t, 1, S, Q);
    double loss = 0;
    if (g_start_w) memset(g_cond_out, 0, sizeof(float) * F * S);
    for (long b = 0; b < T; b += B) {
        long f = b / HOP;
        for (long n = 0; n < B * S; n++) s0[n] = s[b * S + n] > 0 ? s[b * S + n] : 0;
        for (long t = 0; t < B; t++) memcpy(t1 + t * S, cond_out + f * S, sizeof(float) * S);
        matmul(s0, S, out_p, t1, S, S, S, 1);
        for (long n = 0; n < B * S; n++) t1[n] = t1[n] > 0 ? t1[n] : 0;
        for (long t = 0; t < B; t++) memcpy(lg + t * Q, logits_b, sizeof(float) * Q);
        matmul(t1, S, logits_p, lg, Q, S, Q, 1);
        for (long t = 0; t < B; t++) {
            float *q = lg + t * Q, top = q[0], sum = 0.f;
            for (int c = 1; c < Q; c++) top = q[c] > top ? q[c] : top;
            float own = uniforms ? 0.f : q[targets[b + t]] - top;
            for (int c = 0; c < Q; c++) {
                q[c] = fast_exp(q[c] - top);
                sum += q[c];
            }
            if (uniforms) {
                float u = uniforms[b + t] * sum;
                int c = 0;
                while (c < Q - 1 && (u -= q[c]) > 0.f) c++;
                targets[b + t] = c;
                continue;
            }
            loss += log(sum) - own;
            q[targets[b + t]] -= sum;
            for (int c = 0; c < Q; c++) q[c] /= sum;
        }
        if (!g_start_w) continue;
        add_rows(lg, Q, g_logits_b, B, Q, scale);
        outer(t1, S, lg, Q, g_logits_w, S, Q, scale);
        matmul(lg, Q, logits_t, dt, S, Q, S, 0);
        gated(dt, t1, B * S);
        add_rows(dt, S, g_cond_out + f * S, B, S, scale);
        outer(s0, S, dt, S, g_out_w, S, S, scale);
        matmul(dt, S, out_t, s + b * S, S, S, S, 0);
        gated(s + b * S, s0, B * S);
        add_rows(s + b * S, S, g_skip_b, B, S, scale);
    }
    if (!g_start_w) return loss;
    memset(g, 0, sizeof(float) * T * W);
    memset(g_cond, 0, sizeof(float) * L * F * W2);
    factor wdt[3 * W * W2], wrt[W * W], wst[W * S];
    float hb[B * W], dh[B * W];
    for (long i = L - 1; i >= 0; i--) {
        long d = 1L << (i % STAGES);
        float *x = x_all + i * (T + PAD) * W + PAD * W, *z = z_all + i * (T + PAD) * W2;
        pack_transposed(dil_w + i * 3 * W * W2, wdt, 3, W, W2);
        pack_transposed(res_w + i * W * W, wrt, 1, W, W);
        pack_transposed(skip_w + i * W * S, wst, 1, W, S);
        memset(z + T * W2, 0, sizeof(float) * 2 * d * W2);
        for (long b = 0; b < T; b += B) {
            float *zb = z + b * W2;
            matmul(g + b * W, W, wrt, dh, W, W, W, 0);
            matmul(s + b * S, S, wst, dh, W, S, W, 1);
            for (long t = 0; t < B; t++)
                for (int e = 0; e < W; e++) {
                    float a = zb[t * W2 + e], c = zb[t * W2 + W + e], v = dh[t * W + e];
                    hb[t * W + e] = a * c;
                    zb[t * W2 + e] = v * c * a * (1 - a);
                    zb[t * W2 + W + e] = v * a * (1 - c * c);
                }
            outer(hb, W, g + b * W, W, g_res_w + i * W * W, W, W, scale);
            outer(hb, W, s + b * S, S, g_skip_w + i * W * S, W, S, scale);
            for (int k = 0; k < 3; k++)
                outer(x + (b - (2 - k) * d) * W, W, zb, W2, g_dil_w + (i * 3 + k) * W * W2, W, W2,
                      scale);
            add_rows(g + b * W, W, g_res_b + i * W, B, W, scale);
            add_rows(zb, W2, g_cond + (i * F + b / HOP) * W2, B, W2, scale);
        }
        for (long t = 0; t < T; t += B)
            dilated(z + (t + 2 * d) * W2, -d, wdt, g + t * W, W, g + t * W, W2, W);
    }
    pack_transposed(skip0_w, wst, 1, W, S);
    for (long t = 0; t < T; t += B) {
        matmul(s + t * S, S, wst, g + t * W, W, S, W, 1);
        outer(x0 + t * W, W, s + t * S, S, g_skip0_w, W, S, scale);
    }
    for (long t = 0; t < T; t++) {
        float a = t > 2 ? history[t - 3] : 0.f, b = t > 1 ? history[t - 2] : 0.f;
        float c = t > 0 ? history[t - 1] : 0.f;
        for (int e = 0; e < W; e++) {
            float v = scale * g[t * W + e];
            g_start_b[e] += v;
            g_start_w[e] += a * v;
            g_start_w[W + e] += b * v;
            g_start_w[2 * W + e] += c * v;
        }
    }
    return loss;
}
