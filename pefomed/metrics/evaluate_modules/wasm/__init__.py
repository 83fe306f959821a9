from pefomed.metrics.evaluate_modules.wasm.wasm import Wasm

__all__ = ["Wasm"]
