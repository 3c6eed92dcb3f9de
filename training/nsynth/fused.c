/* One WaveNet autoencoder clip at a time: forward and hand-written backward pass, float32.
 *
 * Compiled on the training machine by fused.py with -DWIDTH, -DSKIP, -DENC_WIDTH (multiples
 * of 32) and called through ctypes.  Clips are rows of channels in time order, so that a dilated
 * tap is the same matrix a few rows earlier; each layer's three taps, gate, residual and skip are
 * done while its rows are in the nearest cache.
 */
#include <math.h>
#include <string.h>

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
typedef float vf __attribute__((vector_size(4 * VL), aligned(4)));
#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p) { return *(const vf *)p; }
INLINE void store(float *p, vf v) { *(vf *)p = v; }

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

/* acc [R][TC] += a [R][k] (row stride lda) times b [k][TC] */
INLINE void multiply(vf acc[][TN], int R, const float *a, long lda, const float *b, int k)
{
#pragma GCC unroll 1
    for (int i = 0; i < k; i++) {
        vf w[TN];
        for (int j = 0; j < TN; j++) w[j] = load(b + i * TC + VL * j);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            float x = a[r * lda + i];
            for (int j = 0; j < TN; j++) acc[r][j] += x * w[j];
        }
    }
}

INLINE void load_tile(vf acc[][TN], int R, const float *c, long ldc)
{
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
        for (int j = 0; j < TN; j++) acc[r][j] = load(c + r * ldc + VL * j);
}

INLINE void store_tile(vf acc[][TN], int R, float *c, long ldc)
{
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
        for (int j = 0; j < TN; j++) store(c + r * ldc + VL * j, acc[r][j]);
}

/* b [k][n] -> panels [n / TC][k][TC], which a product runs along. */
static void pack(const float *b, float *to, int k, int n)
{
    for (int j = 0; j < n; j += TC)
        for (int i = 0; i < k; i++) memcpy(to + j * k + i * TC, b + i * n + j, sizeof(float) * TC);
}

/* a [taps][rows][columns], each tap transposed: panels [rows / TC][taps * columns][TC] */
static void pack_transposed(const float *a, float *to, int taps, int rows, int columns)
{
    int k = taps * columns;
    for (int tap = 0; tap < taps; tap++)
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < columns; c++)
                to[r / TC * TC * k + (tap * columns + c) * TC + r % TC] = *a++;
}

/* c [rows][n] (=, or += where add) a [rows][k] times b, [k][n] in panels; n a multiple of TC */
INLINE void matmul(const float *a, long lda, const float *b, float *c, long ldc, long rows, int k,
                   int n, int add)
{
    for (int j = 0; j < n; j += TC)
        TILES(rows, {
            vf acc[R][TN];
            if (add) load_tile(acc, R, c + r * ldc + j, ldc);
            else memset(acc, 0, sizeof acc);
            multiply(acc, R, a + r * lda, lda, b + j * k, k);
            store_tile(acc, R, c + r * ldc + j, ldc);
        });
}

/* One dilated layer of three taps: c [B][n] = from [B][n] (row stride ldf; zeros where NULL) plus,
 * for each tap, rows of a [..][k], the next tap's `step` rows on, times b, [3 * k][n] in panels */
INLINE void dilated(const float *a, long step, const float *b, const float *from, long ldf,
                    float *c, int k, int n)
{
    for (int j = 0; j < n; j += TC)
        TILES(B, {
            vf acc[R][TN];
            if (from) load_tile(acc, R, from + r * ldf + j, ldf);
            else memset(acc, 0, sizeof acc);
            for (int tap = 0; tap < 3; tap++)
                multiply(acc, R, a + (r + tap * step) * k, k, b + (3 * j + tap * TC) * k, k);
            store_tile(acc, R, c + r * n + j, n);
        });
}

/* acc [R][TC] += sum over rows of a [rows][R] outer d [rows][TC] */
INLINE void multiply_rows(vf acc[][TN], int R, const float *a, long lda, const float *d, long ldd,
                          long rows)
{
#pragma GCC unroll 1
    for (long t = 0; t < rows; t++) {
        vf v[TN];
        for (int j = 0; j < TN; j++) v[j] = load(d + t * ldd + VL * j);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            float x = a[t * lda + r];
            for (int j = 0; j < TN; j++) acc[r][j] += x * v[j];
        }
    }
}

/* dw [k][n] += sum over rows of a [rows][k] outer d [rows][n]; k a multiple of 4, n of TC */
INLINE void outer(const float *a, long lda, const float *d, long ldd, float *dw, long rows, int k,
                  int n)
{
    for (int j = 0; j < n; j += TC)
        TILES(k, {
            vf acc[R][TN];
            load_tile(acc, R, dw + r * n + j, n);
            multiply_rows(acc, R, a + r, lda, d + j, ldd, rows);
            store_tile(acc, R, dw + r * n + j, n);
        });
}

INLINE void add_rows(const float *a, long lda, float *sum, long rows, int n)
{
    for (int c = 0; c < n; c += VL) {
        vf total = load(sum + c);
        for (long t = 0; t < rows; t++) total += load(a + t * lda + c);
        store(sum + c, total);
    }
}

/* ---- encoder ------------------------------------------------------------------------------ */
#define EPAD 512

/* Floats of working memory encoder_* need for a clip of T samples. */
long encoder_memory(long T, long L)
{
    return L * (T + 2 * EPAD) * E + L * T * E + T * E + (T + 2 * EPAD) * E;
}

/* signal [T] -> pooled [T/HOP][E], means over each hop of the network before its bottleneck. */
void encoder_forward(const float *start_w, const float *start_b, const float *dil_w,
                     const float *dil_b, const float *res_w, const float *res_b,
                     const float *signal, long T, long L, float *memory, float *pooled)
{
    float *u_all = memory, *v_all = u_all + L * (T + 2 * EPAD) * E, *x = v_all + L * T * E;
    float wd[3 * E * E], wr[E * E];
    for (long t = 0; t < T; t++) {
        float a = t ? signal[t - 1] : 0.f, b = signal[t], c = t + 1 < T ? signal[t + 1] : 0.f;
        for (int e = 0; e < E; e++)
            x[t * E + e] = start_b[e] + a * start_w[e] + b * start_w[E + e] + c * start_w[2 * E + e];
    }
    for (long i = 0; i < L; i++) {
        long d = 1L << (i % STAGES);
        float *u = u_all + i * (T + 2 * EPAD) * E + EPAD * E, *v = v_all + i * T * E;
        memset(u - d * E, 0, sizeof(float) * d * E);
        memset(u + T * E, 0, sizeof(float) * d * E);
        for (long n = 0; n < T * E; n++) u[n] = x[n] > 0.f ? x[n] : 0.f;
        pack(dil_w + i * 3 * E * E, wd, 3 * E, E);
        pack(res_w + i * E * E, wr, E, E);
        for (long t = 0; t < T; t += B) {
            dilated(u + (t - d) * E, d, wd, dil_b + i * E, 0, v + t * E, E, E);
            for (long n = t * E; n < (t + B) * E; n++) v[n] = v[n] > 0.f ? v[n] : 0.f;
            for (long r = t; r < t + B; r++)
                for (int e = 0; e < E; e++) x[r * E + e] += res_b[i * E + e];
            matmul(v + t * E, E, wr, x + t * E, E, B, E, E, 1);
        }
    }
    for (long f = 0; f < T / HOP; f++) {
        float sum[E];
        memset(sum, 0, sizeof sum);
        add_rows(x + f * HOP * E, E, sum, HOP, E);
        for (int e = 0; e < E; e++) pooled[f * E + e] = sum[e] / HOP;
    }
}

/* d_pooled [T/HOP][E] -> gradients, added to g_*; memory as encoder_forward left it. */
void encoder_backward(const float *dil_w, const float *res_w, const float *signal, long T, long L,
                      float *memory, const float *d_pooled, float *g_start_w, float *g_start_b,
                      float *g_dil_w, float *g_dil_b, float *g_res_w, float *g_res_b)
{
    float *u_all = memory, *v_all = u_all + L * (T + 2 * EPAD) * E, *g = v_all + L * T * E;
    float *dz = g + T * E + EPAD * E;
    float wdt[3 * E * E], wrt[E * E];
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
            matmul(g + b * E, E, wrt, dz + b * E, E, B, E, E, 0);
            for (long n = b * E; n < (b + B) * E; n++) dz[n] = v[n] > 0.f ? dz[n] : 0.f;
            outer(v + b * E, E, g + b * E, E, g_res_w + i * E * E, B, E, E);
            for (int k = 0; k < 3; k++)
                outer(u + (b + (k - 1) * d) * E, E, dz + b * E, E, g_dil_w + (i * 3 + k) * E * E, B,
                      E, E);
            add_rows(g + b * E, E, g_res_b + i * E, B, E);
            add_rows(dz + b * E, E, g_dil_b + i * E, B, E);
        }
        for (long t = 0; t < T; t += B) {
            float du[B * E];
            dilated(dz + (t + d) * E, -d, wdt, NULL, 0, du, E, E);
            for (int n = 0; n < B * E; n++) g[t * E + n] += u[t * E + n] > 0.f ? du[n] : 0.f;
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
long decoder_memory(long T, long L)
{
    return (L + 1) * (T + PAD) * W + (L + 1) * (T + PAD) * W2 + T * S + T * W;
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
    float h[B * W];
    float *x0 = x_all + PAD * W;
    for (long t = 0; t < T; t++) {
        float a = t > 2 ? history[t - 3] : 0.f, b = t > 1 ? history[t - 2] : 0.f;
        float c = t > 0 ? history[t - 1] : 0.f;
        for (int e = 0; e < W; e++)
            x0[t * W + e] = start_b[e] + a * start_w[e] + b * start_w[W + e] + c * start_w[2 * W + e];
        memcpy(s + t * S, skip_b, sizeof(float) * S);
    }
    float wd[3 * W * W2], wr[W * W], ws[W * S];
    pack(skip0_w, ws, W, S);
    for (long t = 0; t < T; t += B) matmul(x0 + t * W, W, ws, s + t * S, S, B, W, S, 1);
    for (long i = 0; i < L; i++) {
        long d = 1L << (i % STAGES);
        float *x = x_all + i * (T + PAD) * W + PAD * W, *y = x + (T + PAD) * W;
        float *z = z_all + i * (T + PAD) * W2;
        pack(dil_w + i * 3 * W * W2, wd, 3 * W, W2);
        pack(res_w + i * W * W, wr, W, W);
        pack(skip_w + i * W * S, ws, W, S);
        memset(x - 2 * d * W, 0, sizeof(float) * 2 * d * W);
        for (long t = 0; t < T; t += B) {
            const float *c = cond + (i * F + t / HOP) * W2;
            float *zb = z + t * W2;
            dilated(x + (t - 2 * d) * W, d, wd, c, 0, zb, W, W2);
            for (long r = 0; r < B; r++) {
                float *restrict a = zb + r * W2, *restrict b = a + W, *restrict o = h + r * W;
                for (int e = 0; e < W; e++) {
                    float gate = 1.f / (1.f + fast_exp(-a[e]));
                    float value = 2.f / (1.f + fast_exp(-2.f * b[e])) - 1.f;
                    a[e] = gate;
                    b[e] = value;
                    o[e] = gate * value;
                }
                for (int e = 0; e < W; e++)
                    y[(t + r) * W + e] = x[(t + r) * W + e] + res_b[i * W + e];
            }
            matmul(h, W, wr, y + t * W, W, B, W, W, 1);
            matmul(h, W, ws, s + t * S, S, B, W, S, 1);
        }
    }
    /* Output layers, loss and their gradients, a block of rows at a time; s becomes its gradient. */
    float s0[B * S], t1[B * S], lg[B * Q], dt[B * S], out_t[S * S], logits_t[Q * S];
    float out_p[S * S], logits_p[S * Q];
    pack(out_w, out_p, S, S);
    pack(logits_w, logits_p, S, Q);
    pack_transposed(out_w, out_t, 1, S, S);
    pack_transposed(logits_w, logits_t, 1, S, Q);
    double loss = 0;
    if (g_start_w) memset(g_cond_out, 0, sizeof(float) * F * S);
    for (long b = 0; b < T; b += B) {
        long f = b / HOP;
        for (long n = 0; n < B * S; n++) s0[n] = s[b * S + n] > 0.f ? s[b * S + n] : 0.f;
        for (long t = 0; t < B; t++) memcpy(t1 + t * S, cond_out + f * S, sizeof(float) * S);
        matmul(s0, S, out_p, t1, S, B, S, S, 1);
        for (long n = 0; n < B * S; n++) t1[n] = t1[n] > 0.f ? t1[n] : 0.f;
        for (long t = 0; t < B; t++) memcpy(lg + t * Q, logits_b, sizeof(float) * Q);
        matmul(t1, S, logits_p, lg, Q, B, S, Q, 1);
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
            float k = scale / sum;
            for (int c = 0; c < Q; c++) q[c] *= k;
            q[targets[b + t]] -= scale;
        }
        if (!g_start_w) continue;
        add_rows(lg, Q, g_logits_b, B, Q);
        outer(t1, S, lg, Q, g_logits_w, B, S, Q);
        matmul(lg, Q, logits_t, dt, S, B, Q, S, 0);
        for (long n = 0; n < B * S; n++) dt[n] = t1[n] > 0.f ? dt[n] : 0.f;
        add_rows(dt, S, g_cond_out + f * S, B, S);
        outer(s0, S, dt, S, g_out_w, B, S, S);
        matmul(dt, S, out_t, s + b * S, S, B, S, S, 0);
        for (long n = 0; n < B * S; n++) s[b * S + n] = s0[n] > 0.f ? s[b * S + n] : 0.f;
        add_rows(s + b * S, S, g_skip_b, B, S);
    }
    if (!g_start_w) return loss;
    memset(g, 0, sizeof(float) * T * W);
    memset(g_cond, 0, sizeof(float) * L * F * W2);
    float wdt[3 * W * W2], wrt[W * W], wst[W * S], hb[B * W], dh[B * W];
    for (long i = L - 1; i >= 0; i--) {
        long d = 1L << (i % STAGES);
        float *x = x_all + i * (T + PAD) * W + PAD * W, *z = z_all + i * (T + PAD) * W2;
        pack_transposed(dil_w + i * 3 * W * W2, wdt, 3, W, W2);
        pack_transposed(res_w + i * W * W, wrt, 1, W, W);
        pack_transposed(skip_w + i * W * S, wst, 1, W, S);
        memset(z + T * W2, 0, sizeof(float) * 2 * d * W2);
        for (long b = 0; b < T; b += B) {
            float *zb = z + b * W2;
            matmul(g + b * W, W, wrt, dh, W, B, W, W, 0);
            matmul(s + b * S, S, wst, dh, W, B, S, W, 1);
            for (long t = 0; t < B; t++)
                for (int e = 0; e < W; e++) {
                    float a = zb[t * W2 + e], c = zb[t * W2 + W + e], v = dh[t * W + e];
                    hb[t * W + e] = a * c;
                    zb[t * W2 + e] = v * c * a * (1.f - a);
                    zb[t * W2 + W + e] = v * a * (1.f - c * c);
                }
            outer(hb, W, g + b * W, W, g_res_w + i * W * W, B, W, W);
            outer(hb, W, s + b * S, S, g_skip_w + i * W * S, B, W, S);
            for (int k = 0; k < 3; k++)
                outer(x + (b - (2 - k) * d) * W, W, zb, W2, g_dil_w + (i * 3 + k) * W * W2, B, W, W2);
            add_rows(g + b * W, W, g_res_b + i * W, B, W);
            add_rows(zb, W2, g_cond + (i * F + b / HOP) * W2, B, W2);
        }
        for (long t = 0; t < T; t += B)
            dilated(z + (t + 2 * d) * W2, -d, wdt, g + t * W, W, g + t * W, W2, W);
    }
    pack_transposed(skip0_w, wst, 1, W, S);
    for (long t = 0; t < T; t += B) {
        matmul(s + t * S, S, wst, g + t * W, W, B, S, W, 1);
        outer(x0 + t * W, W, s + t * S, S, g_skip0_w, B, W, S);
    }
    for (long t = 0; t < T; t++) {
        float a = t > 2 ? history[t - 3] : 0.f, b = t > 1 ? history[t - 2] : 0.f;
        float c = t > 0 ? history[t - 1] : 0.f;
        for (int e = 0; e < W; e++) {
            float v = g[t * W + e];
            g_start_b[e] += v;
            g_start_w[e] += a * v;
            g_start_w[W + e] += b * v;
            g_start_w[2 * W + e] += c * v;
        }
    }
    return loss;
}
