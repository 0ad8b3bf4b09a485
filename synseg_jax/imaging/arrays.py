"""jaxtyping's names of arrays in annotations; where it is not installed, names that say as much and check nothing."""

from typing import Any

try:
    from jaxtyping import Float, Float32, Integer, Shaped, UInt8, UInt16
except ImportError:

    class Shaped:
        """An array of a type and shape, as `Shaped[np.ndarray, 'x y']` writes it."""

        def __class_getitem__(cls, _) -> Any:
            return Any

    Float = Float32 = Integer = UInt8 = UInt16 = Shaped

__all__ = ['Float', 'Float32', 'Integer', 'Shaped', 'UInt8', 'UInt16']
