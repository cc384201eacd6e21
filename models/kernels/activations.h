// exp, sigmoid and tanh without branches, tables or libraries, so that the loops around them vectorise on any compiler.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace layernorm {

template <typename T>
struct Exponential {
  static constexpr bool single = sizeof(T) == 4;
  using Integer = std::conditional_t<single, int32_t, int64_t>;
  static constexpr int terms = single ? 7 : 13;  // of the series
  static constexpr int mantissa = std::numeric_limits<T>::digits - 1, bias = std::numeric_limits<T>::max_exponent - 1;
  static constexpr T limit = single ? 87 : 708;  // e^x and 1 / e^x stay finite
  static constexpr T high = single ? 0.693359375 : 6.93145751953125e-1;  // ln 2 = high + low, n * high exact
  static constexpr T low = single ? -2.12194440e-4 : 1.42860682030941723212e-6;
};

// 1 / k! for k = 1, 2, ...
constexpr double TAYLOR[] = {1,           1. / 2,      1. / 6,       1. / 24,       1. / 120,       1. / 720,      1. / 5040,
                             1. / 40320, 1. / 362880, 1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800};

// e^x = power (1 + rest): x = n ln 2 + r gives the power 2^n, and the rest e^r - 1 is its Taylor series, |r| < 0.35.
// Beyond the limits that of the limit; NaN stays NaN.
template <typename T>
struct Power {
  T power, rest;

  explicit Power(T x) {
    using E = Exponential<T>;
    using Integer = typename E::Integer;
    x = x > E::limit ? E::limit : x;
    x = x < -E::limit ? -E::limit : x;
    const T n = std::rint(x * T(1.4426950408889634));
    const T r = (x - n * E::high) - n * E::low;
    T series = 0;  // (e^r - 1) / r = 1 + r / 2! + r^2 / 3! + ...
#pragma GCC unroll 16
    for (int k = E::terms; k > 0; --k) series = series * r + T(TAYLOR[k - 1]);
    const Integer bits = (static_cast<Integer>(n == n ? n : T(0)) + E::bias) << E::mantissa;
    std::memcpy(&power, &bits, sizeof(T));
    rest = series * r;
  }
};

template <typename T>
inline T exponential(T x) {
  const Power<T> p(x);
  return p.power * p.rest + p.power;
}

// Without loss of digits near 0.
template <typename T>
inline T exp_minus_1(T x) {
  const Power<T> p(x);
  return p.power * p.rest + (p.power - 1);
}

template <typename T>
inline T sigmoid(T x) {
  return 1 / (2 + exp_minus_1(-x));
}

template <typename T>
inline T hyperbolic_tangent(T x) {
  x = x > 20 ? T(20) : x < -20 ? T(-20) : x;  // there it is 1 to the last digit
  const T e = exp_minus_1(2 * x);
  return e / (e + 2);
}

}  // namespace layernorm
