#include "sequence.h"

template void layernorm::forward<double>(CellName, Norm, const Sequence<double>&);
template void layernorm::backward<double>(CellName, Norm, const Sequence<double>&, const Gradients<double>&);
