#include "sequence.h"

template void layernorm::forward<float>(CellName, Norm, const Sequence<float>&);
template void layernorm::backward<float>(CellName, Norm, const Sequence<float>&, const Gradients<float>&);
