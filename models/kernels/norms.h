// Normalisation of one term of the summed inputs: statistics, value and gradient (DERIVATION.md, section 1).
#pragma once
#include <cmath>
#include <type_traits>

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

template <typename T>
struct Same {  // one value for all units, kept in a register
  T value;
  T operator[](int64_t) const { return value; }
};

// A row of a term, normalised: row(j) = gain * hat(j) + shift.
template <typename T, Norm norm>
struct Row {
  using Statistic = std::conditional_t<norm == Norm::batch, const T*, Same<T>>;
  const T *a, *gain, *shift;
  Statistic mean, inverse;

  Row(const Term<T>& term, int64_t b) : a(term.row(b)), gain(term.gain), shift(term.shift) {
    if constexpr (norm == Norm::batch) {
      mean = term.mean;
      inverse = term.inverse;
    } else if constexpr (norm == Norm::layer) {
      mean = {term.mean[b]};
      inverse = {term.inverse[b]};
    }
  }
  T hat(int64_t j) const { return (a[j] - mean[j]) * inverse[j]; }
  T operator()(int64_t j) const {
    if constexpr (norm == Norm::none) return a[j] + shift[j];
    return gain[j] * hat(j) + shift[j];
  }
};

// The cases of one time step: which are not padding, how many those are, and whether batch norm's statistics are given.
struct Cases {
  const bool* mask;
  int64_t count;
  bool given;
  bool inside(int64_t b) const { return !mask || mask[b]; }
};

template <typename T, Norm norm>
void statistics(const Term<T>& term, const Block& block, const Cases& cases, T eps) {
  if constexpr (norm == Norm::layer) {
    const int64_t n = term.width();
    for (int64_t b = block.first; b < block.last; ++b) {
      if (!cases.inside(b)) continue;
      const T* a = term.row(b);
      T sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t j = 0; j < n; ++j) sum += a[j];
      const T mean = sum / n;
#pragma omp simd reduction(+ : squares)
      for (int64_t j = 0; j < n; ++j) squares += (a[j] - mean) * (a[j] - mean);
      term.mean[b] = mean;
      term.inverse[b] = 1 / std::sqrt(squares / n + eps);
    }
  }
  if constexpr (norm == Norm::batch) {
    if (cases.given) return;
    const T share = 1 / T(cases.count > 0 ? cases.count : 1);
    T *mean = term.mean, *inverse = term.inverse;
    for (int64_t gate = 0; gate < term.gates; ++gate) {
      const int64_t from = gate * term.size + block.left, to = gate * term.size + block.right;
      for (int64_t j = from; j < to; ++j) mean[j] = inverse[j] = 0;
      for (int64_t b = block.first; b < block.last; ++b) {
        if (!cases.inside(b)) continue;
        const T* a = term.row(b);
#pragma omp simd
        for (int64_t j = from; j < to; ++j) mean[j] += a[j];
      }
#pragma omp simd
      for (int64_t j = from; j < to; ++j) mean[j] *= share;
      for (int64_t b = block.first; b < block.last; ++b) {
        if (!cases.inside(b)) continue;
        const T* a = term.row(b);
#pragma omp simd
        for (int64_t j = from; j < to; ++j) inverse[j] += (a[j] - mean[j]) * (a[j] - mean[j]);
      }
#pragma omp simd
      for (int64_t j = from; j < to; ++j) inverse[j] = 1 / std::sqrt(inverse[j] * share + eps);
    }
  }
}

// From d, the gradient of the normalised rows, that of the raw ones; `raw` may be `d`. `sums`: two rows of scratch.
template <typename T, Norm norm>
void backward(const Term<T>& term, const T* d, T* raw, int64_t stride, const Block& block, const Cases& cases, T* sums) {
  const int64_t n = term.width();
  T *dgain = term.dgain, *dshift = term.dshift;
  const T* gain = term.gain;
  if constexpr (norm == Norm::batch) {
    const T share = cases.given || cases.count == 0 ? T(0) : 1 / T(cases.count);
    T *sum = sums, *sum_hat = sums + n;
    const T* inverse = term.inverse;
    for (int64_t gate = 0; gate < term.gates; ++gate) {
      const int64_t from = gate * term.size + block.left, to = gate * term.size + block.right;
      for (int64_t j = from; j < to; ++j) sum[j] = sum_hat[j] = 0;
      for (int64_t b = block.first; b < block.last; ++b) {
        if (!cases.inside(b)) continue;
        const Row<T, norm> row(term, b);
        const T* d_row = d + b * stride;
#pragma omp simd
        for (int64_t j = from; j < to; ++j) {
          sum[j] += d_row[j];
          sum_hat[j] += d_row[j] * row.hat(j);
        }
      }
#pragma omp simd
      for (int64_t j = from; j < to; ++j) {
        dgain[j] += sum_hat[j];
        dshift[j] += sum[j];
        sum[j] *= share;
        sum_hat[j] *= share;
      }
      for (int64_t b = block.first; b < block.last; ++b) {
        const Row<T, norm> row(term, b);
        const T* d_row = d + b * stride;
        T* to_row = raw + b * stride;
        if (!cases.inside(b))
          for (int64_t j = from; j < to; ++j) to_row[j] = 0;
        else
#pragma omp simd
          for (int64_t j = from; j < to; ++j)
            to_row[j] = gain[j] * inverse[j] * (d_row[j] - sum[j] - row.hat(j) * sum_hat[j]);
      }
    }
    return;
  }
  for (int64_t b = block.first; b < block.last; ++b) {
    const T* d_row = d + b * stride;
    T* to_row = raw + b * stride;
    if (!cases.inside(b)) {
      for (int64_t j = 0; j < n; ++j) to_row[j] = 0;
      continue;
    }
    if constexpr (norm == Norm::none) {
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) {
        dshift[j] += d_row[j];
        to_row[j] = d_row[j];
      }
    } else {
      const Row<T, norm> row(term, b);
      T sum = 0, sum_hat = 0;
#pragma omp simd reduction(+ : sum, sum_hat)
      for (int64_t j = 0; j < n; ++j) {
        const T hat = row.hat(j), d_hat = d_row[j] * gain[j];
        sum += d_hat;
        sum_hat += d_hat * hat;
        dgain[j] += d_row[j] * hat;
        dshift[j] += d_row[j];
      }
      const T mean = sum / n, mean_hat = sum_hat / n, inverse = term.inverse[b];
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) to_row[j] = inverse * (d_row[j] * gain[j] - mean - row.hat(j) * mean_hat);
    }
  }
}

}  // namespace layernorm
