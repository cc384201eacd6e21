#include "sequence.h"

template void layernorm::run<double>(CellName, Norm, const Sequence<double>&, const Gradients<double>*);
