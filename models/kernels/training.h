// What all training updates have in common: the loss and its gradient, and the step of the optimiser.
#pragma once
#include <ATen/ATen.h>

#include "activations.h"
#include "norms.h"

namespace layernorm {

// Classes, int64, each below `classes`.
inline const int64_t* targets_of(const at::Tensor& y, int64_t classes) {
  TORCH_CHECK(y.scalar_type() == at::kLong && y.is_contiguous(), "y: expected contiguous int64");
  const int64_t* targets = y.data_ptr<int64_t>();
  for (int64_t i = 0; i < y.numel(); ++i)
    TORCH_CHECK_INDEX(targets[i] >= 0 && targets[i] < classes, "Target ", targets[i], " is out of bounds.");
  return targets;
}

// The sum of the cross-entropies of `cases` logits, rows of `classes`, in nats; `d`, which may be the logits' own
// memory, becomes the gradient of `share` times that sum.
template <typename T>
T cross_entropy(const T* logits, const int64_t* targets, int64_t cases, int64_t classes, T share, T* d) {
  T total = 0;
  for (int64_t b = 0; b < cases; ++b, logits += classes, d += classes) {
    T largest = logits[0], sum = 0;
#pragma omp simd reduction(max : largest)
    for (int64_t j = 1; j < classes; ++j) largest = logits[j] > largest ? logits[j] : largest;
    const T chosen = logits[targets[b]] - largest;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < classes; ++j) {
      d[j] = exponential(logits[j] - largest);
      sum += d[j];
    }
    vectorised(0, classes, [d, factor = share / sum](int64_t j) { d[j] *= factor; });
    d[targets[b]] -= share;
    total += std::log(sum) - chosen;
  }
  return total;
}

// What torch.optim's Adam or SGD does in one update, the first of which is number 1.
template <typename T>
struct Rule {
  bool adam;
  T rate, momentum, squares;  // of Adam: divided by the first bias correction; beta_1 and beta_2
  T root, eps;                // 1 / square root of the second bias correction

  Rule(bool adam, double rate, double momentum, double squares, double eps, int64_t update)
      : adam(adam), rate(rate), momentum(momentum), squares(squares), root(1), eps(eps) {
    if (!adam) return;
    this->rate = rate / (1 - std::pow(momentum, update));
    root = 1 / std::sqrt(1 - std::pow(squares, update));
  }
};

// Parameters and what the optimiser keeps of each: Adam's two moments, or SGD's one.
template <typename T>
struct Parameter {
  T *value = nullptr, *first = nullptr, *second = nullptr;

  // Move the n values from `start` on by the gradients g(0), ..., g(n - 1).
  template <typename F>
  void move(const Rule<T>& rule, int64_t start, int64_t n, F g) const {
    T *const p = value + start, *const m = first + start, *const v = second ? second + start : nullptr;
    const T rate = rule.rate, momentum = rule.momentum, squares = rule.squares, root = rule.root, eps = rule.eps;
    if (rule.adam)
      vectorised(0, n, [=](int64_t j) {
        const T slope = g(j);
        m[j] += (1 - momentum) * (slope - m[j]);
        v[j] = squares * v[j] + (1 - squares) * slope * slope;
        p[j] -= rate * m[j] / (std::sqrt(v[j]) * root + eps);
      });
    else
      vectorised(0, n, [=](int64_t j) {
        m[j] = momentum * m[j] + g(j);
        p[j] -= rate * m[j];
      });
  }
};

// An update's way down: parameters move as soon as their gradients are there or, where the norm of all gradients
// together is bounded, when all are. Until then nobody may write to a gradient.
template <typename T>
class Descent {
  struct Move {
    Parameter<T> parameter;
    at::Tensor gradient;  // whose n values from `offset` on are the parameter's, in the order of memory
    int64_t offset, n;

    T* slopes() const { return gradient.data_ptr<T>() + offset; }

    void make(const Rule<T>& rule, int64_t threads) const {
      const T* const from = slopes();
#pragma omp parallel for num_threads(threads) if (threads > 1)
      for (int64_t thread = 0; thread < threads; ++thread) {
        const int64_t start = n * thread / threads, end = n * (thread + 1) / threads;
        parameter.move(rule, start, end - start, [from = from + start](int64_t j) { return from[j]; });
      }
    }
  };
  std::vector<Move> waiting;

 public:
  const Rule<T> rule;
  const double clip_norm;  // 0: any
  const int64_t threads;

  Descent(const Rule<T>& rule, double clip_norm, int64_t threads)
      : rule(rule), clip_norm(clip_norm), threads(threads) {}

  bool clips() const { return clip_norm > 0; }

  void move(const Parameter<T>& parameter, const at::Tensor& gradient, int64_t offset, int64_t n) {
    const Move found{parameter, gradient, offset, n};
    clips() ? waiting.push_back(found) : found.make(rule, threads);
  }

  // As torch.nn.utils.clip_grad_norm_ before the optimiser's step.
  void finish() {
    if (!clips()) return;
    double squares = 0;
    for (const Move& found : waiting) {
      const T* const d = found.slopes();
#pragma omp simd reduction(+ : squares)
      for (int64_t j = 0; j < found.n; ++j) squares += double(d[j]) * d[j];
    }
    const T factor = clip_norm / (std::sqrt(squares) + 1e-6);
    for (const Move& found : waiting) {
      if (!(factor >= 1)) vectorised(0, found.n, [=, d = found.slopes()](int64_t j) { d[j] *= factor; });  // NaN, too
      found.make(rule, threads);
    }
    waiting.clear();
  }
};

}  // namespace layernorm
