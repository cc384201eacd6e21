// Normalisation of one term of the summed inputs: statistics, value and gradient (DERIVATION.md, section 1).
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "layer.h"

namespace layernorm {

// What one thread works on: the cases [first, last) and, of each gate, the units [left, right). Layer norm needs whole
// rows and batch norm whole columns, so its threads share out the units where all others share out the cases.
struct Block {
  int64_t first, last, left, right;
};

// A term at one time step: (batch, gates * size) values that are normalised together.
template <typename T>
struct Term {
  const T* a;
  int64_t stride;          // from row to row
  const int64_t* symbols;  // of one-hot inputs: the rows are those of W_x; null otherwise
  int64_t gates, size;
  const T *gain, *shift;
  T *mean, *inverse;  // 1 / sqrt(variance + eps); of each case (layer) or of each unit (batch)
  T *dgain, *dshift;  // of this thread, summed over time

  const T* row(int64_t b) const { return a + (symbols ? symbols[b] : b) * stride; }
  int64_t width() const { return gates * size; }
};

// A row of a term, normalised: row(j) = gain * hat(j) + shift. A case's own statistics are kept in registers.
template <typename T, Norm norm>
struct Row {
  const T *a, *gain, *shift, *means, *inverses;
  T mean = 0, inverse = 0;

  Row(const Term<T>& term, int64_t b)
      : a(term.row(b)), gain(term.gain), shift(term.shift), means(term.mean), inverses(term.inverse) {
    if constexpr (of_cases(norm)) mean = means[b], inverse = inverses[b];
  }
  T hat(int64_t j) const {
    if constexpr (norm == Norm::batch) return (a[j] - means[j]) * inverses[j];
    return (a[j] - mean) * inverse;
  }
  T operator()(int64_t j) const {
    if constexpr (norm == Norm::none) return a[j] + shift[j];
    return gain[j] * hat(j) + shift[j];
  }
};

// The cases of one time step: which are not padding, how many those are, whether batch norm's statistics are given,
// which of layer norm's the backward pass takes for constants, and whether batch norm's variance is the unbiased one.
struct Cases {
  const bool* mask;
  int64_t count;
  bool given, constant_mean = false, constant_std = false, unbiased = false;
  int64_t freedom() const { return std::max<int64_t>(count - unbiased, 1); }  // by which squares are divided
  bool inside(int64_t b) const { return !mask || mask[b]; }
};

template <typename F>
inline void vectorised(int64_t from, int64_t to, F f) {
#pragma omp simd
  for (int64_t j = from; j < to; ++j) f(j);
}

// f(b) for the cases of a block that are not padding.
template <typename F>
inline void for_cases(const Block& block, const Cases& cases, F f) {
  for (int64_t b = block.first; b < block.last; ++b)
    if (cases.inside(b)) f(b);
}

// f(j) for the columns of a block, of every gate of a term.
template <typename T, typename F>
inline void for_columns(const Term<T>& term, const Block& block, F f) {
  for (int64_t start = 0; start < term.width(); start += term.size)
    vectorised(start + block.left, start + block.right, f);
}

// f(0) + ... + f(n - 1) in two chains of additions: in one, each would wait for the one before.
template <typename T, typename F>
inline T sum(int64_t n, F f) {
  const int64_t half = n / 2;
  T first = n % 2 ? f(n - 1) : T(0), second = 0;
#pragma omp simd reduction(+ : first, second)
  for (int64_t j = 0; j < half; ++j) {
    first += f(j);
    second += f(j + half);
  }
  return first + second;
}

// Layer norm of values whose squares come near the largest number (or are none) is finite where the reference is: what
// overflows in that depends on the order in which PyTorch adds, so it is asked, if there is an `overflowing`.
template <typename T, Norm norm>
void statistics(const Term<T>& term, const Block& block, const Cases& cases, T eps, Moments<T> overflowing) {
  if constexpr (of_cases(norm)) {
    constexpr T LARGE = std::numeric_limits<T>::max() / 64;
    const int64_t n = term.width();
    for_cases(block, cases, [&](int64_t b) {
      const T* a = term.row(b);
      const T mean = sum<T>(n, [a](int64_t j) { return a[j]; }) / n;
      const T squares = sum<T>(n, [a, mean](int64_t j) { return (a[j] - mean) * (a[j] - mean); });
      term.mean[b] = mean;
      term.inverse[b] = 1 / std::sqrt(squares / n + eps);
      if (overflowing && !(squares + mean * mean < LARGE))
        std::tie(term.mean[b], term.inverse[b]) = overflowing(a, n, eps);
    });
  }
  if constexpr (norm == Norm::batch) {
    if (cases.given) return;
    const T share = 1 / T(cases.count > 0 ? cases.count : 1), share_of_squares = 1 / T(cases.freedom());
    T *mean = term.mean, *inverse = term.inverse;
    for_columns(term, block, [=](int64_t j) { mean[j] = inverse[j] = 0; });
    for_cases(block, cases, [&](int64_t b) {
      for_columns(term, block, [mean, a = term.row(b)](int64_t j) { mean[j] += a[j]; });
    });
    for_columns(term, block, [=](int64_t j) { mean[j] *= share; });
    for_cases(block, cases, [&](int64_t b) {
      for_columns(term, block, [=, a = term.row(b)](int64_t j) { inverse[j] += (a[j] - mean[j]) * (a[j] - mean[j]); });
    });
    for_columns(term, block, [=](int64_t j) { inverse[j] = 1 / std::sqrt(inverse[j] * share_of_squares + eps); });
  }
}

// From d, the gradient of the normalised rows, that of the raw ones, 0 on padding; `raw` may be `d`. `sums`: scratch,
// two rows.
template <typename T, Norm norm>
void backward(const Term<T>& term, const T* d, T* raw, int64_t stride, const Block& block, const Cases& cases,
              T* sums) {
  const int64_t n = term.width();
  T *dgain = term.dgain, *dshift = term.dshift, *sum = sums, *sum_hat = sums + n;
  const T *gain = term.gain, *inverse = term.inverse;
  for (int64_t b = block.first; b < block.last; ++b)
    if (!cases.inside(b)) for_columns(term, block, [to = raw + b * stride](int64_t j) { to[j] = 0; });
  if constexpr (norm == Norm::none)
    for_cases(block, cases, [&](int64_t b) {
      for_columns(term, block, [dshift, from = d + b * stride, to = raw + b * stride](int64_t j) {
        dshift[j] += from[j];
        to[j] = from[j];
      });
    });
  if constexpr (of_cases(norm))
    for_cases(block, cases, [&](int64_t b) {
      const Row<T, norm> row(term, b);
      const T *from = d + b * stride, scale = inverse[b];
      T *to = raw + b * stride, mean = 0, mean_hat = 0;
#pragma omp simd reduction(+ : mean, mean_hat)
      for (int64_t j = 0; j < n; ++j) {
        const T d_gain = from[j] * row.hat(j);
        mean += from[j] * gain[j];
        mean_hat += d_gain * gain[j];
        dgain[j] += d_gain;
        dshift[j] += from[j];
      }
      mean = cases.constant_mean ? 0 : mean / n;
      mean_hat = cases.constant_std ? 0 : mean_hat / n;
      vectorised(0, n, [=](int64_t j) { to[j] = scale * (from[j] * gain[j] - mean - row.hat(j) * mean_hat); });
    });
  if constexpr (norm == Norm::batch) {
    const bool own = !cases.given && cases.count > 0;
    const T share = own ? 1 / T(cases.count) : T(0), share_of_squares = own ? 1 / T(cases.freedom()) : T(0);
    for_columns(term, block, [=](int64_t j) { sum[j] = sum_hat[j] = 0; });
    for_cases(block, cases, [&](int64_t b) {
      for_columns(term, block, [=, row = Row<T, norm>(term, b), from = d + b * stride](int64_t j) {
        sum[j] += from[j];
        sum_hat[j] += from[j] * row.hat(j);
      });
    });
    for_columns(term, block, [=](int64_t j) {
      dgain[j] += sum_hat[j];
      dshift[j] += sum[j];
      sum[j] *= share;
      sum_hat[j] *= share_of_squares;
    });
    for_cases(block, cases, [&](int64_t b) {
      T* to = raw + b * stride;
      for_columns(term, block, [=, row = Row<T, norm>(term, b), from = d + b * stride](int64_t j) {
        to[j] = gain[j] * inverse[j] * (from[j] - sum[j] - row.hat(j) * sum_hat[j]);
      });
    });
  }
}

}  // namespace layernorm
