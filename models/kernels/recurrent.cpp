// Training updates of a recurrent model, many in one call: models/language_model.py or models/sequence_classifier.py,
// its loss and the optimiser, without autograd between them. DERIVATION.md: updates of recurrent models.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include "output.h"
#include "recurrence.h"
#include "tensors.h"

namespace layernorm {
namespace {

constexpr int SLOTS = 8;  // of a layer: W_x, W_h, then gain and shift of the norms of W_x x, W_h h and c

// What a kernel takes as one array: a parameter of the model, several side by side, or nothing.
template <typename T>
struct Slot {
  Tensor whole;
  Tensors parts;
  std::vector<Parameter<T>> parameters;

  void add(const Tensor& value, const Tensor& first, const Tensor& second) {
    parts.push_back(value);
    parameters.push_back({data<T>(value), data<T>(first), data<T>(second)});
    whole = parts.size() == 1 ? value : at::cat(parts);
  }

  void join() {
    if (parts.size() > 1) at::cat_out(whole, parts);
  }

  void move(Descent<T>& descent, const Tensor& gradient) const {
    int64_t offset = 0;
    for (size_t k = 0; k < parts.size(); offset += parts[k++].numel())
      if (parameters[k].first)  // a shift that there is not stays zero
        descent.move(parameters[k], gradient, offset, parts[k].numel());
  }
};

// What all layers have in common.
struct Kind {
  at::IntArrayRef form;  // cell and norm
  double eps, average_momentum;
  Tensor mask, counts, d_c;  // no mask; the cases of each step; the gradient of c after the last step, which is zero
};

template <typename T>
struct RecurrentLayer {
  Slot<T> slots[SLOTS];
  Tensors statistics, averages;  // of each batch norm its running mean, variance and updates
  Tensor h_0, c_0;               // the state before the update
  Tensor x, h, c, workspace;     // of the last pass forward

  Tensors parameters() const {
    Tensors found;
    for (int k = 2; k < SLOTS; ++k) found.push_back(slots[k].whole);
    return found;
  }

  Tensor forward(const Kind& kind, const Tensor& in) {
    for (auto& slot : slots) slot.join();
    x = in;
    std::tie(h, c, workspace) = recurrence(kind.form, x, slots[0].whole, slots[1].whole, parameters(),
                                           statistics, kind.mask, false, kind.eps, h_0, c_0);
    size_t norm = 0;
    for (const Tensor& found : statistics)
      for (int64_t start = 0; norm < averages.size() && found.numel() && start < found.size(2); norm += 3) {
        update_averages(found, start, kind.counts, averages[norm], averages[norm + 1], averages[norm + 2], kind.eps,
                        kind.average_momentum);
        start += averages[norm].size(1);
      }
    return h.slice(0, 1);
  }

  // Moves the layer's parameters; the gradient of x, if anybody asks.
  Tensor backward(const Kind& kind, const Tensor& d_outputs, Descent<T>& descent, bool for_x) {
    const Tensors d = recurrence_backward(kind.form, x, slots[0].whole, slots[1].whole, parameters(),
                                          statistics, kind.mask, false, kind.eps, h, c, workspace, d_outputs, kind.d_c,
                                          for_x);
    for (int k = 0; k < SLOTS; ++k) slots[k].move(descent, d[k + 1]);
    return d[0];
  }
};

template <typename T>
struct Model {
  Slot<T> embedding, W, b;  // (symbols, size) or nothing; of the output layer
  std::vector<RecurrentLayer<T>> layers;
  bool every_step;  // the outputs of every step are judged, and the state is carried on; else those of the last step

  // The mean loss of the states h (steps + 1, B, size); d_outputs (steps, B, size) becomes its gradient. Moves W and b.
  T judge(const Tensor& h, const int64_t* targets, Descent<T>& descent, const Tensor& d_outputs) {
    const int64_t steps = every_step ? d_outputs.size(0) : 1, start = (d_outputs.size(0) - steps) * h[0].numel();
    const Tensor dW = at::zeros_like(W.whole), db = at::zeros_like(b.whole);
    const Output<T> output{steps * h.size(1), h.size(2), db.numel(), at::get_num_threads(),
                           h.data_ptr<T>() + start + h[0].numel(), data<T>(W.whole), data<T>(b.whole), targets,
                           d_outputs.data_ptr<T>() + start, data<T>(dW), data<T>(db)};
    const T loss = output.loss();
    W.move(descent, dW);
    b.move(descent, db);
    return loss;
  }

  T update(const Kind& kind, const Tensor& x, const int64_t* targets, Descent<T> descent, const Tensor& d_outputs) {
    const bool embedded = embedding.whole.numel() > 0;
    Tensor in = embedded ? at::embedding(embedding.whole, x) : x, d = d_outputs;
    for (auto& layer : layers) in = layer.forward(kind, in);
    const T loss = judge(layers.back().h, targets, descent, d_outputs);
    for (size_t k = layers.size(); k-- > 0;) d = layers[k].backward(kind, d, descent, k > 0 || embedded);
    if (embedded) embedding.move(descent, at::embedding_dense_backward(d, x, embedding.whole.size(0), -1, false));
    descent.finish();
    for (auto& layer : layers)
      if (every_step) layer.h_0 = layer.h[-1], layer.c_0 = layer.c.numel() ? layer.c[-1] : layer.c;
    return loss;
  }
};

}  // namespace

// One update for each of x (updates, steps, B, inputs), or (updates, steps, B) symbols, and of y (updates, steps, B) of
// a language model, or (updates, B). slots: where each parameter belongs: embedding, W, b, then SLOTS of each layer;
// statistics: three of each layer; state: h and c of each. Returns the state after the last update. As in mlp.cpp, it
// does not matter how many updates a call makes.
Tensors recurrent_updates(const Tensor& x, const Tensor& y, Tensors parameters, Tensors first, Tensors second,
                          bool adam, at::ArrayRef<double> rates, double momentum, double squares, double optimizer_eps,
                          double clip_norm, int64_t before, Tensor loss_sum, at::IntArrayRef slots, Tensors statistics,
                          Tensors averages, at::IntArrayRef form, double eps, double average_momentum, Tensors state) {
  const at::NoGradGuard no_grad;
  const int64_t updates = x.size(0), steps = x.size(1), batch = x.size(2);
  const bool every_step = y.dim() == 3;
  TORCH_CHECK(x.is_contiguous() && int64_t(rates.size()) == updates &&
                  (every_step ? y.sizes() == x.sizes() : y.sizes() == at::IntArrayRef{updates, batch}),
              "x (updates, steps, cases, ...), y of each step or case: got ", x.sizes(), ", ", y.sizes());
  AT_DISPATCH_FLOATING_TYPES(loss_sum.scalar_type(), "recurrent_updates", [&] {
    Model<scalar_t> model;
    model.every_step = every_step;
    model.layers.resize(statistics.size() / 3);
    const Tensor nothing = at::empty({0}, loss_sum.options());
    Slot<scalar_t>* const own[] = {&model.embedding, &model.W, &model.b};
    const auto slot = [&](int64_t k) -> Slot<scalar_t>& {
      return k < 3 ? *own[k] : model.layers.at((k - 3) / SLOTS).slots[(k - 3) % SLOTS];
    };
    for (size_t k = 0; k < 3 + SLOTS * model.layers.size(); ++k) slot(k).whole = nothing;
    for (size_t k = 0; k < parameters.size(); ++k) slot(slots[k]).add(parameters[k], first[k], second[k]);
    const size_t share = averages.size() / model.layers.size();
    for (size_t k = 0; k < model.layers.size(); ++k) {
      auto& layer = model.layers[k];
      layer.statistics.assign(statistics.begin() + 3 * k, statistics.begin() + 3 * (k + 1));
      layer.averages.assign(averages.begin() + share * k, averages.begin() + share * (k + 1));
      layer.h_0 = state[2 * k], layer.c_0 = state[2 * k + 1];
    }
    const Kind kind{form, eps, average_momentum, at::empty({0}, at::kBool), at::full({steps}, batch, at::kLong),
                    at::zeros_like(state[1])};
    const Tensor d_outputs = at::zeros({steps, batch, state[0].size(1)}, loss_sum.options());
    const int64_t* targets = targets_of(y, model.b.whole.numel());
    scalar_t* const total = loss_sum.data_ptr<scalar_t>();
    for (int64_t k = 0; k < updates; ++k) {
      const Rule<scalar_t> rule(adam, rates[k], momentum, squares, optimizer_eps, before + k + 1);
      *total += model.update(kind, x[k], targets + k * y.numel() / updates, {rule, clip_norm, at::get_num_threads()},
                             d_outputs);
    }
    for (size_t k = 0; k < model.layers.size(); ++k)
      state[2 * k] = model.layers[k].h_0.clone(), state[2 * k + 1] = model.layers[k].c_0.clone();
  });
  return state;
}

TORCH_LIBRARY_FRAGMENT(layernorm, library) {
  library.def(
      "recurrent_updates(Tensor x, Tensor y, Tensor[] parameters, Tensor[] first, Tensor[] second, bool adam, "
      "float[] rates, float momentum, float squares, float optimizer_eps, float clip_norm, int before, "
      "Tensor(a!) loss_sum, int[] slots, Tensor[] statistics, Tensor[] averages, int[] form, float eps, "
      "float average_momentum, Tensor[] state) -> Tensor[]",
      recurrent_updates);
}

}  // namespace layernorm
