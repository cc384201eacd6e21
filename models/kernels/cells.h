// One time step of each cell, forward and backward, without its products (DERIVATION.md, section 2).
//
// forward: from the raw terms of the summed inputs to gates and new state. backward: from dh and dc, the gradients of
// the state after the step, to those of the raw terms and, in dh and dc, of what of the state before the step reached
// the state after it past the product with W_h; the caller adds the product's part to dh.
#pragma once
#include "activations.h"
#include "norms.h"

namespace layernorm {

template <typename T>
struct Step {
  int64_t size;  // hidden_size H
  Cases cases;
  T eps;
  Term<T> x[2], h[2], of_c;    // of W_x x and W_h h: what is normalised together; of the LSTM's c
  T *gates, *squashed;         // activated (B, gates * H); tanh(norm(c)) (B, H)
  const T *h_before, *c_before;  // (B, H)
  T *h_after, *c_after;
  // backward
  const T* d_outputs;       // (B, H)
  T *dh, *dc, *dn;          // (B, H); dn: scratch
  T *dx_raw, *dh_raw;       // (B, gates * H), of the raw terms
  T* sums;                  // two rows of scratch
};

template <typename T>
inline void stand_still(T* to, const T* from, int64_t left, int64_t right) {
  for (int64_t j = left; j < right; ++j) to[j] = from[j];
}

template <typename T>
inline void add_row(T* to, const T* d, int64_t left, int64_t right) {
#pragma omp simd
  for (int64_t j = left; j < right; ++j) to[j] += d[j];
}

// Equation 4: h = tanh(norm(W_h h + W_x x)).
template <typename T, Norm norm>
struct Tanh {
  static constexpr int GATES = 1, SEGMENTS = 1;
  static constexpr bool ONE_SUM = true;  // W_x x and W_h h are added before the norm

  static void forward(const Step<T>& s, const Block& block) {
    statistics<T, norm>(s.x[0], block, s.cases, s.eps);
    for (int64_t b = block.first; b < block.last; ++b) {
      T* h = s.h_after + b * s.size;
      if (!s.cases.inside(b)) {
        stand_still(h, s.h_before + b * s.size, block.left, block.right);
        continue;
      }
      const Row<T, norm> a(s.x[0], b);
#pragma omp simd
      for (int64_t j = block.left; j < block.right; ++j) h[j] = hyperbolic_tangent(a(j));
    }
  }

  static void backward(const Step<T>& s, const Block& block) {
    for (int64_t b = block.first; b < block.last; ++b) {
      T *dh = s.dh + b * s.size, *da = s.dh_raw + b * s.size;
      const T* h = s.h_after + b * s.size;
      add_row(dh, s.d_outputs + b * s.size, block.left, block.right);
      if (!s.cases.inside(b)) continue;
#pragma omp simd
      for (int64_t j = block.left; j < block.right; ++j) {
        da[j] = dh[j] * (1 - h[j] * h[j]);
        dh[j] = 0;
      }
    }
    layernorm::backward<T, norm>(s.x[0], s.dh_raw, s.dh_raw, s.size, block, s.cases, s.sums);
  }
};

// Equations 20-22: (f, i, o, g) = norm(W_h h) + norm(W_x x) + b; c = s(f) c + s(i) tanh(g); h = s(o) tanh(norm(c)).
template <typename T, Norm norm>
struct LSTM {
  static constexpr int GATES = 4, SEGMENTS = 1;
  static constexpr bool ONE_SUM = norm == Norm::none;

  static void forward(const Step<T>& s, const Block& block) {
    const int64_t H = s.size;
    statistics<T, norm>(s.x[0], block, s.cases, s.eps);
    statistics<T, norm>(s.h[0], block, s.cases, s.eps);
    for (int64_t b = block.first; b < block.last; ++b) {
      T* c = s.c_after + b * H;
      const T* c_before = s.c_before + b * H;
      if (!s.cases.inside(b)) {
        stand_still(c, c_before, block.left, block.right);
        continue;
      }
      const Row<T, norm> x(s.x[0], b), h(s.h[0], b);
      T *f = s.gates + b * 4 * H, *i = f + H, *g = f + 3 * H;
      const auto a = [&](int64_t j) { return ONE_SUM ? x(j) : x(j) + h(j); };
      for (int gate = 0; gate < 3; ++gate)
#pragma omp simd
        for (int64_t j = gate * H + block.left; j < gate * H + block.right; ++j) f[j] = sigmoid(a(j));
#pragma omp simd
      for (int64_t j = block.left; j < block.right; ++j) {
        g[j] = hyperbolic_tangent(a(3 * H + j));
        c[j] = f[j] * c_before[j] + i[j] * g[j];
      }
    }
    statistics<T, norm>(s.of_c, block, s.cases, s.eps);
    for (int64_t b = block.first; b < block.last; ++b) {
      T *h = s.h_after + b * H, *squashed = s.squashed + b * H;
      const T* o = s.gates + (4 * b + 2) * H;
      if (!s.cases.inside(b)) {
        stand_still(h, s.h_before + b * H, block.left, block.right);
        continue;
      }
      const Row<T, norm> c(s.of_c, b);
#pragma omp simd
      for (int64_t j = block.left; j < block.right; ++j) {
        squashed[j] = hyperbolic_tangent(c(j));
        h[j] = o[j] * squashed[j];
      }
    }
  }

  static void backward(const Step<T>& s, const Block& block) {
    const int64_t H = s.size;
    for (int64_t b = block.first; b < block.last; ++b) {
      T *dh = s.dh + b * H, *dn = s.dn + b * H, *da_o = s.dh_raw + (4 * b + 2) * H;
      const T *o = s.gates + (4 * b + 2) * H, *squashed = s.squashed + b * H;
      add_row(dh, s.d_outputs + b * H, block.left, block.right);
      if (!s.cases.inside(b)) continue;
#pragma omp simd
      for (int64_t j = block.left; j < block.right; ++j) {
        da_o[j] = dh[j] * squashed[j] * o[j] * (1 - o[j]);
        dn[j] = dh[j] * o[j] * (1 - squashed[j] * squashed[j]);
        dh[j] = 0;
      }
    }
    layernorm::backward<T, norm>(s.of_c, s.dn, s.dn, H, block, s.cases, s.sums);
    for (int64_t b = block.first; b < block.last; ++b) {
      if (!s.cases.inside(b)) continue;
      T *dc = s.dc + b * H, *da = s.dh_raw + b * 4 * H;
      const T *dn = s.dn + b * H, *c_before = s.c_before + b * H;
      const T *f = s.gates + b * 4 * H, *i = f + H, *g = f + 3 * H;
#pragma omp simd
      for (int64_t j = block.left; j < block.right; ++j) {
        const T d = dc[j] + dn[j];
        da[j] = d * c_before[j] * f[j] * (1 - f[j]);
        da[H + j] = d * g[j] * i[j] * (1 - i[j]);
        da[3 * H + j] = d * i[j] * (1 - g[j] * g[j]);
        dc[j] = d * f[j];
      }
    }
    layernorm::backward<T, norm>(s.x[0], s.dh_raw, s.dx_raw, 4 * H, block, s.cases, s.sums);
    if (!ONE_SUM) layernorm::backward<T, norm>(s.h[0], s.dh_raw, s.dh_raw, 4 * H, block, s.cases, s.sums);
  }
};

// Equations 26-28: (z, r) = norm(W_h h) + norm(W_x x); h~ = tanh(norm(W x) + s(r) norm(U h));
// h = (1 - s(z)) h + s(z) h~.
template <typename T, Norm norm>
struct GRU {
  static constexpr int GATES = 3, SEGMENTS = 2;
  static constexpr bool ONE_SUM = false;

  static void forward(const Step<T>& s, const Block& block) {
    const int64_t H = s.size;
    for (const Term<T>& term : {s.x[0], s.x[1], s.h[0], s.h[1]}) statistics<T, norm>(term, block, s.cases, s.eps);
    for (int64_t b = block.first; b < block.last; ++b) {
      T* h = s.h_after + b * H;
      const T* h_before = s.h_before + b * H;
      if (!s.cases.inside(b)) {
        stand_still(h, h_before, block.left, block.right);
        continue;
      }
      const Row<T, norm> x(s.x[0], b), from_h(s.h[0], b), candidate(s.x[1], b), u(s.h[1], b);
      T *z = s.gates + b * 3 * H, *r = z + H, *g = z + 2 * H;
      for (int gate = 0; gate < 2; ++gate)
#pragma omp simd
        for (int64_t j = gate * H + block.left; j < gate * H + block.right; ++j) z[j] = sigmoid(x(j) + from_h(j));
#pragma omp simd
      for (int64_t j = block.left; j < block.right; ++j) {
        g[j] = hyperbolic_tangent(candidate(j) + r[j] * u(j));
        h[j] = h_before[j] + z[j] * (g[j] - h_before[j]);
      }
    }
  }

  static void backward(const Step<T>& s, const Block& block) {
    const int64_t H = s.size;
    for (int64_t b = block.first; b < block.last; ++b) {
      T *dh = s.dh + b * H, *dx = s.dx_raw + b * 3 * H, *da = s.dh_raw + b * 3 * H;
      const T* h_before = s.h_before + b * H;
      const T *z = s.gates + b * 3 * H, *r = z + H, *g = z + 2 * H;
      add_row(dh, s.d_outputs + b * H, block.left, block.right);
      if (!s.cases.inside(b)) continue;
      const Row<T, norm> u(s.h[1], b);
#pragma omp simd
      for (int64_t j = block.left; j < block.right; ++j) {
        const T dg = dh[j] * z[j] * (1 - g[j] * g[j]);
        da[j] = dx[j] = dh[j] * (g[j] - h_before[j]) * z[j] * (1 - z[j]);
        da[H + j] = dx[H + j] = dg * u(j) * r[j] * (1 - r[j]);
        dx[2 * H + j] = dg;
        da[2 * H + j] = dg * r[j];
        dh[j] *= 1 - z[j];
      }
    }
    const int64_t stride = 3 * H, two = 2 * H;
    layernorm::backward<T, norm>(s.x[0], s.dx_raw, s.dx_raw, stride, block, s.cases, s.sums);
    layernorm::backward<T, norm>(s.h[0], s.dh_raw, s.dh_raw, stride, block, s.cases, s.sums);
    layernorm::backward<T, norm>(s.x[1], s.dx_raw + two, s.dx_raw + two, stride, block, s.cases, s.sums);
    layernorm::backward<T, norm>(s.h[1], s.dh_raw + two, s.dh_raw + two, stride, block, s.cases, s.sums);
  }
};

}  // namespace layernorm
