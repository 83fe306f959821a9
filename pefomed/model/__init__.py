"""The network: configuration, modeling and processing in the Hugging Face way, presets, published checkpoints.

Importing this package registers the classes with AutoConfig, AutoModelForImageTextToText, AutoImageProcessor and
AutoProcessor, so that `from_pretrained` of a saved folder and `pipeline("image-text-to-text")` find them.
"""

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageTextToText, AutoProcessor

from pefomed.model.configuration import PefomedConfig
from pefomed.model.modeling import PefomedForConditionalGeneration, PefomedModel
from pefomed.model.processing import PefomedImageProcessorPil, PefomedProcessor

AutoConfig.register("pefomed", PefomedConfig)
AutoModel.register(PefomedConfig, PefomedModel)
AutoModelForImageTextToText.register(PefomedConfig, PefomedForConditionalGeneration)
AutoImageProcessor.register(PefomedConfig, image_processor_classes={"pil": PefomedImageProcessorPil})
AutoProcessor.register(PefomedConfig, PefomedProcessor)

__all__ = [
    "PefomedConfig",
    "PefomedForConditionalGeneration",
    "PefomedImageProcessorPil",
    "PefomedModel",
    "PefomedProcessor",
]
