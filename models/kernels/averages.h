// Batch norm's running averages over a sequence: BatchNorm.update in models/batch_norms.py, in one pass.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

namespace layernorm {

// The running averages of one norm: of each of `kept` steps, or, kept = 1, one for all steps.
template <typename T>
struct Averages {
  T *mean, *variance;  // (kept, features)
  T* updates;          // (kept)
  int64_t kept, features;
  T eps, momentum;
  bool unbiased = false;  // the variances given already are

  // Move those of one step by a mean and the unbiased variance; plain means over the first 1 / momentum updates.
  void move(int64_t step, const T* new_mean, const T* new_variance) const {
    const T weight = std::max(1 / (updates[step] += 1), momentum);
    const auto lerp = [=](T from, T to) {  // as torch has it: exact at both ends
      return weight < T(.5) ? from + weight * (to - from) : to - (to - from) * (1 - weight);
    };
    T *const m = mean + step * features, *const v = variance + step * features;
    for (int64_t j = 0; j < features; ++j) m[j] = lerp(m[j], new_mean[j]), v[j] = lerp(v[j], new_variance[j]);
  }

  // new_mean, inverse: rows of the steps, `stride` apart; inverse = 1 / sqrt(variance + eps). count: how many
  // values each step has; one without any keeps its averages, one with a single value has variance 0.
  void update(const T* new_mean, const T* inverse, int64_t stride, const int64_t* count, int64_t steps) const {
    std::vector<T> variances(features), mean_sum(features), variance_sum(features);
    const bool pooled = kept == 1 && steps > 1;
    int64_t seen = 0;
    for (int64_t t = 0; t < (pooled ? steps : std::min(steps, kept)); ++t, new_mean += stride, inverse += stride) {
      if (count[t] == 0) continue;
      const T factor = unbiased ? T(1) : T(count[t]) / T(std::max<int64_t>(count[t] - 1, 1));
      for (int64_t j = 0; j < features; ++j)
        variances[j] = std::max(1 / (inverse[j] * inverse[j]) - eps, T(0)) * factor;
      if (!pooled) {
        move(t, new_mean, variances.data());
        continue;
      }
      ++seen;
      for (int64_t j = 0; j < features; ++j) mean_sum[j] += new_mean[j], variance_sum[j] += variances[j];
    }
    if (seen == 0) return;
    for (int64_t j = 0; j < features; ++j) mean_sum[j] /= seen, variance_sum[j] /= seen;
    move(0, mean_sum.data(), variance_sum.data());
  }
};

}  // namespace layernorm
