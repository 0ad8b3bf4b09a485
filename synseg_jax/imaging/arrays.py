"""jaxtyping's array annotations, or placeholders where jaxtyping is not installed."""

from typing import Any

try:
    from jaxtyping import Bool, Float, Float32, Integer, Shaped, UInt8, UInt16
except ImportError:

    class Shaped:
        """Placeholder for annotations such as `Shaped[np.ndarray, 'x y z']`."""

        def __class_getitem__(cls, _) -> Any:
            return Any

    Bool = Float = Float32 = Integer = UInt8 = UInt16 = Shaped

__all__ = ['Bool', 'Float', 'Float32', 'Integer', 'Shaped', 'UInt8', 'UInt16']
