#include "sequence.h"

template void layernorm::run<float>(CellName, Norm, const Sequence<float>&, const Gradients<float>*);
