#include "sequence.h"

template bool layernorm::run<double>(const Sequence<double>&, const Gradients<double>*);
