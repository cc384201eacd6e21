// The output layer of a recurrent model with its loss, forward and backward in one go.
#pragma once
#include <numeric>

#include "sequence.h"
#include "training.h"

namespace layernorm {

// The logits W h + b of rows of h, and their cross-entropy with targets.
template <typename T>
struct Output {
  int64_t rows, size, classes, threads;
  const T *h, *W, *b;      // (rows, size), (classes, size), (classes)
  const int64_t* targets;  // (rows)
  T *dh, *dW, *db;         // gradients; dW and db are zeros at first

  // The mean in nats.
  T loss() const {
    const int64_t across = Packed<T>::panels_of(size), down = Packed<T>::panels_of(classes);
    const int64_t scratch_size = (transposed_scratch<T>(classes, rows) + 63) / 64 * 64;
    Scratch<T> memory(down * PANEL<T> * size), memory_of_h(across * PANEL<T> * classes), d(rows * classes);
    Scratch<T> scratch(threads * scratch_size), sums(threads);
    const Packed<T> to_logits{memory.get(), size, 1, classes}, to_h{memory_of_h.get(), classes, 1, size};
    const T share = T(1) / rows;
#pragma omp parallel num_threads(threads)
    {
      const Thread thread;
      to_logits.pack({W, 1, size}, thread.first(down), thread.last(down));
      to_h.pack({W, size, 1}, thread.first(across), thread.last(across));
#pragma omp barrier
      const int64_t top = thread.first(rows), count = thread.last(rows) - top;
      T* const own = d.get() + top * classes;
      for (int64_t row = 0; row < count; ++row) std::copy_n(b, classes, own + row * classes);
      multiply({h + top * size, size, 1}, count, to_logits, 0, down, own, classes, true);
      sums.get()[thread.number] = cross_entropy(own, targets + top, count, classes, share, own);
      multiply({own, classes, 1}, count, to_h, 0, across, dh + top * size, size, false);
#pragma omp barrier
      add_transposed(d.get(), classes, h, rows, 1, size, thread.first(across), thread.last(across), dW,
                     scratch.get() + thread.number * scratch_size);
      for (int64_t row = 0; row < rows; ++row)
        add_row(db, d.get() + row * classes, thread.first(classes), thread.last(classes));
    }
    return std::accumulate(sums.get(), sums.get() + threads, T(0)) * share;
  }
};

}  // namespace layernorm
