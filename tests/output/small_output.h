#pragma once
// A complete published checkpoint of a few kilobytes, made by the same calls as a merge: three tensors in two shards.

#include "aimerge/core/version.h"
#include "aimerge/output/model_card.h"
#include "aimerge/output/output_folder.h"
#include "aimerge/output/shard_writer.h"
#include "aimerge/output/side_files.h"

#include <filesystem>
#include <vector>

namespace aimerge::test {

inline ShardLayout smallLayout() {
    return layOutShards({{"model.embed_tokens.weight", Dtype::BF16, {16, 8}},
                         {"model.norm.weight", Dtype::F32, {8}},
                         {"lm_head.weight", Dtype::BF16, {16, 8}}},
                        300);
}

/// Bytes that differ from tensor to tensor and from place to place.
inline std::vector<std::byte> contentsOf(const TensorInfo& tensor) {
    std::vector<std::byte> bytes(tensor.bytes.size());
    for (std::size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<std::byte>((i * 7 + tensor.name.size() + i / 256) % 251);
    return bytes;
}

inline void writeTensor(ShardWriter& writer, const TensorInfo& tensor) {
    writer.write(tensor.name, 0, contentsOf(tensor));
    writer.finishTensor(tensor.name);
}

inline Manifest smallManifest() {
    Manifest manifest;
    manifest.version = kVersion;
    manifest.revisions = {{"merged_values", 1}, {"statistics", 1}};
    manifest.created = "2025-01-31T12:00:00Z";
    manifest.inputDigest = "0123456789abcdef0123456789abcdef";
    manifest.method = "ties";
    manifest.omegas = {0.4};
    manifest.seeds = {{"calibration", 42}};
    manifest.base = ManifestModel{"org/base", digestOf("base header"), 544};
    manifest.experts = {{"experts/math", digestOf("math header"), 544}, {"experts/code", digestOf("code header"), 544}};
    manifest.settings = {{"density", 0.5}};
    manifest.config = "merge_method: ties\n";
    return manifest;
}

/// Fills one checkpoint folder: shards, small files, manifest.
inline void writeSmallCheckpoint(const OutputFolder& output, const std::string& folder,
                                 const std::filesystem::path& source) {
    const ShardLayout layout = smallLayout();
    const std::filesystem::path checkpoint = output.buildFolder() / folder;
    ShardWriter::createFiles(checkpoint, layout);
    Journal journal(output.partialFolder(), 0);
    ShardWriter writer(output.buildFolder(), folder, layout, journal);
    for (const OutputShard& shard : layout.shards) {
        for (const TensorInfo& tensor : shard.tensors) writeTensor(writer, tensor);
    }
    writer.sync();

    Manifest manifest = smallManifest();
    const nlohmann::ordered_json config = {{"architectures", {"LlamaForCausalLM"}}, {"tie_word_embeddings", false}};
    ModelCard card{folder.empty() ? "out" : folder,
                   CardModel{"org/base", true},
                   {{"experts/math", false}},
                   "ties",
                   "trims",
                   "",
                   {0.4},
                   "mean_abs",
                   "bfloat16",
                   manifest.config};
    manifest.files = shardEntries(layout, writer.finished());
    const std::vector<ManifestFile> side = writeSideFiles(
        checkpoint, layout,
        {withDtype(config, Dtype::BF16), source, TokenizerCopy::FromSource, modelCardText(card), manifest.config});
    manifest.files.insert(manifest.files.end(), side.begin(), side.end());
    writeManifest(checkpoint, manifest);
}

/// Publishes `parent`/out, holding the folders given: {""} or {"omega-0.4", ...}.
inline std::filesystem::path publishSmallOutput(const std::filesystem::path& parent,
                                                const std::vector<std::string>& folders = {""}) {
    const std::filesystem::path source = parent / "source";
    std::filesystem::create_directories(source);
    writeTextFile(source / "generation_config.json", "{\"eos_token_id\": 2}\n");
    writeTextFile(source / "tokenizer.json", "{\"model\": {\"vocab\": {}}}\n");
    writeTextFile(source / "pytorch_model.bin", "never copied");
    OutputFolder output = OutputFolder::acquire({parent / "out", {source}, ExistingOutput::Refuse, "test"});
    output.prepare("job");
    for (const std::string& folder : folders) writeSmallCheckpoint(output, folder, source);
    output.publish();
    return parent / "out";
}

}  // namespace aimerge::test
