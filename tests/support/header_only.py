"""Checkpoints whose weights are holes in their files: as large as the real ones for whoever reads headers, and a few MB on disk."""
import json
import math


def byte_count(shape):
    return 2 * math.prod(shape)


def write_shard(path, tensors):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + byte_count(shape)]}
        offset += byte_count(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(file.tell() + offset)


def write_model(folder, named, config, shards):
    """`named`: {parameter: shape}, in the order of the files; `config`: that of config.json."""
    folder.mkdir(parents=True)
    names = list(named)
    per_shard = -(-len(names) // shards)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        own = {name: named[name] for name in names[shard * per_shard:(shard + 1) * per_shard]}
        write_shard(folder / file, own)
        weight_map.update(dict.fromkeys(own, file))
    total = sum(map(byte_count, named.values()))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(config))
    return folder
