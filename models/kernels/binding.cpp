// The kernels as operators of PyTorch: checks, memory and gradients' memory. models/kernels/__init__.py calls them.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "layer.h"

namespace layernorm {

namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

template <typename Name>
Name chosen(int64_t choice) {
  TORCH_CHECK(choice >= 0 && choice < 3, "no such cell or norm: ", choice);
  return static_cast<Name>(choice);
}

template <typename T>
T* data(const Tensor& tensor) {
  return tensor.numel() ? tensor.data_ptr<T>() : nullptr;
}

void check(const Tensor& tensor, at::IntArrayRef shape, at::ScalarType type, const char* name) {
  TORCH_CHECK(tensor.sizes() == shape && tensor.scalar_type() == type && tensor.is_contiguous() && tensor.is_cpu(), name,
              ": expected a contiguous ", type, " of shape ", shape, " on the CPU, got ", tensor.scalar_type(), " ",
              tensor.sizes());
}

// Where the parts of the workspace begin; they are skewed so that rows of different parts do not share cache sets.
struct Workspace {
  int64_t from_x, from_h, gates, squashed, elements;

  Workspace(CellName cell, Norm norm, bool gathered, int64_t rows, int64_t size) {
    const int64_t width = size * (cell == CellName::tanh ? 1 : cell == CellName::gru ? 3 : 4);
    const bool one_sum = cell == CellName::tanh || (cell == CellName::lstm && norm == Norm::none);
    constexpr int64_t skew = 5 * 64 / sizeof(float);
    from_x = 0;
    from_h = one_sum || gathered ? 0 : from_x + rows * width + skew;
    gates = one_sum ? 0 : from_h + rows * width + skew;  // a sum becomes its gate in place
    squashed = gates + rows * width + skew;
    elements = squashed + (cell == CellName::lstm ? rows * size : 0);
  }
};

// The arguments of both operators. parameters: gain and shift of x, h and c, each possibly empty; statistics: mean and
// 1 / sqrt(variance + eps) of x, h and c, each (2, steps, ...) or empty; h: (steps + 1, batch, size); c likewise or empty.
template <typename T>
Sequence<T> sequence_of(CellName cell, Norm norm, const Tensor& x, const Tensor& W_x, const Tensor& W_h,
                        const Tensors& parameters, const Tensors& statistics, const Tensor& mask, const Tensor& h,
                        const Tensor& c, const Tensor& workspace, bool given, double eps) {
  Sequence<T> s{};
  s.steps = h.size(0) - 1, s.batch = h.size(1), s.size = h.size(2), s.inputs = W_x.size(0);
  s.threads = at::get_num_threads(), s.eps = eps, s.given = given;
  if (x.scalar_type() == at::kLong)
    s.symbols = x.data_ptr<int64_t>();
  else
    s.x = x.data_ptr<T>();
  s.mask = data<bool>(mask);
  s.W_x = W_x.data_ptr<T>(), s.W_h = W_h.data_ptr<T>();
  s.gain_x = data<T>(parameters[0]), s.shift_x = data<T>(parameters[1]);
  s.gain_h = data<T>(parameters[2]), s.shift_h = data<T>(parameters[3]);
  s.gain_c = data<T>(parameters[4]), s.shift_c = data<T>(parameters[5]);
  T** const means[3] = {&s.mean_x, &s.mean_h, &s.mean_c};
  T** const inverses[3] = {&s.inverse_x, &s.inverse_h, &s.inverse_c};
  for (int i = 0; i < 3; ++i) {
    *means[i] = data<T>(statistics[i]);
    *inverses[i] = at(*means[i], statistics[i].numel() / 2);
  }
  s.h = h.data_ptr<T>(), s.c = data<T>(c);
  const Workspace parts(cell, norm, s.symbols != nullptr, s.steps * s.batch, s.size);
  TORCH_CHECK(workspace.numel() == parts.elements, "the workspace belongs to another call");
  T* const base = workspace.data_ptr<T>();
  s.from_x = base + parts.from_x, s.from_h = base + parts.from_h;
  s.gates = base + parts.gates, s.squashed = base + parts.squashed;
  return s;
}

std::tuple<Tensor, Tensor, Tensor> forward_op(int64_t cell_number, int64_t norm_number, const Tensor& x,
                                              const Tensor& W_x, const Tensor& W_h, Tensors parameters,
                                              Tensors statistics, const Tensor& mask, const Tensor& h_0,
                                              const Tensor& c_0, bool given, double eps) {
  const auto cell = chosen<CellName>(cell_number);
  const auto norm = chosen<Norm>(norm_number);
  const bool one_hot = x.scalar_type() == at::kLong;
  TORCH_CHECK(x.dim() == (one_hot ? 2 : 3), "x: expected (steps, batch, inputs), or integers (steps, batch)");
  const int64_t steps = x.size(0), batch = x.size(1), inputs = W_x.size(0), size = W_h.size(0), width = W_h.size(1);
  const auto type = W_h.scalar_type();
  TORCH_CHECK(steps > 0 && batch > 0 && size > 0, "empty sequences have no states");
  if (one_hot) {
    check(x, {steps, batch}, at::kLong, "x");
    for (int64_t i = 0; i < x.numel(); ++i)
      TORCH_CHECK_INDEX(uint64_t(x.data_ptr<int64_t>()[i]) < uint64_t(inputs), "x: symbol ",
                        x.data_ptr<int64_t>()[i], " outside of [0, ", inputs, ")");
  } else {
    check(x, {steps, batch, inputs}, type, "x");
  }
  check(W_x, {inputs, width}, type, "W_x");
  check(W_h, {size, width}, type, "W_h");
  check(h_0, {batch, size}, type, "h_0");
  if (cell == CellName::lstm) check(c_0, {batch, size}, type, "c_0");
  if (mask.numel()) check(mask, {steps, batch}, at::kBool, "mask");
  TORCH_CHECK(parameters.size() == 6 && statistics.size() == 3, "expected 6 parameters and 3 statistics");
  for (int i = 0; i < 6; ++i)
    if (parameters[i].numel()) check(parameters[i], {i < 4 ? width : size}, type, "gain or shift");
  Tensor h = at::empty({steps + 1, batch, size}, h_0.options()), c = at::empty({0}, h_0.options());
  h[0].copy_(h_0);
  if (cell == CellName::lstm) {
    c = at::empty_like(h);
    c[0].copy_(c_0);
  }
  Tensor workspace = at::empty({Workspace(cell, norm, one_hot, steps * batch, size).elements}, h_0.options());
  AT_DISPATCH_FLOATING_TYPES(type, "recurrence", [&] {
    forward<scalar_t>(cell, norm, sequence_of<scalar_t>(cell, norm, x, W_x, W_h, parameters, statistics, mask, h, c,
                                                        workspace, given, eps));
  });
  return {h, c, workspace};
}

// Gradients of x (empty unless asked for), W_x, W_h, the six parameters, h_0 and c_0.
Tensors backward_op(int64_t cell_number, int64_t norm_number, const Tensor& x, const Tensor& W_x, const Tensor& W_h,
                    Tensors parameters, Tensors statistics, const Tensor& mask, const Tensor& h, const Tensor& c,
                    const Tensor& workspace, bool given, double eps, const Tensor& d_outputs, const Tensor& d_c,
                    bool for_x) {
  const auto cell = chosen<CellName>(cell_number);
  const auto norm = chosen<Norm>(norm_number);
  const int64_t batch = h.size(1), size = h.size(2), width = W_h.size(1);
  check(d_outputs, {h.size(0) - 1, batch, size}, W_h.scalar_type(), "the gradient of h");
  Tensors out{at::empty(for_x ? x.sizes() : at::IntArrayRef{0}, W_h.options()), at::zeros_like(W_x), at::zeros_like(W_h)};
  for (int i = 0; i < 6; ++i) out.push_back(at::zeros({i < 4 ? width : size}, W_h.options()));
  out.push_back(at::zeros({batch, size}, W_h.options()));
  out.push_back(cell == CellName::lstm ? d_c.clone() : at::empty({0}, W_h.options()));
  AT_DISPATCH_FLOATING_TYPES(W_h.scalar_type(), "recurrence", [&] {
    const auto at = [&](int i) { return data<scalar_t>(out[i]); };
    const Gradients<scalar_t> gradients{d_outputs.data_ptr<scalar_t>(), at(9), at(10), at(0), at(1), at(2), at(3), at(4),
                                        at(5), at(6), at(7), at(8)};
    backward<scalar_t>(cell, norm, sequence_of<scalar_t>(cell, norm, x, W_x, W_h, parameters, statistics, mask, h, c,
                                                         workspace, given, eps), gradients);
  });
  return out;
}

}  // namespace

TORCH_LIBRARY(layernorm, library) {
  library.def("recurrence", forward_op);
  library.def("recurrence_backward", backward_op);
}

}  // namespace layernorm
