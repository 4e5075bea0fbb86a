// How fast the merge room reads, combines and rounds: the shapes of a 1.1B-parameter Llama, BF16 in and out, 4 models, files
// in the page cache; nothing is written.
//
//     merge_kernels_bench FOLDER [threads] [repetitions] [part of a name]
//
// FOLDER (about 9 GB) is filled with synthetic models on the first run and left behind.

#include "aimerge/core/bfloat.h"
#include "aimerge/core/file.h"
#include "aimerge/core/random.h"
#include "aimerge/core/size_text.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/merge/merge_tensor.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>

namespace aimerge {
namespace {

constexpr std::int64_t kLayers = 22, kHidden = 2048, kIntermediate = 5632, kKeyValue = 256, kVocabulary = 32000;
constexpr std::size_t kModels = 4;

std::vector<std::pair<std::string, Shape>> llamaTensors() {
    std::vector<std::pair<std::string, Shape>> tensors{{"model.embed_tokens.weight", {kVocabulary, kHidden}}};
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
        const std::string prefix = fmt::format("model.layers.{}.", layer);
        tensors.push_back({prefix + "self_attn.q_proj.weight", {kHidden, kHidden}});
        tensors.push_back({prefix + "self_attn.k_proj.weight", {kKeyValue, kHidden}});
        tensors.push_back({prefix + "self_attn.v_proj.weight", {kKeyValue, kHidden}});
        tensors.push_back({prefix + "self_attn.o_proj.weight", {kHidden, kHidden}});
        tensors.push_back({prefix + "mlp.gate_proj.weight", {kIntermediate, kHidden}});
        tensors.push_back({prefix + "mlp.up_proj.weight", {kIntermediate, kHidden}});
        tensors.push_back({prefix + "mlp.down_proj.weight", {kHidden, kIntermediate}});
        tensors.push_back({prefix + "input_layernorm.weight", {kHidden}});
        tensors.push_back({prefix + "post_attention_layernorm.weight", {kHidden}});
    }
    tensors.push_back({"model.norm.weight", {kHidden}});
    tensors.push_back({"lm_head.weight", {kVocabulary, kHidden}});
    return tensors;
}

/// Nearly normal numbers: four 8-bit uniform ones added up.
float nearlyNormal(std::uint32_t word) {
    const std::uint32_t sum = (word & 255u) + ((word >> 8) & 255u) + ((word >> 16) & 255u) + (word >> 24);
    return (static_cast<float>(sum) - 510.0f) / 148.0f;
}

/// Model 0 is the base, with deviation 0.02; the others differ from it by 0.002.
std::vector<std::uint16_t> valuesOf(std::size_t model, std::uint64_t tensor, std::int64_t count) {
    std::vector<std::uint16_t> values(static_cast<std::size_t>(count));
    const RandomStream base{.seed = 1, .stream = tensor}, change{.seed = model + 1, .stream = tensor};
    for (std::size_t i = 0; i < values.size(); i += 4) {
        const PhiloxBlock b = base.block(i / 4), c = change.block(i / 4);
        for (std::size_t j = 0; j < std::min<std::size_t>(4, values.size() - i); ++j) {
            const float own = floatFromBf16(bf16FromFloat(0.02f * nearlyNormal(b.word[j])));
            values[i + j] = bf16FromFloat(model == 0 ? own : own + 0.002f * nearlyNormal(c.word[j]));
        }
    }
    return values;
}

void writeModel(const std::filesystem::path& folder, std::size_t model) {
    std::filesystem::create_directories(folder);
    nlohmann::ordered_json header;
    std::uint64_t offset = 0;
    for (const auto& [name, shape] : llamaTensors()) {
        const std::uint64_t bytes = 2 * static_cast<std::uint64_t>(elementCount(shape));
        header[name] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
        offset += bytes;
    }
    const std::string text = header.dump();
    std::string length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(std::uint64_t{text.size()} >> (8 * i) & 0xFF);

    File file = File::openForWriting(folder / "model.safetensors");
    file.resize(0);
    file.append(length + text);
    std::uint64_t number = 0;
    for (const auto& [name, shape] : llamaTensors()) {
        const std::vector<std::uint16_t> values = valuesOf(model, number++, elementCount(shape));
        file.append({reinterpret_cast<const char*>(values.data()), 2 * values.size()});
    }
    writeTextFile(folder / "config.json",
                  R"({"architectures": ["Benchmark"], "model_type": "benchmark"})");  // last: complete
}

std::vector<Checkpoint> openModels(const std::filesystem::path& folder, ThreadPool& threads) {
    threads.forEach(kModels, [&](std::size_t model, int) {
        const std::filesystem::path path = folder / fmt::format("model-{}", model);
        if (!std::filesystem::exists(path / "config.json")) writeModel(path, model);
    });
    std::vector<Checkpoint> models;
    for (std::size_t i = 0; i < kModels; ++i)
        models.push_back(Checkpoint::open((folder / fmt::format("model-{}", i)).string()));
    return models;
}

class NoSink : public MergeSink {
    void write(std::size_t, std::size_t, std::uint64_t, std::span<const std::byte>) override {}
    void finish(std::size_t) override {}
};

struct Run {
    std::string name;
    const Method* method;
    double density;
    std::vector<double> omegas;
};

std::vector<TensorMerge> mergesOf(const std::vector<Checkpoint>& models, const Run& run) {
    std::vector<TensorMerge> merges;
    for (const TensorInfo& tensor : models[0].tensors()) {
        TensorMerge merge{tensor.name, tensor.shape, Dtype::BF16, run.method, {}, {}, {}, {}, {}};
        std::vector<std::shared_ptr<const TensorSource>> sources;
        for (const Checkpoint& model : models) sources.push_back(directSource({&model, model.find(tensor.name)}));
        merge.base = sources[0];
        const bool takesBase = run.method->info().base == BaseUse::Required;
        merge.inputs.assign(sources.begin() + (takesBase ? 1 : 0), sources.end());
        for (const ParameterSpec& spec : run.method->info().parameters) {
            const double value = spec.name == "density" ? run.density : spec.fallback.value_or(0.4);
            merge.parameters.shared.push_back(value);
            merge.parameters.perInput.emplace_back(merge.inputs.size(), value);
        }
        if (!run.omegas.empty()) merge.importance.emplace(static_cast<std::size_t>(tensor.shape.back()), 0.3f);
        merges.push_back(std::move(merge));
    }
    return merges;
}

struct Cost {
    double seconds, cpuSeconds;
};

Cost measured(const std::function<void()>& work) {
    const auto cpu = [] {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        const auto seconds = [](const timeval& time) {
            return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
        };
        return seconds(usage.ru_utime) + seconds(usage.ru_stime);
    };
    const double cpuBefore = cpu();
    const auto before = std::chrono::steady_clock::now();
    work();
    return {std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count(), cpu() - cpuBefore};
}

/// The least that any merge must do: every byte of the inputs, read once.
void readAll(const std::vector<Checkpoint>& models, ThreadPool& threads) {
    std::vector<std::vector<std::byte>> buffers(static_cast<std::size_t>(threads.threads()),
                                                std::vector<std::byte>(std::size_t{1} << 20));
    for (const Checkpoint& model : models) {
        threads.forEach(model.tensors().size(), [&](std::size_t i, int worker) {
            const TensorInfo& tensor = model.tensors()[i];
            std::span<std::byte> buffer = buffers[static_cast<std::size_t>(worker)];
            for (std::uint64_t offset = 0; offset < tensor.bytes.size(); offset += buffer.size())
                model.read(tensor, offset, buffer.first(std::min<std::size_t>(buffer.size(), tensor.bytes.size() - offset)));
        });
    }
}

void report(const std::string& name, std::vector<Cost> costs, std::uint64_t bytes) {
    std::ranges::sort(costs, {}, &Cost::seconds);
    const Cost median = costs[costs.size() / 2];
    fmt::print("{:<34} {:>7.2f} s {:>7.2f} s {:>8.1f} GB/s   (least {:.2f} s)\n", name, median.seconds, median.cpuSeconds,
               static_cast<double>(bytes) / median.seconds / 1e9, costs.front().seconds);
}

void benchmark(const std::filesystem::path& folder, int threadCount, int repetitions, const std::string& part) {
    ThreadPool threads(threadCount);
    const std::vector<Checkpoint> models = openModels(folder, threads);
    std::uint64_t bytes = 0;
    for (const Checkpoint& model : models) bytes += model.totalBytes();
    fmt::print("{} models, {} of input, {} threads, median of {}\n", kModels, formatBytes(bytes), threadCount, repetitions);
    fmt::print("{:<34} {:>9} {:>9} {:>13}\n", "", "time", "CPU", "input");

    const auto repeat = [&](const std::string& name, const std::function<void()>& work) {
        std::vector<Cost> costs;
        for (int i = 0; i < repetitions; ++i) costs.push_back(measured(work));
        report(name, std::move(costs), bytes);
    };
    repeat("read only", [&] { readAll(models, threads); });
    const std::vector<Run> runs{
        {"linear", &findMethod("linear", {}), 1, {}},
        {"task_arithmetic", &findMethod("task_arithmetic", {}), 1, {}},
        {"task_arithmetic, omega 0.4", &findMethod("task_arithmetic", {}), 1, {0.4}},
        {"task_arithmetic, 3 values of omega", &findMethod("task_arithmetic", {}), 1, {0.2, 0.4, 0.6}},
        {"ties", &findMethod("ties", {}), 1, {}},
        {"ties, density 0.5", &findMethod("ties", {}), 0.5, {}},
        {"ties, density 0.2", &findMethod("ties", {}), 0.2, {}}};
    for (const Run& run : runs) {
        if (run.name.find(part) == std::string::npos) continue;
        const std::vector<TensorMerge> merges = mergesOf(models, run);
        NoSink sink;
        repeat(run.name, [&] { mergeTensors(merges, run.omegas, DeltaRounding::None, threads, sink); });
    }
}

}  // namespace
}  // namespace aimerge

int main(int count, char** arguments) {
    if (count < 2) {
        fmt::print(stderr, "usage: merge_kernels_bench FOLDER [threads] [repetitions] [part of a name]\n");
        return 2;
    }
    aimerge::benchmark(arguments[1], count > 2 ? std::stoi(arguments[2]) : aimerge::availableThreads(),
                       count > 3 ? std::stoi(arguments[3]) : 5, count > 4 ? arguments[4] : "");
}
