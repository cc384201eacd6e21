// The operators of recurrent layers, for those of whole models (binding.cpp).
#pragma once
#include <ATen/ATen.h>

namespace layernorm {

using at::Tensor;
using Tensors = std::vector<Tensor>;

std::tuple<Tensor, Tensor, Tensor> recurrence(at::IntArrayRef form, const Tensor& x, const Tensor& W_x,
                                              const Tensor& W_h, Tensors parameters, Tensors statistics,
                                              const Tensor& mask, bool given, double eps, const Tensor& h_0,
                                              const Tensor& c_0);

Tensors recurrence_backward(at::IntArrayRef form, const Tensor& x, const Tensor& W_x, const Tensor& W_h,
                            Tensors parameters, Tensors statistics, const Tensor& mask, bool given, double eps,
                            const Tensor& h, const Tensor& c, const Tensor& workspace, const Tensor& d_outputs,
                            const Tensor& d_c, bool for_x);

void update_averages(const Tensor& statistics, int64_t start, const Tensor& counts, Tensor mean, Tensor variance,
                     Tensor updates, double eps, double momentum);

}  // namespace layernorm
