// relu(norm(a)) of maps whose channels lie side by side, and its gradient: DERIVATION.md, section 7.
#pragma once
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "product.h"

namespace layernorm {

// What is subtracted and divided by: nothing; what is given; the mean of the values and the root of their variance; 0
// and the root of their mean square.
enum class Centre { none, given, mean, zero };

// Sets of rows of channels, a row for each position of each case of a set. Each group of neighbouring channels of a set
// has statistics of its own: of layer norm a set is a case, with one group; of batch norm it is the mini-batch, and
// each channel is a group.
template <typename T>
struct Maps {
  int64_t sets, rows, channels, groups;
  Centre centre;
  T eps;
  const T *gain, *shift;  // (channels), or null
  T *mean, *inverse;      // (sets, groups), 1 / sqrt(variance + eps); null with Centre::none

  int64_t size() const { return rows * channels; }  // of a set
  bool own() const { return centre == Centre::mean || centre == Centre::zero; }
};

constexpr int64_t LANES = 64;   // values at a time, whose sums stay in registers
constexpr int64_t BLOCK = 128;  // times so many values are added up in T, and these sums in double

// What memory holds, as a register full of values or as a single one: like `kind`, which is 0.
template <typename V, typename T>
inline V& in(V, T* from) {
  return *reinterpret_cast<V*>(from);
}
template <typename V, typename T>
inline const V& in(V, const T* from) {
  return *reinterpret_cast<const V*>(from);
}

// Part of a set: lines of at most LANES values, each of which belongs to the same channel in every line. They are
// several rows in one where these fill LANES exactly, with a rest in the end, and else a column of blocks.
struct Strip {
  int64_t column, width, stride, lines, rest;

  int64_t blocks() const { return (lines + BLOCK) / BLOCK; }  // the last one may have no more than the rest

  // f(0, index in the set, lane of its channel, lane of the strip) for the values of a block, 0 as in `in`.
  template <typename T, typename F>
  void each(int64_t block, const F& f) const {
    const int64_t first = block * BLOCK, last = std::min(lines, first + BLOCK);
    if (width == LANES)
      for (int64_t l = first; l < last; ++l) line<T>(l, LANES, f);
    else
      for (int64_t l = first; l < last; ++l) line<T>(l, width, f);
    if (last == lines) line<T>(lines, rest, f);
  }

  template <typename T, typename F>
  void line(int64_t l, int64_t n, const F& f) const {
    constexpr int64_t full = Register<T>::lanes;
    const int64_t start = l * stride + column;
    int64_t j = 0;
#pragma GCC unroll 16
    for (; j + full <= n; j += full) f(typename Register<T>::Value{}, start + j, column + j, j);
    for (; j < n; ++j) f(T{}, start + j, column + j, j);
  }
};

// What one thread needs to work on sets. Its arrays of numbers of each lane have those of its channel.
template <typename T>
struct Worker {
  const Maps<T>& maps;
  const bool repeated = LANES % maps.channels == 0;
  const int64_t width = std::max(LANES, maps.channels), in_group = maps.channels / maps.groups;
  const double count = double(in_group) * maps.rows;  // of values with statistics of their own
  std::vector<Strip> strips;
  std::vector<T> parts;      // sums of each block, two of each lane
  std::vector<double> sums;  // two of each channel
  std::vector<T> lanes;
  T *const mean, *const shift, *const scale, *const along, *const constant;

  explicit Worker(const Maps<T>& maps)
      : maps(maps), sums(2 * maps.channels), lanes(5 * width), mean(lanes.data()), shift(mean + width),
        scale(shift + width), along(scale + width), constant(along + width) {
    if (repeated)
      strips.push_back({0, LANES, LANES, maps.size() / LANES, maps.size() % LANES});
    else
      for (int64_t column = 0; column < maps.channels; column += LANES)
        strips.push_back({column, std::min(LANES, maps.channels - column), maps.channels, maps.rows, 0});
    parts.resize(2 * LANES * strips[0].blocks());
  }

  template <typename F>
  void for_blocks(const Strip& strip, F f) const {
    at::parallel_for(0, strip.blocks(), 1, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) f(block);
    });
  }

  // f(0, index in the set, lane) for all values.
  template <typename F>
  void each(F f) const {
    for (const Strip& strip : strips)
      for_blocks(strip, [&](int64_t block) {
        strip.template each<T>(block, [f](auto v, int64_t i, int64_t l, int64_t) { f(v, i, l); });
      });
  }

  // Sums of each channel: of what f adds to sum[0] and, if there are two, to sum[LANES].
  template <int NUMBERS, typename F>
  void add_up(F f) {
    std::fill(sums.begin(), sums.end(), 0);
    for (const Strip& strip : strips) {
      for_blocks(strip, [&](int64_t block) {
        T found[NUMBERS * LANES] = {};
        strip.template each<T>(block, [f, &found](auto v, int64_t i, int64_t l, int64_t j) { f(v, i, l, found + j); });
        std::copy_n(found, NUMBERS * LANES, parts.data() + block * NUMBERS * LANES);
      });
      const int64_t channels = repeated ? maps.channels : strip.width;
      for (int64_t part = 0; part < strip.blocks() * NUMBERS; ++part) {
        double* const to = sums.data() + part % NUMBERS * maps.channels + strip.column;
        for (int64_t from = part * LANES; from < part * LANES + strip.width; from += channels)
          for (int64_t c = 0; c < channels; ++c) to[c] += parts[from + c];
      }
    }
  }

  // Let the lanes have f(channel, group).
  template <typename F>
  void set(T* lane, F f) const {
    for_channels([&](int64_t c, int64_t g) { lane[c] = f(c, g); });
    if (repeated)
      for (int64_t j = maps.channels; j < LANES; j += maps.channels) std::copy_n(lane, maps.channels, lane + j);
  }

  template <typename F>
  void for_channels(F f) const {
    for (int64_t g = 0, c = 0; g < maps.groups; ++g)
      for (const int64_t last = c + in_group; c < last; ++c) f(c, g);
  }

  // The mean over the values of a group, of whose channels f has the sums.
  template <typename F>
  double mean_of(int64_t group, F f) const {
    double total = 0;
    for (int64_t c = group * in_group; c < (group + 1) * in_group; ++c) total += f(c);
    return total / count;
  }

  T gain_of(int64_t channel) const { return maps.gain ? maps.gain[channel] : T(1); }
  T inverse_of(int64_t s, int64_t group) const { return maps.inverse ? maps.inverse[s * maps.groups + group] : T(1); }
  void set_mean(int64_t s) const {
    set(mean, [&](int64_t, int64_t g) { return maps.mean ? maps.mean[s * maps.groups + g] : T(0); });
  }

  void find_statistics(int64_t s, const T* a) {
    T *means = maps.mean + s * maps.groups, *inverses = maps.inverse + s * maps.groups;
    const auto total = [&](int64_t c) { return sums[c]; };
    if (maps.centre == Centre::mean) add_up<1>([a](auto v, int64_t i, int64_t, T* sum) { in(v, sum) += in(v, a + i); });
    for (int64_t g = 0; g < maps.groups; ++g) means[g] = maps.centre == Centre::mean ? mean_of(g, total) : 0;
    set_mean(s);
    add_up<1>([a, mean = mean](auto v, int64_t i, int64_t l, T* sum) {
      const auto d = in(v, a + i) - in(v, mean + l);
      in(v, sum) += d * d;
    });
    for (int64_t g = 0; g < maps.groups; ++g) inverses[g] = 1 / std::sqrt(mean_of(g, total) + maps.eps);
  }

  // y = relu(gain * hat + shift) of set s, hat = (a - mean) * inverse; y may be a's own memory.
  void forward(int64_t s, const T* a, T* y) {
    a += s * maps.size(), y += s * maps.size();
    maps.own() ? find_statistics(s, a) : set_mean(s);
    set(scale, [&](int64_t c, int64_t g) { return gain_of(c) * inverse_of(s, g); });
    set(shift, [&](int64_t c, int64_t) { return maps.shift ? maps.shift[c] : T(0); });
    each([a, y, mean = mean, scale = scale, shift = shift](auto v, int64_t i, int64_t l) {
      const auto out = (in(v, a + i) - in(v, mean + l)) * in(v, scale + l) + in(v, shift + l);
      in(v, y + i) = out < v ? v : out;  // NaN stays NaN
    });
  }

  // From d, the gradient of y, that of a, in its place; dgain and dshift (channels) of set s. With Centre::none a may
  // be y.
  void backward(int64_t s, const T* a, const T* y, T* d, T* dgain, T* dshift) {
    a += s * maps.size(), y += s * maps.size(), d += s * maps.size();
    set_mean(s);
    add_up<2>([a, y, d, mean = mean](auto v, int64_t i, int64_t l, T* sum) {
      const auto slope = in(v, y + i) <= v ? v : in(v, d + i);
      in(v, sum) += slope;
      in(v, sum + LANES) += slope * (in(v, a + i) - in(v, mean + l));
    });
    const double *total = sums.data(), *total_hat = total + maps.channels;  // the latter still lacks its inverse
    for_channels([&](int64_t c, int64_t g) { dshift[c] = total[c], dgain[c] = total_hat[c] * inverse_of(s, g); });
    const bool single = maps.centre == Centre::mean && count == 1;  // its own mean: no gradient reaches it
    set(scale, [&](int64_t c, int64_t g) { return single ? T(0) : gain_of(c) * inverse_of(s, g); });
    std::fill_n(along, 2 * width, T(0));
    if (maps.own() && !single) project(s);
    each([a, y, d, mean = mean, scale = scale, along = along, constant = constant](auto v, int64_t i, int64_t l) {
      const auto slope = in(v, y + i) <= v ? v : in(v, d + i), centred = in(v, a + i) - in(v, mean + l);
      in(v, d + i) = slope * in(v, scale + l) - centred * in(v, along + l) - in(v, constant + l);
    });
  }

  // What the statistics take from the gradient: what of it lies along hat and, if a mean is subtracted, along 1.
  void project(int64_t s) {
    const double *total = sums.data(), *total_hat = total + maps.channels;
    for (int64_t g = 0; g < maps.groups; ++g) {
      const double inverse = inverse_of(s, g);
      const double hat = mean_of(g, [&](int64_t c) { return gain_of(c) * total_hat[c]; }) * inverse * inverse * inverse;
      const double one = mean_of(g, [&](int64_t c) { return gain_of(c) * total[c]; }) * inverse;
      std::fill_n(along + g * in_group, in_group, hat);
      std::fill_n(constant + g * in_group, in_group, maps.centre == Centre::mean ? one : 0);
    }
    set(along, [this](int64_t c, int64_t) { return along[c]; });
    set(constant, [this](int64_t c, int64_t) { return constant[c]; });
  }
};

// f(worker, set) for all sets.
template <typename T, typename F>
void for_sets(const Maps<T>& maps, F f) {
  at::parallel_for(0, maps.sets, 1, [&](int64_t first, int64_t last) {
    Worker<T> worker(maps);
    for (int64_t s = first; s < last; ++s) f(worker, s);
  });
}

}  // namespace layernorm
