"""Choose between the forms of a kernel: the one for the platform, or the reference everywhere."""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, ParamSpec, TypeVar

import jax
from jax import lax

from segjax.config import lookup

P = ParamSpec("P")
R = TypeVar("R")

FORMS = ("tuned", "reference")

_form = jax.make_user_context("tuned")  # part of jit's cache key: forms never share a program


def use(form: str) -> AbstractContextManager[None]:
    """Return a context in which kernels are traced as 'tuned' (the default) or as 'reference'.

    A program traced under `use("reference")` consists of plain operations, which autodiff
    differentiates: no gradients of our own, no choice between platforms, no barriers. It computes
    the same up to rounding, on a CPU many times slower.

    Raises:
        ConfigError: `form` is neither.
    """
    return _form(lookup.choose(form, FORMS, what="kernels.use"))


class Kernel(Generic[P, R]):
    """A function with several forms that compute the same; decorates the reference.

    Other forms are added by `on_cpu` and `everywhere`. Which platform a program is compiled for
    decides between them, not which one traces it. Arrays are positional, all else is named.

    Attributes:
        reference: A few lines of lax; its gradient is autodiff's.
        cpu: The form for CPUs.
        accelerator: The form for GPUs and TPUs.
    """

    def __init__(self, reference: Callable[P, R]):
        self.reference = self.cpu = self.accelerator = reference
        functools.update_wrapper(self, reference)

    def on_cpu(self, form: Callable[P, R]) -> Callable[P, R]:
        """Take `form` on CPUs, and return it; a decorator."""
        self.cpu = form
        return form

    def everywhere(self, form: Callable[P, R]) -> Callable[P, R]:
        """Take `form` on every platform, and return it; a decorator."""
        self.cpu = self.accelerator = form
        return form

    def __call__(self, *arrays: P.args, **static: P.kwargs) -> R:
        """Return what the form in use computes."""
        if _form.value == "reference":
            return self.reference(*arrays, **static)
        if self.cpu is self.accelerator:
            return self.cpu(*arrays, **static)
        cpu = functools.partial(self.cpu, **static)
        accelerator = functools.partial(self.accelerator, **static)
        return lax.platform_dependent(*arrays, cpu=cpu, default=accelerator)


def with_gradient(
    forward: Callable[P, tuple[R, Any]],
    backward: Callable[..., tuple[Any, ...]],
    *,
    primal: Callable[P, R] | None = None,
    symbolic_zeros: bool = False,
) -> Callable[P, R]:
    """Return a function whose gradient is written by hand.

    Args:
        forward: Takes arrays as positional arguments, and static ones by name; returns the result,
            and what the gradient needs.
        backward: Takes that and the result's gradient, and the static arguments by name; returns
            the gradient by each array.
        primal: Returns the result alone, where no gradient is asked for; `forward` unless given.
        symbolic_zeros: Tell both what nobody asks for, see `jax.custom_vjp.defvjp`.
    """

    def result(*arrays: P.args, **static: P.kwargs) -> R:
        return forward(*arrays, **static)[0]

    @functools.wraps(forward)
    def form(*arrays: P.args, **static: P.kwargs) -> R:
        call = jax.custom_vjp(functools.partial(primal or result, **static))
        call.defvjp(
            functools.partial(forward, **static),
            functools.partial(backward, **static),
            symbolic_zeros=symbolic_zeros,
        )
        return call(*arrays)

    return form
