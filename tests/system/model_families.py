"""Tiny random models of the model types that transformers knows, and what each of them is made of: told here, for the tests to compare with.

A family is a function that makes the configuration, the class that loads it, and, in words of the tensors' names in the file, its stacks of layers,
what stands behind them, and what is special. Every model has VOCABULARY tokens, a number that no other dimension has.
"""
import dataclasses
import re
import shutil

import numpy as np
from safetensors.numpy import load_file, save_file

from peers import torch, transformers

VOCABULARY = 131
NOISE = 0.02

CAUSAL, MASKED, SEQ2SEQ, IMAGE_TEXT = "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModelForImageTextToText"

TOKENS = dict(vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2)
HEADS = dict(TOKENS, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=96)
TEXT = dict(HEADS, num_key_value_heads=2)
WIDE = dict(TEXT, head_dim=8)
LATENT = dict(TEXT, num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=20, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=12)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2)
LOCAL_EXPERTS = dict(num_local_experts=4, num_experts_per_tok=2)
ROUTED_EXPERTS = dict(n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=20, n_group=1, topk_group=1)
SHARED_EXPERT = dict(moe_intermediate_size=20, shared_expert_intermediate_size=28)
DELTA = dict(linear_num_value_heads=4, linear_num_key_heads=2, linear_key_head_dim=8, linear_value_head_dim=12, num_hidden_layers=4)
MAMBA2 = dict(mamba_n_heads=4, mamba_d_head=16, mamba_d_state=8, mamba_n_groups=1, mamba_expand=2)
WINDOWS = dict(sliding_window=16, layer_types=["sliding_attention", "full_attention", "sliding_attention"])
IMAGE = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
QWEN_IMAGE = dict(depth=2, hidden_size=24, intermediate_size=40, num_heads=2, out_hidden_size=32)
QWEN_TOKENS = dict(image_token_id=5, video_token_id=6, vision_start_token_id=7, vision_end_token_id=8)
SECTIONS = dict(rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[2, 1, 1]))
LLAMA4 = dict(WIDE, num_hidden_layers=4, intermediate_size_mlp=44, num_local_experts=4, num_experts_per_tok=1, interleave_moe_layer_step=2)
GPT2 = dict(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, n_embd=32, n_layer=3, n_head=4, n_positions=96, n_inner=56)
SPEECH = dict(TOKENS, d_model=32, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=56,
              decoder_ffn_dim=56, decoder_start_token_id=2)
PER_LAYER_TABLE = dict(WIDE, num_hidden_layers=4, vocab_size_per_layer_input=VOCABULARY, hidden_size_per_layer_input=12, num_kv_shared_layers=0,
                       sliding_window=16)


def without(values, *keys):
    return {key: value for key, value in values.items() if key not in keys}


@dataclasses.dataclass(frozen=True)
class Slices:
    """What becomes of a stack of two slices: `done`, `refused` with words that match `message`, or `either` of them."""
    outcome: str = "done"
    message: str = ""
    reason: str = ""


DONE = Slices()
MODULES = Slices("refused", "modules", "more than one stack of layers")


@dataclasses.dataclass(frozen=True)
class Family:
    kind: str                                     # the class of its configuration
    values: dict                                  # of the configuration
    loader: str = CAUSAL
    stacks: tuple = ("model.layers.",)            # the first is the one that slices take apart
    behind: str = r"^(model\.norm|lm_head)\."     # a tensor that the last layer's output passes through
    other_modules: str = r"^$"                    # tensors of a multimodal model that are not of its text decoder
    slices: Slices = DONE
    native: bool = False                          # aimerge's own decoder runs it
    recordable: bool = True                       # token ids alone run all of it, other_modules apart
    input_first: str = r"^$"                      # matrices stored [in, out], experts [experts, in, out]
    halves: str = r"^$"                           # fused experts [experts, gate and up, in] to be trimmed by halves
    not_multiplied: str = r"^$"                   # matrices and tables that are not the right side of a product, beyond those of all families

    def configuration(self):
        return getattr(transformers, self.kind)(**self.values)

    @property
    def is_multimodal(self):
        return self.other_modules != r"^$"


GEMMA3 = dict(WIDE, query_pre_attn_scalar=8, **WINDOWS)
BERT = without(HEADS, "bos_token_id", "eos_token_id")
BERT_PARTS = dict(loader=MASKED, behind=r"^cls\.")
ROBERTA_PARTS = dict(loader=MASKED, stacks=("roberta.encoder.layer.",), behind=r"^lm_head\.")
GPT_PARTS = dict(stacks=("transformer.h.",), behind=r"^(transformer\.ln_f|lm_head)\.")
MAMBA_PARTS = dict(stacks=("backbone.layers.",), behind=r"^(backbone\.norm_f|lm_head)\.")
VISION = r"^(model\.)?(vision_tower|vision_model|visual|multi_modal_projector|connector|embed_vision)\."
NESTED_TEXT = dict(loader=IMAGE_TEXT, slices=MODULES, other_modules=VISION, behind=r"^language_model\.(model\.norm|lm_head)\.")
GEMMA3_PARTS = dict(NESTED_TEXT, stacks=("language_model.model.layers.", "vision_tower.encoder.layers."))
QWEN2_VL_PARTS = dict(loader=IMAGE_TEXT, slices=MODULES, other_modules=VISION, stacks=("model.layers.", "visual.blocks."))
QWEN3_VL_PARTS = dict(loader=IMAGE_TEXT, slices=MODULES, other_modules=VISION, stacks=("model.language_model.layers.", "model.visual.blocks."),
                      behind=r"^(model\.language_model\.norm|lm_head)\.")
IDEFICS3 = dict(text_config=dict(TEXT, model_type="llama"), vision_config=IMAGE, image_token_id=5, scale_factor=2)
IDEFICS3_PARTS = dict(loader=IMAGE_TEXT, slices=MODULES, other_modules=VISION, behind=r"^(model\.text_model\.norm|lm_head)\.",
                      stacks=("model.text_model.layers.", "model.vision_model.encoder.layers."))
T5 = dict(vocab_size=VOCABULARY, d_model=32, d_ff=56, d_kv=8, num_layers=3, num_decoder_layers=2, num_heads=4, decoder_start_token_id=0)
T5_PARTS = dict(loader=SEQ2SEQ, stacks=("encoder.block.", "decoder.block."), slices=MODULES)
TWO_TOWERS = dict(loader="AutoModel", stacks=("text_model.encoder.layers.", "vision_model.encoder.layers."), slices=MODULES, recordable=False)
KINDS_BY_NUMBER = "the kind of a layer follows from its number"
PER_LAYER = Slices("refused", "per_layer|shared", "the width of embed_tokens_per_layer depends on the number of layers")
LLAMA4_SLICES = Slices("refused", r"modules|llama4[\s\S]*number|moe_layers|interleave_moe_layer_step", KINDS_BY_NUMBER)
EXPERTS_INPUT_FIRST = r"\.experts\.(gate_up_proj|down_proj)$"

FAMILIES = {
    # Decoders with dense layers.
    "llama": Family("LlamaConfig", TEXT, native=True),
    "llama, tied": Family("LlamaConfig", dict(TEXT, tie_word_embeddings=True), native=True),
    "mistral": Family("MistralConfig", TEXT, native=True),
    "ministral": Family("MinistralConfig", dict(WIDE, **WINDOWS), native=True),
    "ministral3": Family("Ministral3Config", WIDE, native=True),
    "qwen2": Family("Qwen2Config", TEXT, native=True),
    "qwen3": Family("Qwen3Config", WIDE, native=True),
    "gemma": Family("GemmaConfig", WIDE, native=True),
    "gemma2": Family("Gemma2Config", dict(WIDE, query_pre_attn_scalar=8, **WINDOWS), native=True),
    "gemma3_text": Family("Gemma3TextConfig", GEMMA3, native=True),
    "gemma3n_text": Family("Gemma3nTextConfig", dict(PER_LAYER_TABLE, laurel_rank=6, activation_sparsity_pattern=[0.0] * 4),
                           behind=r"^model\.(norm|altup_unembed_projections)\.", slices=PER_LAYER),
    "gemma4_text": Family("Gemma4TextConfig", dict(PER_LAYER_TABLE, global_head_dim=8), slices=PER_LAYER),
    "gemma4_text, shared kv": Family("Gemma4TextConfig", dict(PER_LAYER_TABLE, global_head_dim=8,
                                                              num_kv_shared_layers=2, layer_types=["sliding_attention", "full_attention"] * 2),
                                     slices=PER_LAYER),
    "phi": Family("PhiConfig", TEXT, behind=r"^(model\.final_layernorm|lm_head)\.", native=True),
    "phi3": Family("Phi3Config", TEXT, native=True),
    "olmo": Family("OlmoConfig", TEXT),
    "olmo2": Family("Olmo2Config", TEXT, native=True),
    "olmo3": Family("Olmo3Config", dict(TEXT, **WINDOWS), native=True),
    "smollm3": Family("SmolLM3Config", dict(TEXT, no_rope_layers=[1, 0, 1]), native=True),
    "granite": Family("GraniteConfig", TEXT, native=True),
    "cohere": Family("CohereConfig", TEXT, native=True),
    "cohere2": Family("Cohere2Config", dict(TEXT, **WINDOWS), native=True),
    "glm": Family("GlmConfig", WIDE, native=True),
    "glm4": Family("Glm4Config", WIDE, native=True),
    "falcon": Family("FalconConfig", dict(without(HEADS, "intermediate_size", "max_position_embeddings"), ffn_hidden_size=56), **GPT_PARTS, native=True),
    "stablelm": Family("StableLmConfig", TEXT, native=True),
    "starcoder2": Family("Starcoder2Config", TEXT, native=True),
    "gpt_neox": Family("GPTNeoXConfig", HEADS, stacks=("gpt_neox.layers.",), behind=r"^(gpt_neox\.final_layer_norm|embed_out)\.", native=True),
    "gpt2": Family("GPT2Config", GPT2, **GPT_PARTS, input_first=r"\.(c_attn|c_proj|c_fc)\.weight$", native=True),
    "gpt_bigcode": Family("GPTBigCodeConfig", GPT2, **GPT_PARTS, native=True),
    "gptj": Family("GPTJConfig", dict(GPT2, rotary_dim=4), **GPT_PARTS, native=True),
    "gpt_neo": Family("GPTNeoConfig", dict(without(HEADS, "num_hidden_layers", "num_attention_heads", "pad_token_id"), num_layers=3, num_heads=4,
                                           attention_types=[[["global"], 3]]), **GPT_PARTS,
                      slices=Slices("either", "attention_types|gpt_neo", "attention_types counts the layers")),
    "opt": Family("OPTConfig", dict(without(HEADS, "intermediate_size"), ffn_dim=56, word_embed_proj_dim=32), stacks=("model.decoder.layers.",),
                  behind=r"^model\.decoder\.final_layer_norm\.", native=True),
    "bloom": Family("BloomConfig", dict(vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4, bos_token_id=1, eos_token_id=2), **GPT_PARTS),
    "mpt": Family("MptConfig", dict(vocab_size=VOCABULARY, d_model=32, n_layers=3, n_heads=4, max_seq_len=96), stacks=("transformer.blocks.",),
                  behind=r"^transformer\.norm_f\."),
    "internlm3": Family("InternLM3Config", TEXT, native=True),
    "exaone4": Family("Exaone4Config", dict(TEXT, **WINDOWS), native=True),
    "nemotron": Family("NemotronConfig", TEXT, native=True),
    "ernie4_5": Family("Ernie4_5Config", WIDE, native=True),
    "minicpm3": Family("MiniCPM3Config", LATENT),
    "hunyuan_v1_dense": Family("HunYuanDenseV1Config", WIDE, native=True),
    "seed_oss": Family("SeedOssConfig", WIDE, native=True),
    "apertus": Family("ApertusConfig", TEXT, native=True),
    "arcee": Family("ArceeConfig", TEXT, native=True),
    "helium": Family("HeliumConfig", WIDE, native=True),
    "persimmon": Family("PersimmonConfig", HEADS, behind=r"^(model\.final_layernorm|lm_head)\.", native=True),
    "modernbert-decoder": Family("ModernBertDecoderConfig", dict(HEADS, cls_token_id=1, sep_token_id=2, local_attention=16,
                                                                 global_attn_every_n_layers=2),
                                 behind=r"^(model\.final_norm|lm_head|decoder)\."),
    # Mixtures of experts.
    "mixtral": Family("MixtralConfig", dict(TEXT, num_local_experts=4)),
    "qwen2_moe": Family("Qwen2MoeConfig", dict(TEXT, **EXPERTS, **SHARED_EXPERT)),
    "qwen3_moe": Family("Qwen3MoeConfig", dict(WIDE, num_experts=24, num_experts_per_tok=2, moe_intermediate_size=20)),  # some without tokens
    "phimoe": Family("PhimoeConfig", dict(TEXT, num_local_experts=4)),
    "olmoe": Family("OlmoeConfig", dict(TEXT, **EXPERTS)),
    "flex_olmo": Family("FlexOlmoConfig", dict(TEXT, **EXPERTS)),
    "granitemoe": Family("GraniteMoeConfig", dict(TEXT, num_local_experts=24, num_experts_per_tok=2)),
    "granitemoeshared": Family("GraniteMoeSharedConfig", dict(TEXT, **LOCAL_EXPERTS, shared_intermediate_size=28)),
    "glm4_moe": Family("Glm4MoeConfig", dict(WIDE, **ROUTED_EXPERTS, first_k_dense_replace=1)),
    "glm4_moe_lite": Family("Glm4MoeLiteConfig", dict(LATENT, **ROUTED_EXPERTS)),
    "deepseek_v2": Family("DeepseekV2Config", dict(LATENT, **ROUTED_EXPERTS, n_shared_experts=1, first_k_dense_replace=1)),
    "deepseek_v3": Family("DeepseekV3Config", dict(LATENT, **ROUTED_EXPERTS, n_shared_experts=1, first_k_dense_replace=1)),
    "deepseek_v32": Family("DeepseekV32Config", dict(LATENT, **ROUTED_EXPERTS, n_shared_experts=1, first_k_dense_replace=1, index_n_heads=2,
                                                     index_head_dim=8, index_topk=4)),
    "dots1": Family("Dots1Config", dict(TEXT, **ROUTED_EXPERTS, n_shared_experts=1, first_k_dense_replace=1)),
    "gpt_oss": Family("GptOssConfig", dict(WIDE, **LOCAL_EXPERTS, **WINDOWS), input_first=EXPERTS_INPUT_FIRST),
    "llama4_text": Family("Llama4TextConfig", LLAMA4, slices=LLAMA4_SLICES, input_first=EXPERTS_INPUT_FIRST),
    "ernie4_5_moe": Family("Ernie4_5_MoeConfig", dict(TEXT, moe_num_experts=4, moe_k=2, moe_intermediate_size=20, moe_layer_start_index=1),
                           slices=Slices("either", "ernie4_5_moe|moe_layer_(start|end)_index", KINDS_BY_NUMBER)),
    "hunyuan_v1_moe": Family("HunYuanMoEV1Config", dict(WIDE, num_experts=4, moe_topk=2)),
    "minimax_m2": Family("MiniMaxM2Config", dict(WIDE, **LOCAL_EXPERTS)),
    # Layers of other kinds between or instead of attention.
    "qwen3_next": Family("Qwen3NextConfig", dict(WIDE, **EXPERTS, **SHARED_EXPERT) | DELTA),
    "qwen3_5_text": Family("Qwen3_5TextConfig", WIDE | DELTA),
    "qwen3_5_moe_text": Family("Qwen3_5MoeTextConfig", dict(WIDE, **EXPERTS, **SHARED_EXPERT) | DELTA),
    "granitemoehybrid": Family("GraniteMoeHybridConfig", dict(TEXT, **LOCAL_EXPERTS, **MAMBA2, shared_intermediate_size=28,
                                                              layer_types=["mamba", "attention", "mamba"])),
    "bamba": Family("BambaConfig", dict(TEXT, **MAMBA2, attn_layer_indices=[1]), behind=r"^(model\.final_layernorm|lm_head)\.",
                    slices=Slices("either", "bamba|attn_layer_indices", KINDS_BY_NUMBER)),
    "falcon_h1": Family("FalconH1Config", dict(TEXT, **MAMBA2, mamba_d_ssm=64), behind=r"^(model\.final_layernorm|lm_head)\."),
    "nemotron_h": Family("NemotronHConfig", dict(without(WIDE, "num_hidden_layers"), layers_block_type=["mamba", "attention", "mlp"],
                                                 mamba_num_heads=4, mamba_head_dim=16, ssm_state_size=8, n_groups=1), **MAMBA_PARTS),
    "lfm2": Family("Lfm2Config", dict(TEXT, layer_types=["conv", "full_attention", "conv"]), behind=r"^model\.embedding_norm\."),
    "lfm2_moe": Family("Lfm2MoeConfig", dict(TEXT, **EXPERTS, moe_intermediate_size=20, num_dense_layers=1,
                                             layer_types=["conv", "full_attention", "conv"]), behind=r"^model\.embedding_norm\."),
    "minimax": Family("MiniMaxConfig", dict(WIDE, **LOCAL_EXPERTS, block_size=16,
                                            layer_types=["linear_attention", "full_attention", "linear_attention"]),
                      not_multiplied=r"(_decay|slope_rate)$"),
    "kimi_linear": Family("KimiLinearConfig", dict(without(LATENT, "q_lora_rank"), num_hidden_layers=4, num_local_experts=4, num_experts_per_tok=2,
                                                   moe_intermediate_size=20, linear_head_dim=8, linear_num_heads=4,
                                                   layer_types=["linear_attention", "linear_attention", "linear_attention", "full_attention"])),
    "mamba": Family("MambaConfig", dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, state_size=8), **MAMBA_PARTS),
    "falcon_mamba": Family("FalconMambaConfig", dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, state_size=8), **MAMBA_PARTS),
    "mamba2": Family("Mamba2Config", dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, state_size=8, num_heads=4, head_dim=16,
                                          n_groups=1, chunk_size=16), **MAMBA_PARTS),
    "jamba": Family("JambaConfig", dict(TEXT, **EXPERTS, num_hidden_layers=4, attn_layer_period=4, attn_layer_offset=2, expert_layer_period=2,
                                        expert_layer_offset=1, mamba_d_state=8, mamba_dt_rank=4, use_mamba_kernels=False),
                    behind=r"^(model\.final_layernorm|lm_head)\.",
                    slices=Slices("refused", r"jamba[\s\S]*number|attn_layer_period|expert_layer_period", KINDS_BY_NUMBER)),
    "zamba2": Family("Zamba2Config", dict(TEXT, num_hidden_layers=4, num_key_value_heads=4, mamba_d_state=8, mamba_headdim=16, n_mamba_heads=4,
                                          mamba_ngroups=1, num_mem_blocks=1, hybrid_layer_ids=[1, 3], adapter_rank=6, chunk_size=16,
                                          layers_block_type=["mamba", "hybrid", "mamba", "hybrid"]),
                     behind=r"^model\.final_layernorm\.", slices=Slices("refused", "zamba2|hybrid_layer_ids", "layers share one block")),
    "rwkv": Family("RwkvConfig", dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=3, context_length=96, intermediate_size=56,
                                      attention_hidden_size=32), stacks=("rwkv.blocks.",), behind=r"^(rwkv\.ln_out|head)\."),
    "xlstm": Family("xLSTMConfig", TEXT, stacks=("backbone.blocks.",), behind=r"^(backbone\.out_norm|lm_head)\."),
    # Text and images.
    "gemma3": Family("Gemma3Config", dict(text_config=GEMMA3, vision_config=dict(IMAGE, model_type="siglip_vision_model"), mm_tokens_per_image=4,
                                          image_token_index=5, boi_token_index=6, eoi_token_index=7), **GEMMA3_PARTS, native=True),
    "gemma4": Family("Gemma4Config", dict(text_config=PER_LAYER_TABLE | dict(hidden_size_per_layer_input=0, global_head_dim=8), audio_config=None,
                                          vision_config=dict(IMAGE, num_key_value_heads=2, head_dim=12, model_type="gemma4_vision"),
                                          image_token_id=5, boi_token_id=6, eoi_token_id=7),
                     loader=IMAGE_TEXT, slices=MODULES, other_modules=VISION, behind=r"^model\.language_model\.norm\.",
                     stacks=("model.language_model.layers.", "model.vision_tower.encoder.layers.")),
    "paligemma": Family("PaliGemmaConfig", dict(text_config=dict(WIDE, model_type="gemma"), projection_dim=32, image_token_index=5,
                                                vision_config=dict(IMAGE, model_type="siglip_vision_model", projection_dim=32)), **GEMMA3_PARTS),
    "llava": Family("LlavaConfig", dict(text_config=dict(TEXT, model_type="llama"), vision_config=dict(IMAGE, model_type="clip_vision_model"),
                                        image_token_index=5), **GEMMA3_PARTS),
    "mistral3": Family("Mistral3Config", dict(text_config=dict(WIDE, model_type="mistral"),
                                              vision_config=dict(IMAGE, model_type="pixtral", head_dim=12), image_token_index=5), **NESTED_TEXT,
                       stacks=("language_model.model.layers.", "vision_tower.transformer.layers."), native=True),
    "internvl": Family("InternVLConfig", dict(text_config=dict(TEXT, model_type="qwen2"),
                                              vision_config=dict(IMAGE, image_size=[28, 28], patch_size=[14, 14]), image_token_id=5), **NESTED_TEXT,
                       stacks=("language_model.model.layers.", "vision_tower.encoder.layer.")),
    "idefics3": Family("Idefics3Config", IDEFICS3, **IDEFICS3_PARTS),
    "smolvlm": Family("SmolVLMConfig", IDEFICS3, **IDEFICS3_PARTS),
    "qwen2_vl": Family("Qwen2VLConfig", dict(text_config=dict(TEXT, **SECTIONS), **QWEN_TOKENS,
                                             vision_config=dict(depth=2, embed_dim=24, hidden_size=32, num_heads=2, mlp_ratio=2)), **QWEN2_VL_PARTS, native=True),
    "qwen2_5_vl": Family("Qwen2_5_VLConfig", dict(text_config=dict(TEXT, **SECTIONS), **QWEN_TOKENS,
                                                  vision_config=dict(QWEN_IMAGE, fullatt_block_indexes=[1])), **QWEN2_VL_PARTS, native=True),
    "qwen3_vl": Family("Qwen3VLConfig", dict(text_config=dict(WIDE, **SECTIONS), **QWEN_TOKENS,
                                             vision_config=dict(QWEN_IMAGE, num_position_embeddings=16, deepstack_visual_indexes=[0])),
                       **QWEN3_VL_PARTS, native=True),
    "qwen3_vl_moe": Family("Qwen3VLMoeConfig", dict(text_config=dict(WIDE, **SECTIONS, **EXPERTS, moe_intermediate_size=20), **QWEN_TOKENS,
                                                    vision_config=dict(QWEN_IMAGE, num_position_embeddings=16, deepstack_visual_indexes=[0])),
                           **QWEN3_VL_PARTS, halves=r"experts\.gate_up_proj$"),
    "qwen3_5": Family("Qwen3_5Config", dict(text_config=WIDE | DELTA, vision_config=dict(QWEN_IMAGE, num_position_embeddings=16), **QWEN_TOKENS),
                      **QWEN3_VL_PARTS),
    "qwen3_5_moe": Family("Qwen3_5MoeConfig", dict(text_config=dict(WIDE, **EXPERTS, **SHARED_EXPERT) | DELTA,
                                                   vision_config=dict(QWEN_IMAGE, num_position_embeddings=16), **QWEN_TOKENS), **QWEN3_VL_PARTS),
    "glm4v": Family("Glm4vConfig", dict(text_config=dict(TEXT, **SECTIONS), vision_config=dict(QWEN_IMAGE, image_size=28, patch_size=14),
                                        **QWEN_TOKENS), **QWEN3_VL_PARTS),
    "llama4": Family("Llama4Config", dict(text_config=LLAMA4, image_token_index=5, boi_token_index=6, eoi_token_index=7,
                                          vision_config=dict(IMAGE, intermediate_size=96, projector_input_dim=24, projector_output_dim=24,
                                                             vision_output_dim=24)),
                     **(NESTED_TEXT | dict(slices=LLAMA4_SLICES)), input_first=EXPERTS_INPUT_FIRST,
                     stacks=("language_model.model.layers.", "vision_model.model.layers.")),
    # Encoders.
    "bert": Family("BertConfig", BERT, **BERT_PARTS, stacks=("bert.encoder.layer.",)),
    "roberta": Family("RobertaConfig", HEADS, **ROBERTA_PARTS),
    "xlm-roberta": Family("XLMRobertaConfig", HEADS, **ROBERTA_PARTS),
    "electra": Family("ElectraConfig", dict(BERT, embedding_size=24), loader=MASKED, stacks=("electra.encoder.layer.",), behind=r"^generator_"),
    "mpnet": Family("MPNetConfig", HEADS, loader=MASKED, stacks=("mpnet.encoder.layer.",), behind=r"^lm_head\."),
    "distilbert": Family("DistilBertConfig", dict(vocab_size=VOCABULARY, dim=32, hidden_dim=56, n_layers=3, n_heads=4, max_position_embeddings=96),
                         loader=MASKED, stacks=("distilbert.transformer.layer.",), behind=r"^vocab_"),
    "deberta-v2": Family("DebertaV2Config", BERT, **BERT_PARTS, stacks=("deberta.encoder.layer.",)),
    "modernbert": Family("ModernBertConfig", dict(HEADS, cls_token_id=1, sep_token_id=2, local_attention=16, global_attn_every_n_layers=2),
                         loader=MASKED, behind=r"^(model\.final_norm|head|decoder)\."),
    # Encoders with decoders, images, speech.
    "t5": Family("T5Config", T5, **T5_PARTS),
    "mt5": Family("MT5Config", T5, **T5_PARTS),
    "bart": Family("BartConfig", dict(SPEECH, max_position_embeddings=96), loader=SEQ2SEQ, stacks=("model.encoder.layers.", "model.decoder.layers."),
                   slices=MODULES),
    "whisper": Family("WhisperConfig", dict(SPEECH, max_target_positions=96, max_source_positions=64, num_mel_bins=20),
                      loader="AutoModelForSpeechSeq2Seq", stacks=("model.encoder.layers.", "model.decoder.layers."), slices=MODULES,
                      recordable=False),
    "vit": Family("ViTConfig", dict(without(IMAGE, "num_hidden_layers"), num_hidden_layers=3, num_labels=5), recordable=False,
                  loader="AutoModelForImageClassification", stacks=("vit.encoder.layer.",), behind=r"^(vit\.layernorm|classifier)\."),
    "dinov2": Family("Dinov2Config", dict(without(IMAGE, "intermediate_size", "num_hidden_layers"), num_hidden_layers=3, mlp_ratio=2),
                     recordable=False, loader="AutoModel", stacks=("encoder.layer.",), behind=r"^layernorm\."),
    "siglip": Family("SiglipConfig", dict(text_config=dict(without(HEADS, *without(TOKENS, "vocab_size")), projection_size=32),
                                          vision_config=dict(IMAGE, hidden_size=32)), **TWO_TOWERS),
    "clip": Family("CLIPConfig", dict(text_config=without(HEADS, *without(TOKENS, "vocab_size")), vision_config=IMAGE, projection_dim=20),
                   **TWO_TOWERS),
}


# What a tensor is, by its name and shape.

EXPERT = re.compile(r"^(?P<block>.*)\.experts\.(?P<number>\d+)\.(?P<part>gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$")
FUSED_EXPERTS = re.compile(r"^(?P<block>.*)\.(experts\.)?(?P<part>gate_up_proj|down_proj|input_linear|output_linear)(_bias|\.weight)?$")
DOWN_PARTS = ("down_proj", "w2", "output_linear")
ROUTERS = (".gate", ".router", ".router.layer", ".gate.wg")
HEAD = re.compile(r"(^|\.)(lm_head|embed_out|head)\.weight$")
CONVOLUTION = re.compile(r"conv1d|\.conv\.conv\.|\.conv[12]\.|patch_conv|patch_embed")
NOT_MULTIPLIED = re.compile(r"(A_log|bias|sinks|class_embedding|cls_token|mask_token|probe)$|time_mix_|moe_statics|relative_attention_bias|"
                            r"wpe\.|embed_positions|position_embedding|positional_embedding|pos_embed|token_type_embeddings")


def vocabulary_axes(shape):
    return [axis for axis, size in enumerate(shape) if size == VOCABULARY]


def is_fused(name, shape):
    """Experts in one tensor: its first axis counts them."""
    match = FUSED_EXPERTS.match(name)
    return bool(match) and len(shape) == (2 if name.endswith("_bias") else 3)


def is_multiplied(family, name, shape):
    """Whether it is a matrix that activations are multiplied by when the model runs."""
    if vocabulary_axes(shape):
        return bool(HEAD.search(name))
    return (len(shape) == 2 or is_fused(name, shape)) and not (
        NOT_MULTIPLIED.search(name) or CONVOLUTION.search(name) or re.search(family.not_multiplied, name))


def place_of(family, name):
    """(stack, layer), or (None, 0) of what is in no layer."""
    for stack in family.stacks:
        if name.startswith(stack):
            return stack, int(name[len(stack):].split(".")[0])
    return None, 0


def layer_counts(family, names):
    """{stack: number of its layers}"""
    places = [place_of(family, name) for name in names]
    return {stack: 1 + max(layer for own, layer in places if own == stack) for stack in family.stacks}


def depth_of(family, name, counts):
    """0 for the first layer of its stack and what is in none, 1 for the last."""
    stack, layer = place_of(family, name)
    if stack is None:
        return 0.0
    return layer / (counts[stack] - 1) if counts[stack] > 1 else 1.0


def trimmed_apart(family, name, values):
    """The parts of a tensor that ties trims each by itself: the whole, or of fused experts every expert."""
    if not is_fused(name, values.shape):
        return [values]
    experts = list(values)
    if not re.search(family.halves, name):
        return experts
    return [half for expert in experts for half in np.split(expert, 2)]


# Files.

def make(name, folder):
    """Folders base, expert_1 and expert_2 of a family below `folder`: the experts are the base and noise on every parameter."""
    family = FAMILIES[name]
    seed = sum(map(ord, name))
    torch.manual_seed(seed)
    model = getattr(transformers, family.loader).from_config(family.configuration()).float()
    generator = torch.Generator().manual_seed(seed)
    for number, place in enumerate(("base", "expert_1", "expert_2")):
        start = {key: value.detach().clone() for key, value in model.named_parameters()} if number < 2 else start
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                parameter.copy_(start[key] + NOISE * torch.randn(parameter.shape, generator=generator))
        model.save_pretrained(folder / place)


def read(folder):
    """{name: array} of a folder in which everything is float32 or integers."""
    return {name: values for path in sorted(folder.glob("*.safetensors")) for name, values in load_file(path).items()}


def with_tokenizer(source, target, order, tensors=None):
    """A copy of a model folder with a tokenizer in which token number i of the first order has the id order[i]."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    shutil.copytree(source, target)
    if tensors is not None:
        save_file({name: np.array(values, order="C") for name, values in tensors.items()}, target / "model.safetensors", metadata={"format": "pt"})
    ids = {f"token{number}": int(place) for number, place in enumerate(order)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="token0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(target / "tokenizer.json"))
    (target / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "token0"}')
    return target
