"""What goes wrong with models and layers."""


class ModelError(ValueError):
    """A model or layer that cannot be built, or given its data, as asked; one line with the remedy."""


class KernelError(RuntimeError):
    """A layer that has no native kernel, where one was demanded; one line with the reason."""
