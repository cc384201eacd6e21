// Training updates of an MLP, many in one call: models/mlp.py, its loss and the optimiser, without autograd between them.
// DERIVATION.md, section 5.
#include <ATen/ATen.h>
#include <torch/library.h>

#include "averages.h"
#include "norms.h"
#include "tensors.h"
#include "training.h"

namespace layernorm {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

// Of so few cases a weight's gradient is made as it is needed, on the way through the weights that the optimiser goes
// anyway; of more, a product makes all gradients first.
constexpr int64_t FEW_CASES = 12;
constexpr int64_t COLUMNS = 256;  // of a row of such a gradient at a time: they stay in the first cache

// One layer: out = norm(W in), and relu of it but for the last.
template <typename T>
struct Layer {
  int64_t inputs, units;
  Norm norm;
  Tensor W;
  Parameter<T> weights, gain, shift;
  Averages<T> averages;            // of batch norm
  Tensor raw, out, d;              // (B, units): W in, what leaves the layer, the gradient of first that, then of raw
  Tensor mean, inverse, d_scale, gradient;  // statistics; gradients of gain and shift (2, units), of W

  Term<T> term() const {
    return {raw.data_ptr<T>(), units,        nullptr, 1, units, gain.value, shift.value, data<T>(mean),
            data<T>(inverse),  d_scale.data_ptr<T>(), d_scale.data_ptr<T>() + units};
  }

  template <Norm NORM>
  void forward_as(const Cases& cases, T eps, bool last) const {
    const Term<T> t = term();
    const Block all{0, cases.count, 0, units};
    statistics<T, NORM>(t, all, cases, eps, moments_of<T>);
    for (int64_t b = 0; b < cases.count; ++b) {
      const Row<T, NORM> row(t, b);
      T* to = out.data_ptr<T>() + b * units;
      if (last)
        vectorised(0, units, [=](int64_t j) { to[j] = row(j); });
      else
        vectorised(0, units, [=](int64_t j) {
          const T a = row(j);
          to[j] = a < 0 ? T(0) : a;  // NaN stays NaN
        });
    }
  }

  void forward(const Tensor& in, const Cases& cases, T eps, bool last) {
    at::mm_out(raw, in, W.t());
    if (norm == Norm::none) forward_as<Norm::none>(cases, eps, last);
    if (norm == Norm::layer) forward_as<Norm::layer>(cases, eps, last);
    if (norm == Norm::batch) forward_as<Norm::batch>(cases, eps, last);
    if (norm == Norm::batch) averages.update(data<T>(mean), data<T>(inverse), units, &cases.count, 1);
  }

  // From the gradient of what leaves the layer to that of W in, and to those of gain and shift.
  void backward(const Cases& cases, bool last, T* sums) {
    T *const slopes = d.data_ptr<T>(), *const left = out.data_ptr<T>();
    if (!last) vectorised(0, d.numel(), [=](int64_t j) { slopes[j] = left[j] > 0 ? slopes[j] : T(0); });
    d_scale.zero_();
    const Term<T> t = term();
    const Block all{0, cases.count, 0, units};
    if (norm == Norm::none) layernorm::backward<T, Norm::none>(t, slopes, slopes, units, all, cases, sums);
    if (norm == Norm::layer) layernorm::backward<T, Norm::layer>(t, slopes, slopes, units, all, cases, sums);
    if (norm == Norm::batch) layernorm::backward<T, Norm::batch>(t, slopes, slopes, units, all, cases, sums);
  }

  // As `descend`, once the gradients of all layers are there.
  void descend_clipped(Descent<T>& descent, const Tensor& in) {
    if (gain.value) descent.move(gain, d_scale, 0, units);
    descent.move(shift, d_scale, units, units);
    descent.move(weights, at::mm_out(gradient, d.t(), in), 0, gradient.numel());
  }

  void descend(const Rule<T>& rule, const Tensor& in, int threads) {
    const T* slopes = d_scale.data_ptr<T>();
    if (gain.value) gain.move(rule, 0, units, [=](int64_t j) { return slopes[j]; });
    shift.move(rule, 0, units, [=](int64_t j) { return slopes[units + j]; });
    const int64_t cases = d.size(0), width = inputs;
    const T *const x = in.data_ptr<T>(), *const dy = d.data_ptr<T>();
    if (cases > FEW_CASES) at::mm_out(gradient, d.t(), in);
    const T* const made = data<T>(gradient);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < units; ++i) {
      if (cases > FEW_CASES) {
        weights.move(rule, i * width, width, [=](int64_t j) { return made[i * width + j]; });
        continue;
      }
      T some[COLUMNS];
      for (int64_t left = 0; left < width; left += COLUMNS) {
        const int64_t n = std::min(COLUMNS, width - left);
        std::fill_n(some, n, T(0));
        for (int64_t b = 0; b < cases; ++b)
          vectorised(0, n, [&some, slope = dy[b * units + i], from = x + b * width + left](int64_t j) {
            some[j] += slope * from[j];
          });
        weights.move(rule, i * width + left, n, [&some](int64_t j) { return some[j]; });
      }
    }
  }
};

// The parameters of each layer (W, gain or nothing, shift), what the optimiser keeps of each, and the running averages of
// batch norm (mean, variance, updates, or nothing); all are changed in place.
struct Arguments {
  const Tensors &parameters, &first, &second, &averages;
  at::IntArrayRef norms;
  double eps, average_momentum;
  bool unbiased;
};

template <typename T>
std::vector<Layer<T>> layers_of(const Arguments& a, int64_t cases, bool clips) {
  std::vector<Layer<T>> layers;
  for (size_t k = 0; k < a.norms.size(); ++k) {
    const auto parameter = [&](size_t i) {
      return Parameter<T>{data<T>(a.parameters[3 * k + i]), data<T>(a.first[3 * k + i]), data<T>(a.second[3 * k + i])};
    };
    const Tensor W = a.parameters[3 * k];
    const int64_t inputs = W.size(1), units = W.size(0);
    const auto room = [&](at::IntArrayRef shape) { return at::empty(shape, W.options()); };
    const Norm norm = Norm(a.norms[k]);
    Layer<T> layer{inputs, units, norm, W, parameter(0), parameter(1), parameter(2)};
    if (norm == Norm::batch) {
      const Tensor *of = &a.averages[3 * k];
      layer.averages = {of[0].data_ptr<T>(), of[1].data_ptr<T>(), of[2].data_ptr<T>(), 1, units, T(a.eps),
                        T(a.average_momentum), a.unbiased};
    }
    layer.raw = room({cases, units}), layer.out = room({cases, units}), layer.d = room({cases, units});
    const int64_t kinds = norm == Norm::none ? 0 : norm == Norm::layer ? cases : units;
    layer.mean = room({kinds}), layer.inverse = room({kinds}), layer.d_scale = room({2, units});
    layer.gradient = room({clips || cases > FEW_CASES ? units : 0, inputs});
    layers.push_back(layer);
  }
  return layers;
}

template <typename T>
T update(std::vector<Layer<T>>& layers, const Tensor& x, const int64_t* targets, Descent<T> descent, T eps, bool unbiased,
         T* sums) {
  const Cases cases{nullptr, x.size(0), false, false, false, unbiased};
  const size_t last = layers.size() - 1;
  const auto input = [&](size_t k) -> const Tensor& { return k ? layers[k - 1].out : x; };
  for (size_t k = 0; k <= last; ++k) layers[k].forward(input(k), cases, eps, k == last);
  const Layer<T>& top = layers[last];
  const T share = T(1) / cases.count, loss = cross_entropy(data<T>(top.out), targets, cases.count, top.units, share,
                                                           data<T>(top.d)) * share;
  for (size_t k = last + 1; k-- > 0;) {
    layers[k].backward(cases, k == last, sums);
    if (k) at::mm_out(layers[k - 1].d, layers[k].d, layers[k].W);  // before W moves
    if (descent.clips())
      layers[k].descend_clipped(descent, input(k));
    else
      layers[k].descend(descent.rule, input(k), descent.threads);
  }
  descent.finish();
  return loss;
}

// One update for each of x (updates, B, inputs), y (updates, B) and rates; `before`: updates done before. The losses are
// added to loss_sum one by one, so that it does not matter how many updates a call makes.
void mlp_updates(const Tensor& x, const Tensor& y, Tensors parameters, Tensors first, Tensors second, bool adam,
                 at::ArrayRef<double> rates, double momentum, double squares, double optimizer_eps,
                 double clip_norm, int64_t before, Tensor loss_sum, Tensors averages, at::IntArrayRef norms, double eps,
                 double average_momentum, bool unbiased, int64_t threads) {
  const at::NoGradGuard no_grad;
  const int64_t updates = x.size(0), cases = x.size(1), classes = parameters[3 * norms.size() - 3].size(0);
  TORCH_CHECK(x.dim() == 3 && x.is_contiguous() && y.sizes() == x.sizes().slice(0, 2) &&
                  int64_t(rates.size()) == updates,
              "x (updates, cases, inputs), y (updates, cases), rates (updates): got ", x.sizes(), ", ", y.sizes());
  const int64_t* targets = targets_of(y, classes);
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "mlp_updates", [&] {
    std::vector<Layer<scalar_t>> layers = layers_of<scalar_t>({parameters, first, second, averages, norms, eps,
                                                               average_momentum, unbiased}, cases, clip_norm > 0);
    int64_t widest = 0;
    for (const auto& layer : layers) widest = std::max(widest, layer.units);
    std::vector<scalar_t> sums(2 * widest);
    scalar_t* const total = loss_sum.data_ptr<scalar_t>();
    for (int64_t k = 0; k < updates; ++k) {
      const Rule<scalar_t> rule(adam, rates[k], momentum, squares, optimizer_eps, before + k + 1);
      *total += update<scalar_t>(layers, x[k], targets + k * cases, {rule, clip_norm, threads}, scalar_t(eps),
                                 unbiased, sums.data());
    }
  });
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(layernorm, library) {
  library.def(
      "mlp_updates(Tensor x, Tensor y, Tensor[] parameters, Tensor[] first, Tensor[] second, bool adam, float[] rates, "
      "float momentum, float squares, float optimizer_eps, float clip_norm, int before, Tensor(a!) loss_sum, "
      "Tensor[] averages, int[] norms, float eps, float average_momentum, bool unbiased, int threads) -> ()",
      mlp_updates);
}

}  // namespace layernorm
