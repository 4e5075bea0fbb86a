#!/usr/bin/env python3
"""Simulated times of calibration and merge on 4 to 128 GPUs, for models of 13 to 671 billion parameters from their headers: the tables of
docs/cluster.md, and its figure.

    build/venv/bin/python tests/bench/scale_figure.py --out docs
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from header_only import write_model  # noqa: E402
from llama_shapes import llama_config, llama_shapes  # noqa: E402
from measure import ROOT, table  # noqa: E402

BENCH = ROOT / "build" / "cpu" / "bin" / "scale_bench"
EXPERTS, SEQUENCES, LENGTH = 3, 256, 2048
# nodes, GPUs of each
MACHINES = [(1, 4), (4, 1), (1, 8), (2, 4), (4, 8), (8, 4), (16, 2), (16, 8)]
DRAWN = [(1, 4), (1, 8), (4, 8), (16, 8)]
ACTIVITIES = {"reading": "#4477aa", "computing": "#228833", "links": "#ee6677", "gathering": "#aa3377", "writing": "#ccbb44",
              "waiting": "#dddddd"}

# A node of H100 as configs/hardware/h100x8-16nodes.yaml has it; processors, cards and cores go with the GPUs.
NODE = """nodes: {nodes}
gpus_per_node: {gpus}
gpu: {{tflops: 400, memory: 80 GB, memory_bandwidth: 3 TB/s}}
cpu: {{cores_per_node: {cores}, merge: 0.5 GB/s, digest: 5 GB/s}}
link: {{within_node: 300 GB/s, between_nodes: {link} GB/s, latency: 20 us}}
storage: {{read_per_node: 20 GB/s, write_per_node: 10 GB/s, read_total: 160 GB/s, write_total: 80 GB/s}}
"""


def mixture_shapes(hidden, attention, layers, dense_layers, dense_width, experts, width, shared_width, router, vocabulary):
    """{parameter: shape} of a mixture of experts. `attention`: {module: shape}; `router`: its name."""
    named = {"model.embed_tokens.weight": [vocabulary, hidden]}

    def add_mlp(prefix, wide):
        named.update({f"{prefix}.gate_proj.weight": [wide, hidden], f"{prefix}.up_proj.weight": [wide, hidden],
                      f"{prefix}.down_proj.weight": [hidden, wide]})

    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        named.update({f"{prefix}.self_attn.{module}.weight": shape for module, shape in attention.items()})
        if layer < dense_layers:
            add_mlp(f"{prefix}.mlp", dense_width)
        else:
            named[f"{prefix}.mlp.{router}.weight"] = [experts, hidden]
            for expert in range(experts):
                add_mlp(f"{prefix}.mlp.experts.{expert}", width)
            if shared_width:
                add_mlp(f"{prefix}.mlp.shared_experts", shared_width)
        named.update({f"{prefix}.input_layernorm.weight": [hidden], f"{prefix}.post_attention_layernorm.weight": [hidden]})
    return {**named, "model.norm.weight": [hidden], "lm_head.weight": [vocabulary, hidden]}


def qwen3_235b():
    attention = {"q_proj": [8192, 4096], "k_proj": [512, 4096], "v_proj": [512, 4096], "o_proj": [4096, 8192], "q_norm": [128],
                 "k_norm": [128]}
    config = {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 4096, "intermediate_size": 12288,
              "moe_intermediate_size": 1536, "num_hidden_layers": 94, "num_attention_heads": 64, "num_key_value_heads": 4,
              "head_dim": 128, "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936, "rms_norm_eps": 1e-6,
              "rope_theta": 1e6, "max_position_embeddings": 40960, "hidden_act": "silu", "tie_word_embeddings": False,
              "torch_dtype": "bfloat16"}
    return mixture_shapes(4096, attention, 94, 0, 0, 128, 1536, 0, "gate", 151936), config


def deepseek_671b():
    attention = {"q_a_proj": [1536, 7168], "q_a_layernorm": [1536], "q_b_proj": [24576, 1536], "kv_a_proj_with_mqa": [576, 7168],
                 "kv_a_layernorm": [512], "kv_b_proj": [32768, 512], "o_proj": [7168, 16384]}
    config = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
              "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
              "num_key_value_heads": 128, "head_dim": 192, "n_routed_experts": 256, "num_experts_per_tok": 8, "n_shared_experts": 1,
              "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
              "v_head_dim": 128, "vocab_size": 129280, "rms_norm_eps": 1e-6, "rope_theta": 10000, "max_position_embeddings": 4096,
              "hidden_act": "silu", "tie_word_embeddings": False, "torch_dtype": "bfloat16"}
    return mixture_shapes(7168, attention, 61, 3, 18432, 256, 2048, 2048, "gate", 129280), config


def llama(*size, layers):
    return llama_shapes(*size, layers), llama_config(*size, layers, positions=4096)


MODELS = {
    "13B": lambda: llama(5120, 13824, 40, 40, 32000, layers=40),
    "70B": lambda: llama(8192, 28672, 64, 8, 32000, layers=80),
    "235B, 128 experts": qwen3_235b,
    "671B, 256 experts": deepseek_671b,
}


def simulate(folder, make):
    """{(nodes, GPUs): line of scale_bench}"""
    model = write_model(folder / "model", *make(), shards=15)
    machines = []
    for nodes, gpus in MACHINES:
        machines.append(folder / f"{nodes}x{gpus}.yaml")
        machines[-1].write_text(NODE.format(nodes=nodes, gpus=gpus, cores=14 * gpus, link=45 * gpus))
    told = subprocess.run([BENCH, model, str(EXPERTS), str(SEQUENCES), str(LENGTH), *machines], check=True, stdout=subprocess.PIPE,
                          text=True).stdout
    return dict(zip(MACHINES, map(json.loads, told.splitlines())))


def phase(line, name, of="phases"):
    return next(entry for entry in line[of] if entry["phase"] == name)


def duration(seconds):
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def limit_of(entry):
    """What most of the ranks' time goes to."""
    shares = entry["shares"]
    most = max(shares, key=shares.get)
    return f"{most} {100 * shares[most]:.0f} %"


def print_tables(times):
    rows = []
    for model, lines in times.items():
        for (nodes, gpus), line in lines.items():
            calibrate, merge = phase(line, "calibrate"), phase(line, "merge")
            stages = line["ranks"] // line["replicas"]
            rows.append([model, f"{nodes} x {gpus}", duration(phase(line, "prepare")["seconds"]),
                         duration(calibrate["seconds"]), limit_of(calibrate), f"{stages} x {line['replicas']}"
                         + (", streamed" if line["streaming"] else ""), str(calibrate["idle_ranks"]),
                         duration(merge["seconds"]), limit_of(merge), duration(phase(line, "merge", "gathered")["seconds"])])
    print(table(["model", "nodes x GPUs", "prepare", "calibrate", "mostly", "stages x replicas", "idle", "merge", "mostly",
                 "merge, --gather root"], rows))
    for model, lines in times.items():
        line = next(iter(lines.values()))
        print(f"{model}: {line['bytes'] / 1e9:.0f} GB, {line['flops'] / 1e15:.1f} PFLOP", file=sys.stderr)


def draw(times, path):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    plt.rcParams.update({"font.size": 9, "axes.titlesize": 9, "axes.spines.top": False, "axes.spines.right": False,
                         "axes.axisbelow": True, "grid.color": "0.9", "svg.fonttype": "path", "svg.hashsalt": "aimerge",
                         "figure.facecolor": "white"})
    figure, axes = plt.subplots(2, len(times), figsize=(10, 5), layout="constrained")
    for column, (model, lines) in enumerate(times.items()):
        for row, name in enumerate(("calibrate", "merge")):
            axis = axes[row][column]
            for place, machine in enumerate(DRAWN):
                entry, bottom = phase(lines[machine], name), 0
                for activity, colour in ACTIVITIES.items():
                    height = entry["seconds"] * entry["shares"][activity]
                    axis.bar(place, height, bottom=bottom, color=colour, width=0.75, label=activity if place == 0 else None)
                    bottom += height
            axis.set_xticks(range(len(DRAWN)), [str(nodes * gpus) for nodes, gpus in DRAWN])
            axis.grid(axis="y")
            axis.set_title(model if row == 0 else "")
            if column == 0:
                axis.set_ylabel(f"{name}, seconds")
            if row == 1:
                axis.set_xlabel("GPUs")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=len(ACTIVITIES), frameon=False)
    figure.savefig(path, metadata={"Date": None})
    path.write_text(re.sub(r"<metadata>.*?</metadata>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, help="folder for cluster-scale.svg (default: no figure)")
    arguments = parser.parse_args()
    times = {}
    for name, make in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            times[name] = simulate(pathlib.Path(folder), make)
    print_tables(times)
    if arguments.out:
        draw(times, arguments.out / "cluster-scale.svg")


if __name__ == "__main__":
    main()
