"""What other versions of transformers than that of the tests, and other programs, call the tensors of tiny models (model_families.py)."""


def replacing(*pairs):
    """A function that exchanges the first of the prefixes that a name has."""
    def rename(name):
        for old, new in pairs:
            if name.startswith(old):
                return new + name.removeprefix(old)
        return name
    return rename


# What transformers 4.52 and later has in memory, from what it writes.
GEMMA3_IN_MEMORY = replacing(("language_model.model.", "model.language_model."), ("language_model.lm_head.", "lm_head."),
                             ("vision_tower.", "model.vision_tower."), ("multi_modal_projector.", "model.multi_modal_projector."))
GPT2_OF_THE_HUB = replacing(("transformer.", ""))
COMPILED = replacing(("", "_orig_mod."))
