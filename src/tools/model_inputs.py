"""What a model of transformers is run on: sequences of token ids from a corpus, and images beside them."""
import inspect
import json
import sys

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

DEFAULT_LENGTH = 2048
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")


def documents(path):
    text = path.read_text(encoding="utf-8")
    return [json.loads(line)["text"] for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else [text]


def longest_sequence(config, tokenizer):
    """DEFAULT_LENGTH, or what the model takes."""
    limits = [getattr(getattr(config, "text_config", config), "max_position_embeddings", None), tokenizer.model_max_length]
    return min([DEFAULT_LENGTH, *(limit for limit in limits if limit)])


def image_files(folder):
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS)
    return files or sys.exit(f"record_statistics: {folder} has no image ({', '.join(IMAGE_ENDINGS)})")


def token_blocks(arguments, config):
    """int64 [sequences, length]; of images without text [images, 1], zeros."""
    if not arguments.token_ids and not arguments.corpus:
        return torch.zeros(min(arguments.sequences, len(image_files(arguments.images))), 1, dtype=torch.int64)
    if arguments.token_ids:
        return torch.from_numpy(load_file(arguments.token_ids)["input_ids"].astype(np.int64))[:arguments.sequences]
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.model, trust_remote_code=arguments.trust_remote_code)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"record_statistics: the tokenizer of {arguments.model} cannot be loaded: {error}")
    length = arguments.sequence_length or longest_sequence(config, tokenizer)
    ids = []
    for document in documents(arguments.corpus):
        if ids and tokenizer.eos_token_id is not None:
            ids.append(tokenizer.eos_token_id)
        ids += tokenizer(document).input_ids
        if len(ids) >= arguments.sequences * length:
            break
    count = min(arguments.sequences, len(ids) // length)
    if count == 0:
        sys.exit(f"record_statistics: {arguments.corpus} has {len(ids)} tokens, fewer than one sequence of {length}; "
                 "give more text, or a smaller --sequence-length")
    return torch.tensor(ids[:count * length]).reshape(count, length)


def takes_images(model):
    return "pixel_values" in inspect.signature(model.forward).parameters


class TextInputs:
    """The keyword arguments of a model's forward for one block of token ids."""

    def __init__(self, model):
        self._is_encoder_decoder = model.config.is_encoder_decoder

    def of(self, number, block):
        inputs = {"input_ids": block[None]}
        if self._is_encoder_decoder:
            inputs["decoder_input_ids"] = block[None]
        return inputs


class ImageInputs:
    """As TextInputs, with one image in front of every block's text, in turn; of a model that takes images alone, the image."""

    def __init__(self, model, arguments):
        if not takes_images(model):
            sys.exit(f"record_statistics: {type(model).__name__} takes no images; leave out --images")
        takes_text = "input_ids" in inspect.signature(model.forward).parameters
        if takes_text and not arguments.corpus and not arguments.token_ids:
            sys.exit(f"record_statistics: {type(model).__name__} takes text beside images: give --corpus, too")
        kind = transformers.AutoProcessor if takes_text else transformers.AutoImageProcessor
        self._processor = kind.from_pretrained(arguments.model, trust_remote_code=arguments.trust_remote_code)
        self._images = image_files(arguments.images)
        self._dtype = model.dtype

    def of(self, number, block):
        from PIL import Image
        image = Image.open(self._images[number % len(self._images)]).convert("RGB")
        inputs = self._processed(image, block)
        return {name: value.to(self._dtype) if value.is_floating_point() else value for name, value in inputs.items()}

    def _processed(self, image, block):
        processor = self._processor
        tokenizer = getattr(processor, "tokenizer", None)
        if tokenizer is None:
            return processor(images=image, return_tensors="pt")
        text = tokenizer.decode(block, skip_special_tokens=True)
        if getattr(processor, "chat_template", None):
            message = {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}
            return processor.apply_chat_template([message], tokenize=True, return_dict=True, return_tensors="pt")
        mark = getattr(processor, "boi_token", None) or getattr(processor, "image_token", None)
        if mark:
            return processor(text=[f"{mark} {text}"], images=[image], return_tensors="pt")
        # CLIP and its like: two towers side by side, a text of limited length.
        return processor(text=[text], images=[image], return_tensors="pt", truncation=True, max_length=len(block))
