// The product C = A B, or C += A B, of the sizes that a recurrent layer has: small, with a B that serves many times.
//
// B is packed once into panels of two vector registers' width. A tile of C as high as the registers allow stays in them
// while k runs: two loads of B and one of A for each row serve 2 * rows multiply-adds.
#pragma once
#include <algorithm>
#include <cstdint>

namespace layernorm {

#if defined(__AVX512F__)
constexpr int REGISTER_BYTES = 64, TILE_ROWS = 12;  // 24 of 32 registers hold the tile
#elif defined(__AVX__)
constexpr int REGISTER_BYTES = 32, TILE_ROWS = 6;  // 12 of 16
#else
constexpr int REGISTER_BYTES = 16, TILE_ROWS = 6;
#endif

template <typename T>
struct Register {
  typedef T Value __attribute__((vector_size(REGISTER_BYTES), aligned(alignof(T)), may_alias));
  static constexpr int lanes = REGISTER_BYTES / sizeof(T);
};

template <typename T>
constexpr int PANEL = 2 * Register<T>::lanes;  // columns

// A matrix read in place: element (i, j) is data[i * row + j * column].
template <typename T>
struct Matrix {
  const T* data;
  int64_t row, column;
  Matrix from(int64_t i) const { return {data + i * row, row, column}; }
};

// A right factor (depth, gates * size) in panels. No panel crosses from one gate into the next, so that a thread can
// own the same units of every gate; the last panel of a gate is filled up with zeros.
template <typename T>
struct Packed {
  T* data;
  int64_t depth, gates, size;

  int64_t panels() const { return panels_of(size); }  // of each gate
  T* panel(int64_t gate, int64_t p) const { return data + (gate * panels() + p) * depth * PANEL<T>; }
  int64_t width(int64_t p) const { return std::min<int64_t>(PANEL<T>, size - p * PANEL<T>); }
  static int64_t panels_of(int64_t size) { return (size + PANEL<T> - 1) / PANEL<T>; }

  // Fill the panels [first, last) of every gate from B.
  void pack(const Matrix<T>& B, int64_t first, int64_t last) const {
    for (int64_t gate = 0; gate < gates; ++gate)
      for (int64_t p = first; p < last; ++p) {
        const T* from = B.data + (gate * size + p * PANEL<T>) * B.column;
        T* to = panel(gate, p);
        const int64_t columns = width(p);
        if (columns < PANEL<T>) std::fill_n(to, depth * PANEL<T>, T(0));
        if (B.column == 1)
          for (int64_t k = 0; k < depth; ++k) std::copy_n(from + k * B.row, columns, to + k * PANEL<T>);
        else  // transposed: along the rows of the original
          for (int64_t j = 0; j < columns; ++j)
            for (int64_t k = 0; k < depth; ++k) to[k * PANEL<T> + j] = from[k * B.row + j * B.column];
      }
  }
};

// One tile: ROWS x (VECTORS registers) of C, from VECTORS / 2 neighbouring panels of B.
template <typename T, int ROWS, int VECTORS>
inline void tile(const Matrix<T>& A, const T* B, int64_t depth, T* C, int64_t stride, int64_t width, bool add) {
  using Value = typename Register<T>::Value;
  constexpr int lanes = Register<T>::lanes;
  Value sum[ROWS][VECTORS] = {};
#pragma GCC unroll 1
  for (int r = 0; r < ROWS; ++r)  // C is needed at the end, the cache may bring it meanwhile
    for (int v = 0; v < VECTORS; ++v) __builtin_prefetch(C + r * stride + v * lanes, 1);
  for (int64_t k = 0; k < depth; ++k) {
    Value b[VECTORS];
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v)
      b[v] = *reinterpret_cast<const Value*>(B + (v / 2) * depth * PANEL<T> + k * PANEL<T> + (v % 2) * lanes);
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; ++r) {
      const T a = A.data[r * A.row + k * A.column];
#pragma GCC unroll 8
      for (int v = 0; v < VECTORS; ++v) sum[r][v] += a * b[v];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < VECTORS; ++v) {
      T* to = C + r * stride + v * lanes;
      if ((v + 1) * lanes <= width) {
        Value& whole = *reinterpret_cast<Value*>(to);
        whole = add ? whole + sum[r][v] : sum[r][v];
      } else {
#pragma GCC unroll 1
        for (int64_t j = 0; j < width - v * lanes; ++j) to[j] = (add ? to[j] : T(0)) + sum[r][v][j];
      }
    }
}

// `tile` for a number of rows known at run time only. Few rows take several panels at once: one row alone would have
// each multiply-add wait for the one before.
template <typename T, int ROWS = TILE_ROWS>
inline int64_t tiles(int64_t rows, const Matrix<T>& A, const Packed<T>& B, int64_t gate, int64_t p, int64_t last, T* C,
                     int64_t stride, bool add) {
  if constexpr (ROWS > 1)
    if (rows < ROWS) return tiles<T, ROWS - 1>(rows, A, B, gate, p, last, C, stride, add);
  constexpr int AT_ONCE = ROWS * 4 <= TILE_ROWS ? 4 : 1;
  const T* panel = B.panel(gate, p);
  if (AT_ONCE > 1 && p + AT_ONCE <= last && (p + AT_ONCE) * PANEL<T> <= B.size) {
    tile<T, ROWS, 2 * AT_ONCE>(A, panel, B.depth, C, stride, AT_ONCE * PANEL<T>, add);
    return AT_ONCE;
  }
  const int64_t width = B.width(p);
  if (width <= Register<T>::lanes)
    tile<T, ROWS, 1>(A, panel, B.depth, C, stride, width, add);
  else
    tile<T, ROWS, 2>(A, panel, B.depth, C, stride, width, add);
  return 1;
}

// The panels [first, last) of every gate of A B, to or added to C, whose rows are `stride` apart.
template <typename T>
void multiply(const Matrix<T>& A, int64_t rows, const Packed<T>& B, int64_t first, int64_t last, T* C, int64_t stride,
              bool add) {
  const int64_t heights = (rows + TILE_ROWS - 1) / TILE_ROWS;
  for (int64_t gate = 0; gate < B.gates; ++gate)
    for (int64_t p = first, done; p < last; p += done) {
      done = 1;  // more only where there is one row of tiles
      for (int64_t i = 0; i < heights; ++i) {  // tiles of nearly equal height
        const int64_t top = rows * i / heights, bottom = rows * (i + 1) / heights;
        T* corner = C + top * stride + gate * B.size + p * PANEL<T>;
        done = tiles(bottom - top, A.from(top), B, gate, p, last, corner, stride, add);
      }
    }
}

// Elements of scratch that `add_transposed` needs: A with its rows skewed by a cache line, and a panel of D.
template <typename T>
int64_t transposed_scratch(int64_t m, int64_t depth) {
  return (m + 64 / sizeof(T) + PANEL<T>) * depth;
}

// C (m, gates * size) += A^T D for A (depth, m): the panels [first, last) of every gate of D, packed one by one.
template <typename T>
void add_transposed(const T* A, int64_t m, const T* D, int64_t depth, int64_t gates, int64_t size, int64_t first,
                    int64_t last, T* C, T* scratch) {
  const int64_t skewed = m + 64 / sizeof(T), stride = gates * size;  // else a column of A could lie in two cache sets
  for (int64_t k = 0; k < depth; ++k) std::copy_n(A + k * m, m, scratch + k * skewed);
  for (int64_t gate = 0; gate < gates; ++gate)
    for (int64_t p = first; p < last; ++p) {
      const int64_t column = gate * size + p * PANEL<T>;
      const Packed<T> panel{scratch + depth * skewed, depth, 1, std::min<int64_t>(PANEL<T>, size - p * PANEL<T>)};
      panel.pack({D + column, stride, 1}, 0, 1);
      multiply({scratch, 1, skewed}, m, panel, 0, 1, C + column, stride, true);
    }
}

}  // namespace layernorm
