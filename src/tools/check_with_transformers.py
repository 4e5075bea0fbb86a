#!/usr/bin/env python3
"""Loads a checkpoint folder with transformers, continues a prompt greedily and prints the text.

Fails when a weight is missing, superfluous or of the wrong shape: transformers alone would fill it with random numbers.
"""
import argparse
import sys

import torch
import transformers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("--tokens", type=int, default=8, help="how many to generate (default: %(default)s)")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()

    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.folder)
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(arguments.folder, dtype=torch.float32,
                                                                       output_loading_info=True)
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[fault]:
            sys.exit(f"{arguments.folder}: {fault.replace('_', ' ')}: {sorted(map(str, loading[fault]))[:3]}")
    prompt = tokenizer(arguments.prompt, return_tensors="pt")
    ids = model.generate(**prompt, max_new_tokens=arguments.tokens, do_sample=False)[0]
    print(tokenizer.decode(ids, skip_special_tokens=True))


if __name__ == "__main__":
    main()
