// A layer over a whole sequence: the products, the time steps between them and their share of the threads.
#pragma once
#include <omp.h>

#include <memory>
#include <string>
#include <vector>

#include "cells.h"
#include "product.h"

namespace layernorm {

// Of about so many rows a chunk's gradients stay in the cache, and its products are large enough to be efficient.
constexpr int64_t CHUNK_ROWS = 384;

// Memory on cache lines; consecutive blocks start at different offsets within a page, so that the streams through
// them do not evict each other.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t elements) : memory(new T[elements + 1024 / sizeof(T)]) {
    static thread_local int64_t skew = 0;
    skew = (skew + 5 * 64) % 1024;
    start = memory.get() + (64 - reinterpret_cast<uintptr_t>(memory.get()) % 64 + skew % 960) / sizeof(T);
  }
  T* get() const { return start; }

 private:
  std::unique_ptr<T[]> memory;
  T* start;
};

// Where the thread's share of n things begins; it ends where that of the next begins.
struct Thread {
  int64_t number = omp_get_thread_num(), of = omp_get_num_threads();
  int64_t first(int64_t n) const { return n * number / of; }
  int64_t last(int64_t n) const { return n * (number + 1) / of; }
};

template <typename T, template <typename, Norm> class Cell, Norm norm>
class Layer {
  using C = Cell<T, norm>;
  static constexpr bool BY_UNITS = norm == Norm::batch;
  const Sequence<T>& s;
  const int64_t H = s.size, B = s.batch, G = C::GATES, width = G * H, panels = Packed<T>::panels_of(H);
  const int64_t chunk = std::max<int64_t>(1, CHUNK_ROWS / B);
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(s.threads, BY_UNITS ? panels : B));

  // One norm's statistics and parameters: `offset` columns into the gates.
  Term<T> term(int64_t t, const T* a, const int64_t* symbols, int segment, const T* gain, const T* shift, T* mean,
               T* inverse) const {
    const int64_t gates = C::SEGMENTS == 1 ? G : segment == 0 ? G - 1 : 1, offset = segment == 0 ? 0 : (G - 1) * H;
    const int64_t row = BY_UNITS ? t * width + offset : (t * C::SEGMENTS + segment) * B;
    return {a + offset,       width,         symbols,         gates,   H,      at(gain, offset),
            at(shift, offset), at(mean, row), at(inverse, row), nullptr, nullptr};
  }

  Step<T> step(int64_t t) const {
    Step<T> step{};
    step.size = H;
    step.eps = s.eps;
    step.cases = {at(s.mask, t * B), B, s.given};
    if (s.mask) step.cases.count = std::count(step.cases.mask, step.cases.mask + B, true);
    const bool gather = s.symbols && !C::ONE_SUM;
    const T* x = gather ? s.W_x : s.from_x + t * B * width;
    for (int segment = 0; segment < C::SEGMENTS; ++segment) {
      step.x[segment] = term(t, x, gather ? s.symbols + t * B : nullptr, segment, s.gain_x, s.shift_x, s.mean_x, s.inverse_x);
      step.h[segment] =
          term(t, s.from_h + t * B * width, nullptr, segment, s.gain_h, s.shift_h, s.mean_h, s.inverse_h);
    }
    if (s.c) {
      const int64_t row = t * (BY_UNITS ? H : B);
      step.c_before = s.c + t * B * H;
      step.c_after = s.c + (t + 1) * B * H;
      step.of_c = {step.c_after, H, nullptr, 1, H, s.gain_c, s.shift_c, at(s.mean_c, row), at(s.inverse_c, row), nullptr, nullptr};
    }
    step.gates = at(s.gates, t * B * width);
    step.squashed = at(s.squashed, t * B * H);
    step.h_before = s.h + t * B * H;
    step.h_after = s.h + (t + 1) * B * H;
    return step;
  }

  Block block_of(const Thread& thread) const {
    if (!BY_UNITS) return {thread.first(B), thread.last(B), 0, H};
    return {0, B, std::min(H, thread.first(panels) * PANEL<T>), std::min(H, thread.last(panels) * PANEL<T>)};
  }

  // The panels of the columns of `block`.
  static int64_t first_panel(const Block& block) { return block.left / PANEL<T>; }
  static int64_t last_panel(const Block& block) { return (block.right + PANEL<T> - 1) / PANEL<T>; }

  // W_x x for the rows [first, last) of the sequence: a product, or rows of W_x.
  void project(const Packed<T>& W_x, int64_t first, int64_t last) const {
    if (!s.symbols)
      multiply({s.x + first * s.inputs, s.inputs, 1}, last - first, W_x, 0, panels, s.from_x + first * width, false);
    else if (C::ONE_SUM)
      for (int64_t row = first; row < last; ++row)
        std::copy_n(s.W_x + s.symbols[row] * width, width, s.from_x + row * width);
  }

  // dW += A^T D for this thread's panels of columns.
  void add_to_weights(const T* A, int64_t depth, const T* D, int64_t rows, T* dW, T* panels_memory,
                      const Thread& thread) const {
    const Packed<T> D_rows{panels_memory, rows, G, H};
    const int64_t first = thread.first(panels), last = thread.last(panels);
    D_rows.pack({D, width, 1}, first, last);
    multiply<T>({A, 1, depth}, depth, D_rows, first, last, dW, true);
  }

  // The same for one-hot rows of A.
  void add_to_rows(const int64_t* symbols, const T* D, int64_t rows, T* dW, const Thread& thread) const {
    const int64_t first = thread.first(width), last = thread.last(width);
    for (int64_t row = 0; row < rows; ++row) add_row(dW + symbols[row] * width, D + row * width, first, last);
  }

 public:
  explicit Layer(const Sequence<T>& sequence) : s(sequence) {}

  void forward() const {
    Scratch<T> memory_x(s.symbols ? 0 : G * panels * s.inputs * PANEL<T>), memory_h(G * panels * H * PANEL<T>);
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
          multiply({step.h_before + block.first * H, H, 1}, block.last - block.first, W_h, first_panel(block),
                   last_panel(block), s.from_h + (t * B + block.first) * width, C::ONE_SUM);
          C::forward(step, block);
          if (BY_UNITS) {  // the next product reads all units
#pragma omp barrier
          }
        }
      }
    }
  }

  void backward(const Gradients<T>& d) const {
    const bool two_terms = !C::ONE_SUM;
    const int64_t rows = std::min(chunk, s.steps) * B;
    Scratch<T> memory_h(panels * width * PANEL<T>);
    Scratch<T> memory_x(d.x ? Packed<T>::panels_of(s.inputs) * width * PANEL<T> : 0);
    Scratch<T> memory_dh(rows * width), memory_dx(two_terms ? rows * width : 0), dn(B * H);
    Scratch<T> memory_panels(G * panels * rows * PANEL<T>);
    // Sums over cases and time of each thread; added up in the order of the threads.
    const int64_t per_thread = 6 * width;  // scratch, gains and shifts of x, h and c: six of at most `width`
    std::vector<T> sums(threads * per_thread, T(0));
    const Packed<T> W_h{memory_h.get(), width, 1, H}, W_x{memory_x.get(), width, 1, s.inputs};
#pragma omp parallel num_threads(threads)
    {
      const Thread thread;
      const Block block = block_of(thread);
      Scratch<T> sums_of_step(2 * width);
      T* own = sums.data() + thread.number * per_thread;
      W_h.pack({s.W_h, 1, width}, thread.first(W_h.panels()), thread.last(W_h.panels()));
      if (d.x)
        W_x.pack({s.W_x, 1, width}, thread.first(W_x.panels()), thread.last(W_x.panels()));
#pragma omp barrier
      for (int64_t end = s.steps; end > 0;) {
        const int64_t start = std::max<int64_t>(0, (end - 1) / chunk * chunk);
        for (int64_t t = end - 1; t >= start; --t) {
          Step<T> step = this->step(t);
          for (int segment = 0; segment < C::SEGMENTS; ++segment) {
            const int64_t offset = segment == 0 ? 0 : (G - 1) * H;
            step.x[segment].dgain = own + offset;
            step.x[segment].dshift = own + width + offset;
            step.h[segment].dgain = own + 2 * width + offset;
            step.h[segment].dshift = own + 3 * width + offset;
          }
          step.of_c.dgain = own + 4 * width;
          step.of_c.dshift = own + 5 * width;
          step.d_outputs = d.outputs + t * B * H;
          step.dh = d.h;
          step.dc = d.c;
          step.dn = dn.get();
          step.dh_raw = memory_dh.get() + (t - start) * B * width;
          step.dx_raw = two_terms ? memory_dx.get() + (t - start) * B * width : step.dh_raw;
          step.sums = sums_of_step.get();
          C::backward(step, block);
          if (BY_UNITS) {  // the product reads the gradients of all units
#pragma omp barrier
          }
          multiply({step.dh_raw + block.first * width, width, 1}, block.last - block.first, W_h, first_panel(block),
                   last_panel(block), d.h + block.first * H, true);
        }
#pragma omp barrier
        const int64_t done = (end - start) * B;
        const T *D_h = memory_dh.get(), *D_x = two_terms ? memory_dx.get() : D_h;
        add_to_weights(s.h + start * B * H, H, D_h, done, d.W_h, memory_panels.get(), thread);
        if (s.symbols)
          add_to_rows(s.symbols + start * B, D_x, done, d.W_x, thread);
        else
          add_to_weights(s.x + start * B * s.inputs, s.inputs, D_x, done, d.W_x, memory_panels.get(), thread);
        if (d.x) {
          const int64_t first = thread.first(done), last = thread.last(done);
          multiply({D_x + first * width, width, 1}, last - first, W_x, 0, W_x.panels(),
                   d.x + (start * B + first) * s.inputs, false);
        }
#pragma omp barrier
        end = start;
      }
    }
    T* const totals[6] = {d.gain_x, d.shift_x, d.gain_h, d.shift_h, d.gain_c, d.shift_c};
    for (int64_t number = 0; number < threads; ++number)
      for (int64_t k = 0; k < 6; ++k)
        add_row(totals[k], sums.data() + number * per_thread + k * width, 0, k < 4 ? width : H);
  }
};

template <typename T, template <typename, Norm> class Cell, typename Call>
void with_norm(Norm norm, const Sequence<T>& sequence, Call call) {
  if (norm == Norm::none) call(Layer<T, Cell, Norm::none>(sequence));
  if (norm == Norm::layer) call(Layer<T, Cell, Norm::layer>(sequence));
  if (norm == Norm::batch) call(Layer<T, Cell, Norm::batch>(sequence));
}

template <typename T, typename Call>
void with_layer(CellName cell, Norm norm, const Sequence<T>& sequence, Call call) {
  if (cell == CellName::tanh) with_norm<T, Tanh>(norm, sequence, call);
  if (cell == CellName::lstm) with_norm<T, LSTM>(norm, sequence, call);
  if (cell == CellName::gru) with_norm<T, GRU>(norm, sequence, call);
}

template <typename T>
void forward(CellName cell, Norm norm, const Sequence<T>& sequence) {
  with_layer(cell, norm, sequence, [](const auto& layer) { layer.forward(); });
}

template <typename T>
void backward(CellName cell, Norm norm, const Sequence<T>& sequence, const Gradients<T>& gradients) {
  with_layer(cell, norm, sequence, [&](const auto& layer) { layer.backward(gradients); });
}

}  // namespace layernorm
