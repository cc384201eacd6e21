#include "sequence.h"

template bool layernorm::run<float>(const Sequence<float>&, const Gradients<float>*);
