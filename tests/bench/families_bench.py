#!/usr/bin/env python3
"""Times calibration of every family of decoders beside transformers' forward pass and beside the matrix products alone.

Models have random weights, 24 layers and about 300M parameters; two threads; sequences of 256 tokens, one at a time. Calibration is a whole
command: the difference in time between a long and a short run, which start-up and loading do not enter. The forward pass of transformers is
that of the model without its head, and the products are those of the layers' linear layers with the same weights, both timed inside this
process. Runs alternate; the table has the minima, and ratios of them. Model types whose layers are those of another (mistral3 and mistral, say)
are left out.

    build/venv/bin/python tests/bench/families_bench.py
"""
import argparse
import json
import os
import shutil
import sys
import time

THREADS, LENGTH, VOCABULARY = 2, 256, 8192
os.environ["OMP_NUM_THREADS"] = str(THREADS)
os.environ["OMP_WAIT_POLICY"] = "passive"  # of ours and of torch: threads that wait are not to count as processor time

import torch
import transformers
from safetensors.torch import save_file
from transformers.initialization import no_init_weights

from measure import AIMERGE, ROOT, machine, measure, table

TOKENS = dict(vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2)
ALL_HEADS = dict(TOKENS, hidden_size=1024, intermediate_size=2816, num_hidden_layers=24, num_attention_heads=16, max_position_embeddings=2048)
GATED = dict(ALL_HEADS, num_key_value_heads=8)
PLAIN = dict(ALL_HEADS, intermediate_size=4096, num_key_value_heads=8)
GPT = dict(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, n_embd=1024, n_layer=24, n_head=16, n_positions=2048)
WINDOWS = dict(sliding_window=128, layer_types=["sliding_attention", "full_attention"] * 12)
FAMILIES = {
    "llama": ("LlamaConfig", GATED),
    "mistral": ("MistralConfig", dict(GATED, sliding_window=128)),
    "qwen2": ("Qwen2Config", GATED),
    "qwen3": ("Qwen3Config", dict(GATED, head_dim=64)),
    "phi3": ("Phi3Config", GATED),
    "gemma": ("GemmaConfig", dict(GATED, head_dim=64)),
    "gemma2": ("Gemma2Config", dict(GATED, head_dim=64, query_pre_attn_scalar=64, **WINDOWS)),
    "gemma3_text": ("Gemma3TextConfig", dict(GATED, head_dim=64, query_pre_attn_scalar=64, **WINDOWS)),
    "olmo2": ("Olmo2Config", GATED),
    "olmo3": ("Olmo3Config", dict(GATED, **WINDOWS)),
    "exaone4": ("Exaone4Config", dict(GATED, **WINDOWS)),
    "smollm3": ("SmolLM3Config", GATED),
    "granite": ("GraniteConfig", GATED),
    "cohere": ("CohereConfig", GATED),
    "cohere2": ("Cohere2Config", dict(GATED, **WINDOWS)),
    "hunyuan_v1_dense": ("HunYuanDenseV1Config", dict(GATED, head_dim=64)),
    "glm": ("GlmConfig", dict(GATED, head_dim=64)),
    "glm4": ("Glm4Config", dict(GATED, head_dim=64)),
    "ernie4_5": ("Ernie4_5Config", dict(GATED, head_dim=64)),
    "helium": ("HeliumConfig", dict(GATED, head_dim=64)),
    "apertus": ("ApertusConfig", PLAIN),
    "arcee": ("ArceeConfig", PLAIN),
    "nemotron": ("NemotronConfig", PLAIN),
    "starcoder2": ("Starcoder2Config", dict(PLAIN, sliding_window=None)),
    "stablelm": ("StableLmConfig", GATED),
    "phi": ("PhiConfig", PLAIN),
    "gpt_neox": ("GPTNeoXConfig", dict(ALL_HEADS, intermediate_size=4096)),
    "persimmon": ("PersimmonConfig", dict(ALL_HEADS, intermediate_size=4096)),
    "falcon": ("FalconConfig", dict(TOKENS, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, num_kv_heads=8,
                                    new_decoder_architecture=True)),
    "gpt2": ("GPT2Config", GPT),
    "gptj": ("GPTJConfig", dict(GPT, rotary_dim=32, tie_word_embeddings=False)),
    "gpt_bigcode": ("GPTBigCodeConfig", GPT),
    "opt": ("OPTConfig", dict(TOKENS, hidden_size=1024, ffn_dim=4096, num_hidden_layers=24, num_attention_heads=16, word_embed_proj_dim=1024)),
}


def random_model(kind, values):
    """In float32. What transformers draws would take longer than the runs."""
    config = getattr(transformers, kind)(**values)
    with no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.uniform_(-0.03, 0.03, generator=generator)
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    model.tie_weights()
    return model.eval()


def layer_matrices(model):
    """Of the decoder's layers, in their order: weight [out, in] and bias of every linear layer."""
    found = []
    for module in model.base_model.modules():
        if isinstance(module, torch.nn.Linear):
            found.append((module.weight, module.bias))
        elif type(module).__name__ == "Conv1D":
            found.append((module.weight.t(), module.bias))
    return found


def seconds_of(work):
    """Wall time, and processor time of all threads."""
    start, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - used


class Family:
    def __init__(self, name, folder, short, long):
        self.folder, self.short, self.long = folder, short, long
        self.model = random_model(*FAMILIES[name])
        self.blocks = torch.randint(3, VOCABULARY, (long, LENGTH), generator=torch.Generator().manual_seed(2))
        save_file({"input_ids": self.blocks}, folder / "ids.safetensors")

    def to(self, dtype):
        self.dtype = dtype
        self.model = self.model.to(getattr(torch, dtype))
        shutil.rmtree(self.folder / "model", ignore_errors=True)
        self.model.save_pretrained(self.folder / "model")

    def calibration(self, sequences):
        config, log = self.folder / "calibration.yaml", self.folder / "statistics.h5"
        log.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        config.write_text(json.dumps({"base_model": str(self.folder / "model"), "aim": {"omega": 0.4, "calibration": {
            "token_ids": str(self.folder / "ids.safetensors"), "sequences": sequences, "sequence_length": LENGTH, "shuffle": False,
            "micro_batch": 1, "dtype": self.dtype}}}))
        run = measure([AIMERGE, "calibrate", config, "--out", log, "--threads", THREADS, "--progress", "none"], self.folder / "command.log",
                      {"AIMERGE_CACHE_DIR": str(self.folder / "cache")})
        return run.seconds, run.cpu_seconds

    def transformers(self):
        with torch.inference_mode():
            for block in self.blocks[self.short:]:
                self.model.base_model(block[None], use_cache=False)

    def products(self):
        matrices = layer_matrices(self.model)
        inputs = {weight.shape[1]: torch.randn(LENGTH, weight.shape[1]).to(weight.dtype) for weight, _ in matrices}
        with torch.inference_mode():
            for _ in range(self.long - self.short):
                for weight, bias in matrices:
                    torch.nn.functional.linear(inputs[weight.shape[1]], weight, bias)

    def measure(self, rounds):
        """@return {what: (least wall time, least processor time)}"""
        runs = {"short": [], "long": [], "transformers": [], "products": []}
        with torch.inference_mode():
            self.model.base_model(self.blocks[:1], use_cache=False)
        for _ in range(rounds):
            runs["short"].append(self.calibration(self.short))
            runs["transformers"].append(seconds_of(self.transformers))
            runs["products"].append(seconds_of(self.products))
            runs["long"].append(self.calibration(self.long))
        least = {what: [min(values) for values in zip(*times)] for what, times in runs.items()}
        least["calibration"] = [long - short for long, short in zip(least["long"], least["short"])]
        return least


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(FAMILIES), help="model types")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--sequences", type=int, nargs=2, default=[1, 5], metavar=("SHORT", "LONG"), help="of the two runs")
    parser.add_argument("--processor-time", action="store_true", help="instead of wall time: for a machine that others use, too")
    arguments = parser.parse_args()
    short, long = arguments.sequences
    if not 0 < short < long:
        parser.error("--sequences: SHORT must be smaller than LONG")
    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    folder = ROOT / "build" / "bench" / "families"
    folder.mkdir(parents=True, exist_ok=True)
    head, rows = machine(), []
    for name in arguments.families:
        family = Family(name, folder, short, long)
        for dtype in arguments.dtypes:
            family.to(dtype)
            times = {what: both[arguments.processor_time] for what, both in family.measure(arguments.rounds).items()}
            ours = times["calibration"]
            rows.append([name, dtype, *(f"{times[what]:.2f}" for what in ("calibration", "transformers", "products")),
                         f"{ours / times['transformers']:.2f}", f"{ours / times['products']:.2f}"])
            print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    what = "processor seconds" if arguments.processor_time else "seconds"
    print(f"{head}; {what} for {long - short} sequences of {LENGTH} tokens, the least of {arguments.rounds} runs\n")
    print(table(["model type", "dtype", "calibration", "transformers", "products", "/ transformers", "/ products"], rows))


if __name__ == "__main__":
    main()
