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
#define PAD 1024 /* rows of silence before (after, for gradients) a clip: twice the widest dilation */

/* VL floats are one register.  A tile of TR rows and TN registers stays in registers while a
 * product runs along its depth: wider ones would spill. */
#if defined(__AVX512F__)
enum { VL = 16, TR = 8, TN = 2 };
#elif defined(__AVX__)
enum { VL = 8, TR = 4, TN = 2 };
#else
enum { VL = 4, TR = 4, TN = 2 };
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

/* acc [TR][TC] += a [TR][k] (row stride lda) times b [k][...] (row stride ldb) */
INLINE void multiply(vf acc[TR][TN], const float *a, long lda, const float *b, long ldb, int k)
{
    for (int i = 0; i < k; i++) {
        vf w[TN];
        for (int j = 0; j < TN; j++) w[j] = load(b + i * ldb + VL * j);
        for (int r = 0; r < TR; r++) {
            float x = a[r * lda + i];
            for (int j = 0; j < TN; j++) acc[r][j] += x * w[j];
        }
    }
}

INLINE void load_tile(vf acc[TR][TN], const float *c, long ldc)
{
    for (int r = 0; r < TR; r++)
        for (int j = 0; j < TN; j++) acc[r][j] = load(c + r * ldc + VL * j);
}

INLINE void store_tile(vf acc[TR][TN], float *c, long ldc)
{
    for (int r = 0; r < TR; r++)
        for (int j = 0; j < TN; j++) store(c + r * ldc + VL * j, acc[r][j]);
}

/* c [rows][n] (=, or += where add) a [rows][k] times b [k][n]; rows a multiple of TR, n of TC */
INLINE void matmul(const float *a, long lda, const float *b, float *c, long ldc, long rows, int k,
                   int n, int add)
{
    for (int j = 0; j < n; j += TC)
        for (long t = 0; t < rows; t += TR) {
            vf acc[TR][TN] = {{{0}}};
            if (add) load_tile(acc, c + t * ldc + j, ldc);
            multiply(acc, a + t * lda, lda, b + j, n, k);
            store_tile(acc, c + t * ldc + j, ldc);
        }
}

/* dw [k][n] += sum over rows of a [rows][k] outer d [rows][n]; k a multiple of TR, n of TC */
INLINE void outer(const float *a, long lda, const float *d, long ldd, float *dw, long rows, int k,
                  int n)
{
    for (int j = 0; j < n; j += TC)
        for (int i = 0; i < k; i += TR) {
            vf acc[TR][TN];
            load_tile(acc, dw + i * n + j, n);
            for (long t = 0; t < rows; t++) {
                vf v[TN];
                for (int q = 0; q < TN; q++) v[q] = load(d + t * ldd + j + VL * q);
                for (int p = 0; p < TR; p++) {
                    float x = a[t * lda + i + p];
                    for (int q = 0; q < TN; q++) acc[p][q] += x * v[q];
                }
            }
            store_tile(acc, dw + i * n + j, n);
        }
}

static void transpose(const float *a, float *b, int rows, int columns)
{
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) b[c * rows + r] = a[r * columns + c];
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
    for (long t = 0; t < T; t++) {
        float a = t ? signal[t - 1] : 0.f, b = signal[t], c = t + 1 < T ? signal[t + 1] : 0.f;
        for (int e = 0; e < E; e++)
            x[t * E + e] = start_b[e] + a * start_w[e] + b * start_w[E + e] + c * start_w[2 * E + e];
    }
    for (long i = 0; i < L; i++) {
        long d = 1L << (i % STAGES);
        float *u = u_all + i * (T + 2 * EPAD) * E + EPAD * E, *v = v_all + i * T * E;
        const float *wd = dil_w + i * 3 * E * E, *wr = res_w + i * E * E;
        memset(u - d * E, 0, sizeof(float) * d * E);
        memset(u + T * E, 0, sizeof(float) * d * E);
        for (long n = 0; n < T * E; n++) u[n] = x[n] > 0.f ? x[n] : 0.f;
        for (long t = 0; t < T; t += TR) {
            for (int j = 0; j < E; j += TC) {
                vf acc[TR][TN];
                load_tile(acc, dil_b + i * E + j, 0);
                for (int k = 0; k < 3; k++)
                    multiply(acc, u + (t + (k - 1) * d) * E, E, wd + k * E * E + j, E, E);
                store_tile(acc, v + t * E + j, E);
            }
            for (long n = t * E; n < (t + TR) * E; n++) v[n] = v[n] > 0.f ? v[n] : 0.f;
            for (long r = t; r < t + TR; r++)
                for (int e = 0; e < E; e++) x[r * E + e] += res_b[i * E + e];
            matmul(v + t * E, E, wr, x + t * E, E, TR, E, E, 1);
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
        for (int k = 0; k < 3; k++) transpose(dil_w + (i * 3 + k) * E * E, wdt + k * E * E, E, E);
        transpose(res_w + i * E * E, wrt, E, E);
        for (long b = 0; b < T; b += 64) {
            matmul(g + b * E, E, wrt, dz + b * E, E, 64, E, E, 0);
            for (long n = b * E; n < (b + 64) * E; n++) dz[n] = v[n] > 0.f ? dz[n] : 0.f;
            outer(v + b * E, E, g + b * E, E, g_res_w + i * E * E, 64, E, E);
            for (int k = 0; k < 3; k++)
                outer(u + (b + (k - 1) * d) * E, E, dz + b * E, E, g_dil_w + (i * 3 + k) * E * E, 64,
                      E, E);
            add_rows(g + b * E, E, g_res_b + i * E, 64, E);
            add_rows(dz + b * E, E, g_dil_b + i * E, 64, E);
        }
        for (long t = 0; t < T; t += TR) {
            float du[TR * E];
            for (int j = 0; j < E; j += TC) {
                vf acc[TR][TN] = {{{0}}};
                for (int k = 0; k < 3; k++)
                    multiply(acc, dz + (t - (k - 1) * d) * E, E, wdt + k * E * E + j, E, E);
                store_tile(acc, du + j, E);
            }
            for (int n = 0; n < TR * E; n++) g[t * E + n] += u[t * E + n] > 0.f ? du[n] : 0.f;
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
    enum { B = 64 };
    float h[B * W];
    float *x0 = x_all + PAD * W;
    for (long t = 0; t < T; t++) {
        float a = t > 2 ? history[t - 3] : 0.f, b = t > 1 ? history[t - 2] : 0.f;
        float c = t > 0 ? history[t - 1] : 0.f;
        for (int e = 0; e < W; e++)
            x0[t * W + e] = start_b[e] + a * start_w[e] + b * start_w[W + e] + c * start_w[2 * W + e];
        memcpy(s + t * S, skip_b, sizeof(float) * S);
    }
    matmul(x0, W, skip0_w, s, S, T, W, S, 1);
    for (long i = 0; i < L; i++) {
        long d = 1L << (i % STAGES);
        float *x = x_all + i * (T + PAD) * W + PAD * W, *y = x + (T + PAD) * W;
        float *z = z_all + i * (T + PAD) * W2;
        const float *wd = dil_w + i * 3 * W * W2, *wr = res_w + i * W * W, *ws = skip_w + i * W * S;
        memset(x - 2 * d * W, 0, sizeof(float) * 2 * d * W);
        /* 64 rows at a time, so that weights and rows stay in the nearest cache. */
        for (long t = 0; t < T; t += B) {
            const float *c = cond + (i * F + t / HOP) * W2;
            float *zb = z + t * W2;
            for (int j = 0; j < W2; j += TC)
                for (long r = 0; r < B; r += TR) {
                    vf acc[TR][TN];
                    load_tile(acc, c + j, 0);
                    for (int k = 0; k < 3; k++)
                        multiply(acc, x + (t + r - (2 - k) * d) * W, W, wd + k * W * W2 + j, W2, W);
                    store_tile(acc, zb + r * W2 + j, W2);
                }
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
    transpose(out_w, out_t, S, S);
    transpose(logits_w, logits_t, S, Q);
    double loss = 0;
    if (g_start_w) memset(g_cond_out, 0, sizeof(float) * F * S);
    for (long b = 0; b < T; b += B) {
        long f = b / HOP;
        for (long n = 0; n < B * S; n++) s0[n] = s[b * S + n] > 0.f ? s[b * S + n] : 0.f;
        for (long t = 0; t < B; t++) memcpy(t1 + t * S, cond_out + f * S, sizeof(float) * S);
        matmul(s0, S, out_w, t1, S, B, S, S, 1);
        for (long n = 0; n < B * S; n++) t1[n] = t1[n] > 0.f ? t1[n] : 0.f;
        for (long t = 0; t < B; t++) memcpy(lg + t * Q, logits_b, sizeof(float) * Q);
        matmul(t1, S, logits_w, lg, Q, B, S, Q, 1);
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
        for (int k = 0; k < 3; k++)
            transpose(dil_w + (i * 3 + k) * W * W2, wdt + k * W * W2, W, W2);
        transpose(res_w + i * W * W, wrt, W, W);
        transpose(skip_w + i * W * S, wst, W, S);
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
            for (int k = 0; k < 3; k++)
                matmul(z + (t + (2 - k) * d) * W2, W2, wdt + k * W * W2, g + t * W, W, B, W2, W, 1);
    }
    transpose(skip0_w, wst, W, S);
    matmul(s, S, wst, g, W, T, S, W, 1);
    outer(x0, W, s, S, g_skip0_w, T, W, S);
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
