// A layer over a whole sequence: the products, the time steps between them and their share of the threads.
#pragma once
#include <omp.h>

#include <cstdlib>
#include <memory>
#include <new>

#include "cells.h"
#include "product.h"

namespace layernorm {

// Of about so many rows a chunk's gradients stay in the cache, and its products are large enough to be efficient.
constexpr int64_t CHUNK_ROWS = 192;

// Memory on cache lines, not initialised. Only outside of parallel regions, where an exception is still caught.
template <typename T>
struct Scratch : std::unique_ptr<T, decltype(&std::free)> {
  using Base = std::unique_ptr<T, decltype(&std::free)>;
  explicit Scratch(int64_t n) : Base(static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) / 64 + 1) * 64)), std::free) {
    if (!this->get()) throw std::bad_alloc();
  }
};

// Where the thread's share of n things begins; it ends where that of the next begins.
struct Thread {
  int64_t number = omp_get_thread_num(), of = omp_get_num_threads();
  int64_t first(int64_t n) const { return n * number / of; }
  int64_t last(int64_t n) const { return n * (number + 1) / of; }
};

template <typename C>
class Layer {
  using T = typename C::T;
  static constexpr bool BY_UNITS = C::NORM == Norm::batch;
  const Sequence<T>& s;
  const int64_t H = s.size, B = s.batch, G = C::GATES, width = G * H, panels = Packed<T>::panels_of(H);
  const int64_t chunk = std::max<int64_t>(1, CHUNK_ROWS / B);
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(s.threads, BY_UNITS ? panels : B));

  // Norm k (0: W_x x, 1: W_h h, 2: c) at step t. `sums`: the gradients of gains and shifts, two rows of `width` for
  // each k.
  Term<T> term(int k, int64_t t, int segment, const T* a, const int64_t* symbols, T* sums) const {
    const int64_t columns = k == 2 ? H : width, segments = k == 2 ? 1 : C::SEGMENTS, offset = start_of<C>(segment) * H;
    const int64_t gates = k == 2 || segment > 0 ? 1 : G + 1 - C::SEGMENTS;
    const int64_t row = BY_UNITS ? t * columns + offset : (t * segments + segment) * B;
    const NormOf<T>& n = s.norms[k];
    return {a + offset, columns, symbols, gates, H, at(n.gain, offset), at(n.shift, offset), at(n.mean, row),
            at(n.inverse, row), at(sums, 2 * k * width + offset), at(sums, (2 * k + 1) * width + offset)};
  }

  Step<T> step(int64_t t, T* sums = nullptr) const {
    Step<T> step{};
    step.size = H;
    step.eps = s.eps;
    step.overflowing = s.overflowing;
    step.cases = {at(s.mask, t * B), B, s.given, s.form.constant_mean, s.form.constant_std};
    if (s.mask) step.cases.count = std::count(step.cases.mask, step.cases.mask + B, true);
    const bool gather = s.symbols && !C::ONE_SUM;
    const T* x = gather ? s.W_x : s.from_x + t * B * width;
    for (int segment = 0; segment < C::SEGMENTS; ++segment) {
      step.x[segment] = term(0, t, segment, x, gather ? s.symbols + t * B : nullptr, sums);
      step.h[segment] = term(1, t, segment, s.from_h + t * B * width, nullptr, sums);
    }
    if constexpr (C::CARRIES_C) {
      step.c_before = s.c + t * B * H;
      step.c_after = s.c + (t + 1) * B * H;
      step.raw_c = s.raw_c ? s.raw_c + t * B * H : step.c_after;
      step.of_c = term(2, t, 0, step.raw_c, nullptr, sums);
      step.squashed = s.squashed + t * B * H;
    }
    step.gates = s.gates + t * B * width;
    step.h_before = s.h + t * B * H;
    step.h_after = s.h + (t + 1) * B * H;
    return step;
  }

  Block block_of(const Thread& thread) const {
    if (!BY_UNITS) return {thread.first(B), thread.last(B), 0, H};
    return {0, B, std::min(H, thread.first(panels) * PANEL<T>), std::min(H, thread.last(panels) * PANEL<T>)};
  }

  // The panels of this block's units of B: to = A B for its cases.
  void multiply_block(const Block& block, const T* A, int64_t depth, const Packed<T>& B, T* to, bool add) const {
    const int64_t first = block.left / PANEL<T>, last = Packed<T>::panels_of(block.right), stride = B.gates * B.size;
    multiply({A + block.first * depth, depth, 1}, block.last - block.first, B, first, last, to + block.first * stride,
             stride, add);
  }

  // W_x x for the rows [first, last) of the sequence: a product, or rows of W_x.
  void project(const Packed<T>& W_x, int64_t first, int64_t last) const {
    if (!s.symbols)
      multiply({s.x + first * s.inputs, s.inputs, 1}, last - first, W_x, 0, panels, s.from_x + first * width, width,
               false);
    else if (C::ONE_SUM)
      for (int64_t row = first; row < last; ++row)
        std::copy_n(s.W_x + s.symbols[row] * width, width, s.from_x + row * width);
  }

 public:
  explicit Layer(const Sequence<T>& sequence) : s(sequence) {}

  void forward() const {
    Scratch<T> memory_x(s.symbols ? 0 : G * panels_in(H) * s.inputs), memory_h(G * panels_in(H) * H);
    const Packed<T> W_x{memory_x.get(), s.inputs, G, H}, W_h{memory_h.get(), H, G, H};
#pragma omp parallel num_threads(threads)
    {
      const Thread thread;
      const Block block = block_of(thread);
      const int64_t first = thread.first(panels), last = thread.last(panels);
      if (!s.symbols) W_x.pack({s.W_x, width, 1}, first, last);
      W_h.pack({s.W_h, width, 1}, first, last);
#pragma omp barrier
      for (int64_t start = 0; start < s.steps; start += chunk) {
        const int64_t end = std::min(s.steps, start + chunk), rows = (end - start) * B;
        project(W_x, start * B + thread.first(rows), start * B + thread.last(rows));
#pragma omp barrier
        for (int64_t t = start; t < end; ++t) {
          const Step<T> step = this->step(t);
          multiply_block(block, step.h_before, H, W_h, s.from_h + t * B * width, C::ONE_SUM);
          layernorm::forward<C>(step, block);
          if (BY_UNITS) {  // the next product reads all units
#pragma omp barrier
          }
        }
      }
    }
  }

  void backward(const Gradients<T>& d) const {
    const auto whole_lines = [](int64_t n) { return (n + 63) / 64 * 64; };  // no thread writes into another's
    const int64_t rows = std::min(chunk, s.steps) * B, sums_size = whole_lines(6 * width);
    const int64_t left = s.symbols ? H : std::max(s.inputs, H);  // columns of what is multiplied transposed
    const int64_t scratch_size = whole_lines(std::max<int64_t>(2 * width, transposed_scratch<T>(left, rows)));
    Scratch<T> memory_h(panels_in(H) * width), memory_x(d.x ? panels_in(s.inputs) * width : 0), dn(B * H);
    Scratch<T> memory_dh(rows * width), memory_dx(C::ONE_SUM ? 0 : rows * width), memory_sums(threads * sums_size);
    Scratch<T> memory_scratch(threads * scratch_size);
    std::fill_n(memory_sums.get(), threads * sums_size, T(0));
    const Packed<T> W_h{memory_h.get(), width, 1, H}, W_x{memory_x.get(), width, 1, s.inputs};
    T *const D_h = memory_dh.get(), *const D_x = C::ONE_SUM ? D_h : memory_dx.get();  // of a chunk
#pragma omp parallel num_threads(threads)
    {
      const Thread thread;
      const Block block = block_of(thread);
      T* const sums = memory_sums.get() + thread.number * sums_size;
      T* const scratch = memory_scratch.get() + thread.number * scratch_size;
      W_h.pack({s.W_h, 1, width}, thread.first(W_h.panels()), thread.last(W_h.panels()));
      if (d.x) W_x.pack({s.W_x, 1, width}, thread.first(W_x.panels()), thread.last(W_x.panels()));
#pragma omp barrier
      for (int64_t end = s.steps, start; end > 0; end = start) {
        start = (end - 1) / chunk * chunk;
        for (int64_t t = end - 1; t >= start; --t) {
          Step<T> step = this->step(t, sums);
          step.d_outputs = d.outputs + t * B * H;
          step.dh = d.h;
          step.dc = d.c;
          step.dn = dn.get();
          step.dh_raw = D_h + (t - start) * B * width;
          step.dx_raw = D_x + (t - start) * B * width;
          step.sums = scratch;
          layernorm::backward<C>(step, block);
          if (BY_UNITS) {  // the product reads the gradients of all units
#pragma omp barrier
          }
          multiply_block(block, step.dh_raw, width, W_h, d.h, true);
        }
#pragma omp barrier
        const int64_t row = start * B, done = (end - start) * B, top = thread.first(done), inputs = s.inputs;
        const int64_t first = thread.first(panels), last = thread.last(panels);
        add_transposed(s.h + row * H, H, D_h, done, G, H, first, last, d.W_h, scratch);
        if (!s.symbols) add_transposed(s.x + row * inputs, inputs, D_x, done, G, H, first, last, d.W_x, scratch);
        for (int64_t i = 0; s.symbols && i < done; ++i)  // of one-hot rows: this thread's columns
          add_row(d.W_x + s.symbols[row + i] * width, D_x + i * width, thread.first(width), thread.last(width));
        if (d.x)
          multiply({D_x + top * width, width, 1}, thread.last(done) - top, W_x, 0, W_x.panels(),
                   d.x + (row + top) * inputs, inputs, false);
#pragma omp barrier
      }
    }
    for (int64_t thread = 0; thread < threads; ++thread)  // in this order, whichever ended first
      for (int k = 0; k < 6; ++k)
        add_row(d.norms[k], memory_sums.get() + thread * sums_size + k * width, 0, k < 4 ? width : H);
  }

 private:
  static int64_t panels_in(int64_t size) { return Packed<T>::panels_of(size) * PANEL<T>; }
};

template <typename C>
bool run(const Sequence<typename C::T>& s, const Gradients<typename C::T>* d) {
  if (s.form.cell != C::NAME || s.form.norm != C::NORM || s.form.of_c != C::OF_C) return false;
  const Layer<C> layer(s);
  d ? layer.backward(*d) : layer.forward();
  return true;
}

template <typename T, Norm norm>
bool run_any(const Sequence<T>& s, const Gradients<T>* d) {
  return run<Tanh<T, norm>>(s, d) || run<LSTM<T, norm, norm>>(s, d) || run<GRU<T, norm>>(s, d);
}

template <typename T>
bool run(const Sequence<T>& s, const Gradients<T>* d) {
  return run_any<T, Norm::none>(s, d) || run_any<T, Norm::layer>(s, d) || run_any<T, Norm::batch>(s, d) ||
         run<LSTM<T, Norm::gates, Norm::layer>>(s, d) || run<LSTM<T, Norm::none, Norm::layer>>(s, d) ||
         run<LSTM<T, Norm::layer, Norm::none>>(s, d);
}

}  // namespace layernorm
