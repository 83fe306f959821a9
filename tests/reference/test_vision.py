"""The larger record: pixels and every stage of the vision path, at 112 px and at other sizes."""

import numpy as np
import pytest
import torch

from pefomed.images import CropBox, open_image, random_resized_crop_flip
from pefomed.procedure import RELEASED_CODE
from pefomed.training.collator import PixelStore

VISION, INTERPOLATED, TRANSFORMED = "vision.safetensors", "vision_interp.safetensors", "train_transform.safetensors"
OWNED = {VISION: ("",), INTERPOLATED: ("",), TRANSFORMED: ("",)}


def _picture(record, name):
    """A picture as the published code reads it."""
    return open_image(record.folder / "images" / name, window_16bit=False, drop_alpha=True, apply_exif=False)


def test_pixels(record, large, pictures):
    names = [name.removeprefix("pixels/") for name in record.listed(VISION, "pixels/")]
    assert len(names) == 10
    for name in names:
        record.close(VISION, f"pixels/{name}", pictures(name)[0], absolute=1e-6)
        raw = large.processor.image_processor(
            _picture(record, name), do_rescale=False, do_normalize=False, return_tensors="np"
        )["pixel_values"][0]
        record.exact(VISION, f"uint8/{name}", np.moveaxis(raw, 0, -1))


def test_enlarged_pixels(record):
    from pefomed.model import PefomedImageProcessorPil

    processor = PefomedImageProcessorPil(size={"height": 448, "width": 448})
    pixels = processor(_picture(record, "gray_small.png"), return_tensors="np")["pixel_values"][0]
    record.close(VISION, "pixels448/gray_small.png", pixels[:1], absolute=1e-6)


def test_training_transform(record, large):
    store = PixelStore(large.processor, RELEASED_CODE)
    for item in record.json("train_transform.json")["items"]:
        box = CropBox(item["top"], item["left"], item["height"], item["width"], item["flipped"])
        cropped = random_resized_crop_flip(_picture(record, item["image"]), 112, box=box)
        record.close(TRANSFORMED, f"train_pixels/{item['image']}", store.to_pixels(cropped), absolute=1e-6)


def _stages(model, pixels):
    """Name -> output [images, ...] of every stage of the vision path."""
    model = model.get_base_model().model
    tower, seen = model.vision_tower, {}

    def keep(name):
        def hook(module, arguments, output):
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    modules = {"patch_embed": tower.embeddings.patch_embedding, "visual_encoder": tower.encoder.layers[-1]}
    modules |= {f"block{i}": layer for i, layer in enumerate(tower.encoder.layers)}
    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    with torch.no_grad():
        seen["ln_vision"] = tower(pixels).last_hidden_state
        seen["grouped"] = model.encode_images(pixels)
        seen["projected"] = torch.stack(model.get_image_features(pixels).pooler_output)
    for hook in hooks:
        hook.remove()
    seen["patch_embed"] = seen["patch_embed"].flatten(2).transpose(1, 2)
    return seen


STAGES = ("patch_embed/", "block", "visual_encoder/", "ln_vision/", "grouped/", "projected/")


def test_every_stage(record, large_model, pictures):
    names = record.listed(VISION, *STAGES)
    images = sorted({name.split("/")[1] for name in names})
    stages = _stages(large_model, pictures(*images))
    for name in names:
        stage, image = name.split("/")
        record.close(VISION, name, stages[stage][images.index(image)], relative=1e-5)


@pytest.mark.parametrize(("size", "image"), [(168, "rgb_large.png"), (84, "gray_tall.png"), (224, "rgb_large.png")])
def test_other_sizes(record, converted_at, size, image):
    """The learnt position table is fitted to other sizes as the published code fits it, and the network follows."""
    at_size = converted_at(size)
    adapted = at_size.adapted()
    table = adapted.get_base_model().model.vision_tower.embeddings.position_embedding
    record.close(INTERPOLATED, f"pos_embed/{size}", table[0], relative=1e-6)
    pixels = torch.from_numpy(PixelStore(at_size.processor, RELEASED_CODE).to_pixels(_picture(record, image)))[None]
    stages = _stages(adapted, pixels) | {"pixels": pixels}
    for name in record.listed(
        INTERPOLATED, *(f"{stage}/{size}/" for stage in ("pixels", "visual_encoder", "projected"))
    ):
        record.close(INTERPOLATED, name, stages[name.split("/")[0]][0], relative=1e-5)


def test_every_listed_array_was_compared(record, request):
    record.assert_complete(request, OWNED)
