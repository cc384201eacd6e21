// What a call of a layer works on, and the call.
#pragma once
#include <cstdint>
#include <utility>

namespace layernorm {

enum class CellName { tanh, lstm, gru };
enum class Norm { none, layer, batch, gates };  // gates: layer norm of the sum of both terms, of each gate by itself

constexpr bool of_cases(Norm norm) { return norm == Norm::layer || norm == Norm::gates; }

// Which of its cell's equations a layer computes.
struct Form {
  CellName cell;
  Norm norm, of_c;                   // of W_x x and W_h h, and of c
  bool carries_normalized;           // the next step gets norm(c)
  bool constant_mean, constant_std;  // layer norm's, in the backward pass

  bool detached() const { return constant_mean || constant_std; }
  bool one_sum() const {  // W_x x and W_h h are added before the norm
    return cell == CellName::tanh || (cell == CellName::lstm && (norm == Norm::none || norm == Norm::gates));
  }
};

// Of what is normalised: gain, shift and, for each step, mean and 1 / sqrt(variance + eps) of each case (layer norm)
// or of each unit (batch norm).
template <typename T>
struct NormOf {
  const T *gain, *shift;
  T *mean, *inverse;
};

// Mean and 1 / sqrt(variance + eps) of n values, as the reference has them.
template <typename T>
using Moments = std::pair<T, T> (*)(const T* values, int64_t n, T eps);

// All matrices are row-major and packed; G is the number of gates, H the hidden_size.
template <typename T>
struct Sequence {
  Form form;
  int64_t steps, batch, inputs, size;
  int threads;
  T eps;
  Moments<T> overflowing;  // of values whose squares are too large to add up; null: what they come to here
  bool given;              // batch norm's statistics are given, not taken from the batch
  const T* x;              // (steps, batch, inputs), or
  const int64_t* symbols;  // (steps, batch): one-hot inputs
  const bool* mask;        // (steps, batch), or null
  const T *W_x, *W_h;      // (inputs, G H), (H, G H)
  NormOf<T> norms[3];      // of W_x x and W_h h, G H wide, and of c, H wide
  T *h, *c;                // (steps + 1, batch, H), the initial state first
  T* raw_c;                // (steps, batch, H): c before its norm; null where it is what `c` has
  T *from_x, *from_h;      // W_x x and W_h h (steps, batch, G H); the same where they are one sum
  T *gates, *squashed;     // see Step
};

template <typename T>
struct Gradients {
  const T* outputs;  // (steps, batch, H)
  T *h, *c;          // (batch, H), of the state after the last step; then of that before the first
  T* x;              // null where nobody asks
  T *W_x, *W_h;      // zeros at first, as are
  T* norms[6];       // gain and shift of each norm
};

// Forward, or, given gradients of the outputs, backward; false where there is no such cell.
template <typename T>
bool run(const Sequence<T>& sequence, const Gradients<T>* gradients = nullptr);

// An offset into an array that may be absent.
template <typename P>
P* at(P* array, int64_t offset) {
  return array ? array + offset : nullptr;
}

}  // namespace layernorm
