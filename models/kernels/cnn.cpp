// Training updates of a convolutional net, many in one call, and its norms by themselves: models/cnn.py, its loss and
// the optimiser, without autograd between them. The convolutions are PyTorch's. DERIVATION.md, section 7.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "averages.h"
#include "maps.h"
#include "tensors.h"
#include "torus.h"
#include "training.h"

namespace layernorm {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

// How a norm treats maps: see Maps.
struct Layout {
  Centre centre;
  int64_t sets, groups;
};

template <typename T>
struct Normed {
  Layout layout;
  T eps;
  const T *gain, *shift;
  Averages<T> averages;  // of batch norm in training
  Tensor statistics;     // (2, sets, groups)

  Maps<T> maps(const Tensor& a) const {
    const int64_t channels = a.size(1);
    T* const found = layout.centre == Centre::none ? nullptr : data<T>(statistics);
    return {layout.sets, a.numel() / channels / layout.sets, channels, layout.groups, layout.centre, eps, gain, shift,
            found, found ? found + layout.sets * layout.groups : nullptr};
  }

  // relu(norm(a)), which may be a's own memory.
  void forward(const Tensor& a, const Tensor& y) const {
    const Maps<T> m = maps(a);
    for_sets(m, [in = a.data_ptr<T>(), out = y.data_ptr<T>()](Worker<T>& worker, int64_t s) {
      worker.forward(s, in, out);
    });
    const std::vector<int64_t> counts(m.sets, m.rows);
    if (averages.mean) averages.update(m.mean, m.inverse, m.channels, counts.data(), m.sets);
  }

  // From the gradient of y = relu(norm(a)) that of a, in its place; returns those of gain and shift, (2, channels).
  Tensor backward(const Tensor& a, const Tensor& y, const Tensor& d) const {
    const Maps<T> m = maps(a);
    const Tensor found = at::empty({2, m.sets, m.channels}, a.options());
    T *const dgain = found.data_ptr<T>(), *const dshift = dgain + m.sets * m.channels;
    const T *const in = a.data_ptr<T>(), *const out = y.data_ptr<T>();
    for_sets(m, [=, channels = m.channels, slopes = d.data_ptr<T>()](Worker<T>& worker, int64_t s) {
      worker.backward(s, in, out, slopes, dgain + s * channels, dshift + s * channels);
    });
    return m.sets == 1 ? found : found.sum(1);
  }
};

// As maps.h wants it, whatever the library that convolved has made of it.
Tensor side_by_side(const Tensor& a) { return a.dim() == 4 ? a.contiguous(at::MemoryFormat::ChannelsLast) : a; }

// relu(norm(in * W)), * a convolution or, of fully connected units, a product.
template <typename T>
struct Layer {
  Tensor W;
  Parameter<T> weights, gain, shift;
  int64_t stride;  // 0: fully connected
  bool circular;
  Normed<T> norm;
  Tensor in, raw, out;

  int64_t padding() const { return circular ? 0 : 1; }

  const Tensor& forward(const Tensor& x) {
    in = stride && circular ? wrapped<T>(x) : x;
    raw = !stride ? at::mm(in, W.t())
                  : side_by_side(at::convolution(in, W, {}, {stride, stride}, {padding(), padding()}, {1, 1}, false,
                                                 {0, 0}, 1));
    out = norm.layout.centre == Centre::none ? raw : at::empty_like(raw);
    norm.forward(raw, out);
    return out;
  }

  // Move by the gradient d of `out`, which is overwritten; returns that of x, unless this is the first layer.
  Tensor backward(const Tensor& d, Descent<T>& descent, bool first) {
    const Tensor of_norm = norm.backward(raw, out, d);
    Tensor dx, dW;
    if (stride) {
      std::tie(dx, dW, std::ignore) =
          at::convolution_backward(d, in, W, {}, {stride, stride}, {padding(), padding()}, {1, 1}, false, {0, 0}, 1,
                                   {!first, true, false});
      if (!first) dx = circular ? folded<T>(side_by_side(dx)) : side_by_side(dx);
      if (dW.strides() != W.strides()) dW = at::empty_like(W).copy_(dW);
    } else {
      dx = at::mm(d, W), dW = at::mm(d.t(), in);
    }
    descent.move(weights, dW, 0, dW.numel());
    if (gain.value) descent.move(gain, of_norm[0], 0, raw.size(1));
    if (shift.value) descent.move(shift, of_norm[1], 0, raw.size(1));
    return dx;
  }
};

// The convolutions, perhaps a fully connected layer, and the units of the logits with their bias.
template <typename T>
struct Net {
  std::vector<Layer<T>> layers;
  Tensor W, bias;
  Parameter<T> weights, biases;
  bool pooled;

  T update(const Tensor& x, const int64_t* targets, Descent<T> descent) {
    Tensor h = x, maps;
    for (Layer<T>& layer : layers) {
      if (!layer.stride) maps = h, h = flat(h);
      h = layer.forward(h);
    }
    if (h.dim() == 4) maps = h, h = flat(h);
    Tensor d = at::addmm(bias, h, W.t());
    const T share = T(1) / d.size(0);
    const T loss = cross_entropy(d.data_ptr<T>(), targets, d.size(0), d.size(1), share, d.data_ptr<T>()) * share;
    Tensor dx = at::mm(d, W);
    descent.move(weights, at::mm(d.t(), h), 0, W.numel());
    descent.move(biases, d.sum(0), 0, bias.numel());
    for (size_t k = layers.size(); k-- > 0;) {
      if (layers[k].stride && dx.dim() == 2) dx = as_maps(dx, maps);
      dx = layers[k].backward(dx, descent, k == 0);
    }
    descent.finish();
    return loss;
  }

  // What reads the last maps sees their means, or all their units in the order (C, H, W).
  Tensor flat(const Tensor& maps) const { return pooled ? maps.mean({2, 3}) : maps.contiguous().flatten(1); }

  Tensor as_maps(const Tensor& d, const Tensor& maps) const {
    if (!pooled) return side_by_side(d.view(maps.sizes()));
    const Tensor out = at::empty_like(maps);
    return out.copy_((d / (maps.size(2) * maps.size(3))).view({maps.size(0), maps.size(1), 1, 1}).expand_as(maps));
  }
};

template <typename T>
Averages<T> averages_of(const Tensor* of, double eps, double momentum) {  // mean, variance, updates
  return {data<T>(of[0]), data<T>(of[1]), data<T>(of[2]), 1, of[0].numel(), T(eps), T(momentum)};
}

// The weights, gain and shift of each layer, then the weights and the bias of the logits; what the optimiser keeps of
// each; the running averages (mean, variance, updates) of each layer. Empty tensors stand for what there is not.
struct Arguments {
  const Tensors &parameters, &first, &second, &averages;
  at::IntArrayRef layouts, strides;  // three numbers of each layer, one of each
  double eps, average_momentum;
  bool circular, pooled;
};

template <typename T>
Net<T> net_of(const Arguments& a) {
  const auto parameter = [&](size_t i) {
    for (const Tensor& of : {a.first[i], a.second[i]})  // goes with the weights in the order of memory
      TORCH_CHECK(!of.numel() || of.is_contiguous(a.parameters[i].suggest_memory_format()), "the optimiser's memory of ",
                  "weights ", a.parameters[i].sizes(), " has another order, with strides ", of.strides());
    return Parameter<T>{data<T>(a.parameters[i]), data<T>(a.first[i]), data<T>(a.second[i])};
  };
  Net<T> net;
  for (size_t k = 0; k < a.strides.size(); ++k) {
    const Tensor& W = a.parameters[3 * k];
    const Layout layout{Centre(a.layouts[3 * k]), a.layouts[3 * k + 1], a.layouts[3 * k + 2]};
    const int64_t found = layout.centre == Centre::none ? 0 : layout.sets * layout.groups;
    net.layers.push_back({W, parameter(3 * k), parameter(3 * k + 1), parameter(3 * k + 2), a.strides[k], a.circular,
                          {layout, T(a.eps), data<T>(a.parameters[3 * k + 1]), data<T>(a.parameters[3 * k + 2]),
                           averages_of<T>(&a.averages[3 * k], a.eps, a.average_momentum),
                           at::empty({2, found}, W.options())}, {}, {}, {}});
  }
  const size_t last = 3 * a.strides.size();
  net.W = a.parameters[last], net.bias = a.parameters[last + 1], net.pooled = a.pooled;
  net.weights = parameter(last), net.biases = parameter(last + 1);
  return net;
}

// One update for each of x (updates, B, C, H, W), y (updates, B) and rates; `before`: updates done before. The losses
// are added to loss_sum one by one, so that it does not matter how many updates a call makes.
void cnn_updates(const Tensor& x, const Tensor& y, Tensors parameters, Tensors first, Tensors second, bool adam,
                 at::ArrayRef<double> rates, double momentum, double squares, double optimizer_eps,
                 double clip_norm, int64_t before, Tensor loss_sum, Tensors averages, at::IntArrayRef layouts,
                 at::IntArrayRef strides, double eps, double average_momentum, bool circular, bool pooled) {
  const at::AutoDispatchBelowAutograd no_gradients;
  TORCH_CHECK(x.dim() == 5 && y.sizes() == x.sizes().slice(0, 2) && int64_t(rates.size()) == x.size(0),
              "x (updates, cases, C, H, W), y (updates, cases), rates (updates): got ", x.sizes(), ", ", y.sizes());
  const int64_t* targets = targets_of(y, parameters.back().numel());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "cnn_updates", [&] {
    Net<scalar_t> net = net_of<scalar_t>({parameters, first, second, averages, layouts, strides, eps, average_momentum,
                                          circular, pooled});
    for (int64_t k = 0; k < x.size(0); ++k) {
      const Rule<scalar_t> rule(adam, rates[k], momentum, squares, optimizer_eps, before + k + 1);
      *loss_sum.data_ptr<scalar_t>() += net.update(side_by_side(x[k]), targets + k * y.size(1), {rule, clip_norm, 1});
    }
  });
}

// relu(norm(a)) alone. scales: gain and shift; averages as above; statistics (2, sets, groups): given, or room for
// them.
Tensor relu_of_norm(const Tensor& a, Tensors scales, Tensors averages, Tensor statistics, int64_t centre, double eps,
                    double average_momentum) {
  for (const Tensor& of_channels : {scales[0], scales[1], averages[0], averages[1]})
    TORCH_CHECK(of_channels.numel() == 0 || (of_channels.numel() == a.size(1) && of_channels.is_contiguous()),
                "gain, shift or averages: expected ", a.size(1), " numbers, got ", of_channels.sizes());
  const Tensor y = at::empty_like(a);
  AT_DISPATCH_FLOATING_TYPES(a.scalar_type(), "relu_of_norm", [&] {
    const Normed<scalar_t> norm{{Centre(centre), statistics.size(1), statistics.size(2)},
                                scalar_t(eps),
                                data<scalar_t>(scales[0]),
                                data<scalar_t>(scales[1]),
                                averages_of<scalar_t>(averages.data(), eps, average_momentum),
                                statistics};
    norm.forward(a, y);
  });
  return y;
}

Tensor wrapped_maps(const Tensor& x) {
  return AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "wrapped", [&] { return wrapped<scalar_t>(x); });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(layernorm, library) {
  library.def(
      "cnn_updates(Tensor x, Tensor y, Tensor[] parameters, Tensor[] first, Tensor[] second, bool adam, float[] rates, "
      "float momentum, float squares, float optimizer_eps, float clip_norm, int before, Tensor(a!) loss_sum, "
      "Tensor[] averages, int[] layouts, int[] strides, float eps, float average_momentum, bool circular, "
      "bool pooled) -> ()",
      cnn_updates);
  library.def(
      "relu_of_norm(Tensor a, Tensor[] scales, Tensor(a!)[] averages, Tensor(b!) statistics, int centre, float eps, "
      "float average_momentum) -> Tensor",
      relu_of_norm);
  library.def("wrapped(Tensor x) -> Tensor", wrapped_maps);
}

}  // namespace layernorm
