"""Help texts of options, which are the docstrings of methods."""

from __future__ import annotations

from twisted.python import usage

__all__ = ["unfold_help"]


def unfold_help(options: type[usage.Options], **names: str) -> None:
    """Put each option's help on one line, as usage.Options shows all its blanks.

    :param names: what stands in braces in the texts.
    """
    for place in options.__mro__:
        if place is usage.Options:
            return
        for name, method in vars(place).items():
            if name.startswith("opt_") and method.__doc__:
                text = " ".join(method.__doc__.split())
                method.__doc__ = text.format(**names) if place is options else text
