// The kernels as operators of PyTorch: checks and memory. models/kernels/__init__.py calls them.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "averages.h"
#include "layer.h"
#include "recurrence.h"
#include "tensors.h"

namespace layernorm {
namespace {

constexpr int64_t SKEW = 80;  // elements between parts of the workspace, else their rows would share sets of the cache

// What both operators get. parameters: gain and shift of the norms of W_x x, W_h h and c; statistics: their means and
// 1 / sqrt(variance + eps), each (2, steps, ...). Empty tensors stand for what there is not.
struct Arguments {
  Form form;
  const Tensor &x, &W_x, &W_h;
  const Tensors &parameters, &statistics;
  const Tensor& mask;
  bool given;
  double eps;

  bool one_hot() const { return x.scalar_type() == at::kLong; }
  int64_t states() const { return x.size(0) * x.size(1) * W_h.size(0) + SKEW; }
  int64_t part() const { return x.size(0) * x.size(1) * W_h.size(1) + SKEW; }
  int64_t terms() const { return form.one_sum() || one_hot() ? 1 : 2; }  // of one-hot inputs W_x has one
  // A sum without a norm becomes its gates; tanh's gate is its state.
  int64_t gates() const { return form.cell == CellName::tanh || (form.one_sum() && form.norm == Norm::none) ? 0 : 1; }
  int64_t workspace() const { return part() * (terms() + gates()) + states() * (form.carries_normalized ? 2 : 1); }
};

void check(const Tensor& tensor, at::IntArrayRef shape, at::ScalarType type, const char* name) {
  TORCH_CHECK(tensor.sizes() == shape && tensor.scalar_type() == type && tensor.is_contiguous() && tensor.is_cpu(), name,
              ": expected contiguous ", type, " of shape ", shape, ", got ", tensor.scalar_type(), " ", tensor.sizes());
}

// Which gains and statistics there are, and their sizes, is the business of models/kernels/__init__.py.
void check(const Arguments& a) {
  TORCH_CHECK(a.x.dim() == (a.one_hot() ? 2 : 3), "x: expected (steps, batch, inputs), or integers (steps, batch)");
  const int64_t steps = a.x.size(0), batch = a.x.size(1), inputs = a.W_x.size(0), size = a.W_h.size(0);
  const int64_t width = size * (a.form.cell == CellName::tanh ? 1 : a.form.cell == CellName::gru ? 3 : 4);
  const auto type = a.W_h.scalar_type();
  TORCH_CHECK(steps > 0 && batch > 0 && size > 0, "empty sequences have no states");
  check(a.W_x, {inputs, width}, type, "W_x");
  check(a.W_h, {size, width}, type, "W_h");
  if (a.mask.numel()) check(a.mask, {steps, batch}, at::kBool, "mask");
  TORCH_CHECK(a.parameters.size() == 6 && a.statistics.size() == 3, "expected 6 parameters and 3 statistics");
  for (int i = 0; i < 6; ++i)
    if (a.parameters[i].numel()) check(a.parameters[i], {i < 4 ? width : size}, type, "gain or shift");
  if (!a.one_hot()) return check(a.x, {steps, batch, inputs}, type, "x");
  check(a.x, {steps, batch}, at::kLong, "x");
  const int64_t* symbols = a.x.data_ptr<int64_t>();
  for (int64_t i = 0; i < a.x.numel(); ++i)
    TORCH_CHECK_INDEX(symbols[i] >= 0 && symbols[i] < inputs, "x: symbol ", symbols[i], " outside of [0, ", inputs, ")");
}

// From cell, norm of the sums, norm of c, and whether norm(c) is carried, and mean and standard deviation are constants.
Form form_of(at::IntArrayRef form) {
  TORCH_CHECK(form.size() == 6, "expected the 6 numbers of a form");
  return {CellName(form[0]), Norm(form[1]), Norm(form[2]), form[3] != 0, form[4] != 0, form[5] != 0};
}

template <typename T>
Sequence<T> sequence_of(const Arguments& a, const Tensor& h, const Tensor& c, const Tensor& workspace) {
  Sequence<T> s{a.form};
  s.steps = a.x.size(0), s.batch = a.x.size(1), s.inputs = a.W_x.size(0), s.size = a.W_h.size(0);
  s.threads = at::get_num_threads(), s.eps = a.eps, s.given = a.given;
  if (!a.form.detached()) s.overflowing = moments_of<T>;  // the reference has those by plain arithmetic
  a.one_hot() ? void(s.symbols = a.x.data_ptr<int64_t>()) : void(s.x = a.x.data_ptr<T>());
  s.mask = data<bool>(a.mask), s.W_x = a.W_x.data_ptr<T>(), s.W_h = a.W_h.data_ptr<T>();
  for (int k = 0; k < 3; ++k) {
    T* const mean = data<T>(a.statistics[k]);
    const T* const gain = data<T>(a.parameters[2 * k]);
    s.norms[k] = {gain, data<T>(a.parameters[2 * k + 1]), mean, at(mean, a.statistics[k].numel() / 2)};
  }
  s.h = h.data_ptr<T>(), s.c = data<T>(c);
  s.from_x = workspace.data_ptr<T>();
  s.from_h = s.from_x + (a.terms() - 1) * a.part();
  s.gates = s.from_h + a.gates() * a.part();
  s.squashed = s.gates + a.part();
  if (a.form.carries_normalized) s.raw_c = s.squashed + a.states();
  return s;
}

// Both passes walk through the workspace once: with pages of 4 KB they would wait for the look-up of each.
Tensor in_large_pages(Tensor memory) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t page = 2 << 20;
  const auto start = reinterpret_cast<uintptr_t>(memory.data_ptr()), end = start + memory.nbytes();
  const uintptr_t first = (start + page - 1) / page * page, last = end / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);  // a wish, no more
#endif
  return memory;
}

}  // namespace

// h and c (steps + 1, batch, size), the initial state first, and what the backward pass needs besides.
std::tuple<Tensor, Tensor, Tensor> recurrence(at::IntArrayRef form, const Tensor& x, const Tensor& W_x,
                                              const Tensor& W_h, Tensors parameters, Tensors statistics,
                                              const Tensor& mask, bool given, double eps, const Tensor& h_0,
                                              const Tensor& c_0) {
  const Arguments a{form_of(form), x, W_x, W_h, parameters, statistics, mask, given, eps};
  check(a);
  Tensor h = at::empty({x.size(0) + 1, x.size(1), W_h.size(0)}, W_h.options()), c = at::empty({0}, W_h.options());
  check(h_0, h[0].sizes(), W_h.scalar_type(), "h_0");
  h[0].copy_(h_0);
  if (a.form.cell == CellName::lstm) {
    check(c_0, h[0].sizes(), W_h.scalar_type(), "c_0");
    c = at::empty_like(h);
    c[0].copy_(c_0);
  }
  Tensor workspace = in_large_pages(at::empty({a.workspace()}, W_h.options()));
  AT_DISPATCH_FLOATING_TYPES(W_h.scalar_type(), "recurrence", [&] {
    TORCH_CHECK(run<scalar_t>(sequence_of<scalar_t>(a, h, c, workspace)), "no kernel for this form");
  });
  return {h, c, workspace};
}

// Gradients of x (empty unless asked for), W_x, W_h, the six parameters, h_0 and c_0.
Tensors recurrence_backward(at::IntArrayRef form, const Tensor& x, const Tensor& W_x, const Tensor& W_h,
                            Tensors parameters, Tensors statistics, const Tensor& mask, bool given, double eps,
                            const Tensor& h, const Tensor& c, const Tensor& workspace, const Tensor& d_outputs,
                            const Tensor& d_c, bool for_x) {
  const Arguments a{form_of(form), x, W_x, W_h, parameters, statistics, mask, given, eps};
  const auto zeros = [&](at::IntArrayRef shape) { return at::zeros(shape, W_h.options()); };
  check(d_outputs, h.slice(0, 1).sizes(), W_h.scalar_type(), "the gradient of h");
  Tensors out{at::empty(for_x ? x.sizes() : at::IntArrayRef{0}, W_h.options()), zeros(W_x.sizes()), zeros(W_h.sizes())};
  for (int i = 0; i < 6; ++i) out.push_back(zeros({i < 4 ? W_h.size(1) : W_h.size(0)}));
  out.push_back(zeros(h[0].sizes()));
  out.push_back(d_c.clone());
  AT_DISPATCH_FLOATING_TYPES(W_h.scalar_type(), "recurrence", [&] {
    const auto to = [&](int i) { return data<scalar_t>(out[i]); };
    const Gradients<scalar_t> d{d_outputs.data_ptr<scalar_t>(), to(9), to(10), to(0), to(1), to(2),
                                {to(3), to(4), to(5), to(6), to(7), to(8)}};
    run<scalar_t>(sequence_of<scalar_t>(a, h, c, workspace), &d);
  });
  return out;
}

// Running averages (kept, features) and updates (kept) moved in place. statistics (2, steps, width): the norm's are the
// columns from `start` on; counts (steps).
void update_averages(const Tensor& statistics, int64_t start, const Tensor& counts, Tensor mean, Tensor variance,
                     Tensor updates, double eps, double momentum) {
  const int64_t steps = statistics.size(1), width = statistics.size(2), kept = mean.size(0), features = mean.size(1);
  const auto type = statistics.scalar_type();
  check(statistics, {2, steps, width}, type, "statistics");
  check(counts, {steps}, at::kLong, "counts");
  check(mean, {kept, features}, type, "running_mean");
  check(variance, {kept, features}, type, "running_variance");
  check(updates, {kept}, type, "updates");
  TORCH_CHECK(start >= 0 && start + features <= width, "columns ", start, " to ", start + features, " of ", width);
  AT_DISPATCH_FLOATING_TYPES(type, "update_averages", [&] {
    const Averages<scalar_t> averages{mean.data_ptr<scalar_t>(), variance.data_ptr<scalar_t>(),
                                      updates.data_ptr<scalar_t>(), kept, features, scalar_t(eps), scalar_t(momentum)};
    const scalar_t* from = statistics.data_ptr<scalar_t>() + start;
    averages.update(from, from + steps * width, width, counts.data_ptr<int64_t>(), steps);
  });
}

TORCH_LIBRARY(layernorm, library) {
  library.def("recurrence", recurrence);
  library.def("recurrence_backward", recurrence_backward);
  library.def(
      "update_averages(Tensor statistics, int start, Tensor counts, Tensor(a!) mean, Tensor(b!) variance, "
      "Tensor(c!) updates, float eps, float momentum) -> ()",
      update_averages);
}

}  // namespace layernorm
