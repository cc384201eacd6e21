// One time step of each cell, forward and backward, without its products (DERIVATION.md, section 2).
//
// A cell says what happens to one case's row: forward from the summed inputs to the new state, backward from dh and dc,
// the gradients of the state after the step, to those of the summed inputs and, in dh and dc, to what of the state
// before the step reached the state after it past the product with W_h; the caller adds the product's part to dh.
#pragma once
#include <algorithm>

#include "activations.h"
#include "norms.h"

namespace layernorm {

template <typename T>
struct Step {
  int64_t size;  // hidden_size H
  Cases cases;
  T eps;
  Moments<T> overflowing;
  Term<T> x[4], h[4], of_c;      // of W_x x and W_h h: what is normalised together; of the LSTM's c
  T *gates, *squashed;           // activated (B, gates * H); tanh(norm(c)) (B, H)
  const T *h_before, *c_before;  // (B, H)
  T *h_after, *c_after, *raw_c;  // raw_c: before its norm; c_after itself unless that gets norm(c)
  // backward
  const T* d_outputs;   // (B, H)
  T *dh, *dc, *dn;      // (B, H); dn: of norm(c)
  T *dx_raw, *dh_raw;   // (B, gates * H), of the raw W_x x and W_h h
  T* sums;              // two rows of scratch

  bool carries_normalized() const { return raw_c != c_after; }
};

template <typename T>
inline void add_row(T* to, const T* d, int64_t left, int64_t right) {
  vectorised(left, right, [=](int64_t j) { to[j] += d[j]; });
}

// What every cell says of itself.
template <typename Number, CellName name, Norm norm, Norm of_c = Norm::none>
struct Cell {
  using T = Number;
  static constexpr CellName NAME = name;
  static constexpr Norm NORM = norm, OF_C = of_c;
  static constexpr int SEGMENTS = 1;      // of the gates, with norms of their own: each a gate, the first all others
  static constexpr bool ONE_SUM = false;  // W_x x and W_h h are added before the norm
  static constexpr bool CARRIES_C = false;
};

// Equation 4: h = tanh(norm(W_h h + W_x x)).
template <typename T, Norm norm>
struct Tanh : Cell<T, CellName::tanh, norm> {
  static constexpr int GATES = 1;
  static constexpr bool ONE_SUM = true;

  static void forward(const Step<T>& s, const Block& block, int64_t b) {
    const Row<T, norm> a(s.x[0], b);
    T* h = s.h_after + b * s.size;
    vectorised(block.left, block.right, [&](int64_t j) { h[j] = hyperbolic_tangent(a(j)); });
  }

  static void backward(const Step<T>& s, const Block& block, int64_t b) {
    T *dh = s.dh + b * s.size, *da = s.dh_raw + b * s.size;
    const T* h = s.h_after + b * s.size;
    vectorised(block.left, block.right, [&](int64_t j) {
      da[j] = dh[j] * (1 - h[j] * h[j]);
      dh[j] = 0;
    });
  }
};

// Equations 20-22: (f, i, o, g) = norm(W_h h) + norm(W_x x) + b; c = s(f) c + s(i) tanh(g); h = s(o) tanh(norm(c)); and
// the forms that normalise each gate's sum by itself, or the gates or c not at all, or carry norm(c).
template <typename T, Norm norm, Norm of_c = norm>
struct LSTM : Cell<T, CellName::lstm, norm, of_c> {
  static constexpr int GATES = 4, SEGMENTS = norm == Norm::gates ? GATES : 1;
  static constexpr bool ONE_SUM = norm == Norm::none || norm == Norm::gates, CARRIES_C = true;

  // f(j, a) for the summed inputs a of the units j of a gate.
  template <typename F>
  static void for_gate(int gate, const Step<T>& s, const Block& block, int64_t b, F f) {
    const int segment = SEGMENTS == 1 ? 0 : gate;
    const int64_t start = SEGMENTS == 1 ? gate * s.size : 0;
    const Row<T, norm> x(s.x[segment], b), h(ONE_SUM ? s.x[segment] : s.h[segment], b);
    const auto a = [&](int64_t j) { return ONE_SUM ? x(j) : x(j) + h(j); };
    vectorised(start + block.left, start + block.right, [&](int64_t j) { f(j - start, a(j)); });
  }

  static void forward(const Step<T>& s, const Block& block, int64_t b) {
    const int64_t H = s.size;
    T *f = s.gates + b * 4 * H, *i = f + H, *g = f + 3 * H, *c = s.raw_c + b * H;
    const T* c_before = s.c_before + b * H;
    for (int gate = 0; gate < 3; ++gate)
      for_gate(gate, s, block, b, [to = f + gate * H](int64_t j, T a) { to[j] = sigmoid(a); });
    for_gate(3, s, block, b, [=](int64_t j, T a) {
      g[j] = hyperbolic_tangent(a);
      c[j] = f[j] * c_before[j] + i[j] * g[j];
    });
  }

  static void output(const Step<T>& s, const Block& block, int64_t b) {
    const Row<T, of_c> c(s.of_c, b);
    T *h = s.h_after + b * s.size, *squashed = s.squashed + b * s.size, *c_after = s.c_after + b * s.size;
    const T* o = s.gates + (4 * b + 2) * s.size;
    vectorised(block.left, block.right, [&](int64_t j) {
      squashed[j] = hyperbolic_tangent(c(j));
      h[j] = o[j] * squashed[j];
    });
    if (s.carries_normalized()) vectorised(block.left, block.right, [&](int64_t j) { c_after[j] = c(j); });
  }

  static void output_backward(const Step<T>& s, const Block& block, int64_t b) {
    T *dh = s.dh + b * s.size, *dn = s.dn + b * s.size, *da_o = s.dh_raw + (4 * b + 2) * s.size;
    const T *o = s.gates + (4 * b + 2) * s.size, *squashed = s.squashed + b * s.size;
    vectorised(block.left, block.right, [&](int64_t j) {
      da_o[j] = dh[j] * squashed[j] * o[j] * (1 - o[j]);
      dn[j] = dh[j] * o[j] * (1 - squashed[j] * squashed[j]);
      dh[j] = 0;
    });
    if (s.carries_normalized())
      vectorised(block.left, block.right, [dn, dc = s.dc + b * s.size](int64_t j) {
        dn[j] += dc[j];
        dc[j] = 0;
      });
  }

  static void backward(const Step<T>& s, const Block& block, int64_t b) {
    const int64_t H = s.size;
    T *dc = s.dc + b * H, *da = s.dh_raw + b * 4 * H;
    const T *dn = s.dn + b * H, *c_before = s.c_before + b * H;
    const T *f = s.gates + b * 4 * H, *i = f + H, *g = f + 3 * H;
    vectorised(block.left, block.right, [&](int64_t j) {
      const T d = dc[j] + dn[j];
      da[j] = d * c_before[j] * f[j] * (1 - f[j]);
      da[H + j] = d * g[j] * i[j] * (1 - i[j]);
      da[3 * H + j] = d * i[j] * (1 - g[j] * g[j]);
      dc[j] = d * f[j];
    });
  }
};

// Equations 26-28: (z, r) = norm(W_h h) + norm(W_x x); h~ = tanh(norm(W x) + s(r) norm(U h));
// h = (1 - s(z)) h + s(z) h~.
template <typename T, Norm norm>
struct GRU : Cell<T, CellName::gru, norm> {
  static constexpr int GATES = 3, SEGMENTS = 2;

  static void forward(const Step<T>& s, const Block& block, int64_t b) {
    const int64_t H = s.size;
    const Row<T, norm> x(s.x[0], b), from_h(s.h[0], b), candidate(s.x[1], b), u(s.h[1], b);
    T *z = s.gates + b * 3 * H, *r = z + H, *g = z + 2 * H, *h = s.h_after + b * H;
    const T* h_before = s.h_before + b * H;
    for (int gate = 0; gate < 2; ++gate)
      vectorised(gate * H + block.left, gate * H + block.right, [&](int64_t j) { z[j] = sigmoid(x(j) + from_h(j)); });
    vectorised(block.left, block.right, [&](int64_t j) {
      g[j] = hyperbolic_tangent(candidate(j) + r[j] * u(j));
      h[j] = h_before[j] + z[j] * (g[j] - h_before[j]);
    });
  }

  static void backward(const Step<T>& s, const Block& block, int64_t b) {
    const int64_t H = s.size;
    const Row<T, norm> u(s.h[1], b);
    T *dh = s.dh + b * H, *dx = s.dx_raw + b * 3 * H, *da = s.dh_raw + b * 3 * H;
    const T *h_before = s.h_before + b * H, *z = s.gates + b * 3 * H, *r = z + H, *g = r + H;
    vectorised(block.left, block.right, [&](int64_t j) {
      const T dg = dh[j] * z[j] * (1 - g[j] * g[j]);
      da[j] = dx[j] = dh[j] * (g[j] - h_before[j]) * z[j] * (1 - z[j]);
      da[H + j] = dx[H + j] = dg * u(j) * r[j] * (1 - r[j]);
      dx[2 * H + j] = dg;
      da[2 * H + j] = dg * r[j];
      dh[j] *= 1 - z[j];
    });
  }
};

// The gate with which a segment begins.
template <typename C>
constexpr int64_t start_of(int segment) {
  return segment == 0 ? 0 : C::GATES - C::SEGMENTS + segment;
}

// A step of any cell: the parts between its norms, on the cases that are not padding. On padding the state stands still.
template <typename C, typename T>
void forward(const Step<T>& s, const Block& block) {
  for (int segment = 0; segment < C::SEGMENTS; ++segment) {
    statistics<T, C::NORM>(s.x[segment], block, s.cases, s.eps, s.overflowing);
    if (!C::ONE_SUM) statistics<T, C::NORM>(s.h[segment], block, s.cases, s.eps, s.overflowing);
  }
  for (int64_t b = block.first; b < block.last; ++b) {
    const int64_t left = b * s.size + block.left, width = block.right - block.left;
    if (s.cases.inside(b)) {
      C::forward(s, block, b);
    } else {
      std::copy_n(s.h_before + left, width, s.h_after + left);
      if (C::CARRIES_C) std::copy_n(s.c_before + left, width, s.c_after + left);
    }
  }
  if constexpr (C::CARRIES_C) {
    statistics<T, C::OF_C>(s.of_c, block, s.cases, s.eps, s.overflowing);
    for_cases(block, s.cases, [&](int64_t b) { C::output(s, block, b); });
  }
}

template <typename C, typename T>
void backward(const Step<T>& s, const Block& block) {
  for (int64_t b = block.first; b < block.last; ++b)
    add_row(s.dh + b * s.size, s.d_outputs + b * s.size, block.left, block.right);
  if constexpr (C::CARRIES_C) {
    for_cases(block, s.cases, [&](int64_t b) { C::output_backward(s, block, b); });
    backward<T, C::OF_C>(s.of_c, s.dn, s.dn, s.size, block, s.cases, s.sums);
  }
  for_cases(block, s.cases, [&](int64_t b) { C::backward(s, block, b); });
  const int64_t stride = C::GATES * s.size;
  for (int segment = 0; segment < C::SEGMENTS; ++segment) {
    const int64_t at = start_of<C>(segment) * s.size;
    const T* d_x = C::SEGMENTS == 1 ? s.dh_raw : s.dx_raw + at;
    backward<T, C::NORM>(s.x[segment], d_x, s.dx_raw + at, stride, block, s.cases, s.sums);
    if (!C::ONE_SUM) backward<T, C::NORM>(s.h[segment], s.dh_raw + at, s.dh_raw + at, stride, block, s.cases, s.sums);
  }
}

}  // namespace layernorm
