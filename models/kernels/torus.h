// Maps (N, C, H, W), channels side by side, with their opposite sides repeated beyond their border, and the transpose.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

namespace layernorm {

// (N, C, H + 2, W + 2).
template <typename T>
at::Tensor wrapped(const at::Tensor& x) {
  const int64_t cases = x.size(0), C = x.size(1), height = x.size(2), width = x.size(3);
  const at::Tensor y = at::empty({cases, C, height + 2, width + 2}, x.options(), at::MemoryFormat::ChannelsLast);
  const T* from = x.data_ptr<T>();
  T* to = y.data_ptr<T>();
  at::parallel_for(0, cases * (height + 2), 256, [=](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const int64_t n = r / (height + 2), h = (r % (height + 2) + height - 1) % height;
      const T* row = from + (n * height + h) * width * C;
      T* line = to + r * (width + 2) * C;
      std::copy_n(row + (width - 1) * C, C, line);
      std::copy_n(row, width * C, line + C);
      std::copy_n(row, C, line + (width + 1) * C);
    }
  });
  return y;
}

// What lies beyond the border is added to where it came from.
template <typename T>
at::Tensor folded(const at::Tensor& y) {
  const int64_t cases = y.size(0), C = y.size(1), height = y.size(2) - 2, width = y.size(3) - 2;
  const at::Tensor x = at::empty({cases, C, height, width}, y.options(), at::MemoryFormat::ChannelsLast);
  const T* from = y.data_ptr<T>();
  T* to = x.data_ptr<T>();
  at::parallel_for(0, cases * height, 256, [=](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const int64_t n = r / height, h = r % height;
      T* row = to + r * width * C;
      std::fill_n(row, width * C, T(0));
      const auto add = [=](int64_t l) {
        const T* line = from + (n * (height + 2) + l) * (width + 2) * C;
        for (int64_t j = 0; j < width * C; ++j) row[j] += line[C + j];
        for (int64_t c = 0; c < C; ++c) row[c] += line[(width + 1) * C + c];
        for (int64_t c = 0; c < C; ++c) row[(width - 1) * C + c] += line[c];
      };
      add(h + 1);
      if (h == 0) add(height + 1);
      if (h == height - 1) add(0);
    }
  });
  return x;
}

}  // namespace layernorm
