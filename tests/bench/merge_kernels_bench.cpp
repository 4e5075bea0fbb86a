// How fast every method reads, combines and rounds: the shapes of a 1.1B-parameter Llama, a base and up to three experts in
// BF16 from files in the page cache, BF16 out; nothing is written. A table in the manner of a roofline: the bytes that were
// touched (read from the files, every pass counted, and handed to the sink), and their rate as a share of what memcpy
// reaches with as many threads.
//
//     merge_kernels_bench FOLDER [threads] [repetitions] [part of a name]
//
// FOLDER (about 9 GB) is filled with synthetic models on the first run and left behind.

#include "aimerge/core/bfloat.h"
#include "aimerge/core/file.h"
#include "aimerge/core/process_limits.h"
#include "aimerge/core/random.h"
#include "aimerge/core/size_text.h"
#include "aimerge/core/thread_pool.h"
#include "aimerge/merge/merge_tensor.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

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

/// Counts what passes.
class CountingSource : public TensorSource {
public:
    CountingSource(std::shared_ptr<const TensorSource> source, std::atomic<std::uint64_t>& bytes)
        : TensorSource(source->origin(), source->dtype()), source_(std::move(source)), bytes_(bytes) {}

    void fetch(std::int64_t first, std::span<std::byte> out) const override {
        bytes_ += out.size();
        source_->fetch(first, out);
    }

private:
    std::shared_ptr<const TensorSource> source_;
    std::atomic<std::uint64_t>& bytes_;
};

class CountingSink : public MergeSink {
public:
    explicit CountingSink(std::atomic<std::uint64_t>& bytes) : bytes_(bytes) {}

    void write(std::size_t, std::size_t, std::uint64_t, std::span<const std::byte> bytes) override {
        bytes_ += bytes.size();
    }
    void finish(std::size_t) override {}

private:
    std::atomic<std::uint64_t>& bytes_;
};

/// A method with settings under which it has something to do; parameters that are not named have their defaults.
struct Run {
    std::string name;
    const Method* method;
    std::map<std::string, double> parameters;
    std::vector<std::optional<double>> omegas;
};

std::vector<Run> allRuns() {
    std::vector<Run> runs;
    for (const Method* method : methods()) {
        const MethodInfo& info = method->info();
        if (info.needs != ExpertStatistic::None) continue;  // their time is that of collecting the statistics
        runs.push_back({info.name, method, {{"weight", 0.4}, {"t", 0.4}}, {}});
        const bool hasDensity = std::ranges::find(info.parameters, "density", &ParameterSpec::name) != info.parameters.end();
        if (hasDensity && info.name != "task_arithmetic")
            runs.push_back({info.name + ", density 0.5", method, {{"weight", 0.4}, {"density", 0.5}}, {}});
    }
    runs.push_back({"sce, select_topk 0.5", &findMethod("sce", {}), {{"select_topk", 0.5}}, {}});
    const Method* sum = &findMethod("task_arithmetic", {});
    runs.push_back({"task_arithmetic, omega 0.4", sum, {{"weight", 0.4}}, {0.4}});
    runs.push_back({"task_arithmetic, 3 omegas", sum, {{"weight", 0.4}}, {0.2, 0.4, 0.6}});
    return runs;
}

std::vector<TensorMerge> mergesOf(const std::vector<Checkpoint>& models, const Run& run, std::atomic<std::uint64_t>& bytes) {
    const MethodInfo& info = run.method->info();
    const bool baseIsApart = info.base != BaseUse::Ordinary;
    const std::size_t inputs = std::min(info.maxInputs, models.size() - (baseIsApart ? 1 : 0));
    std::vector<TensorMerge> merges;
    for (const TensorInfo& tensor : models[0].tensors()) {
        TensorMerge merge;
        merge.name = tensor.name;
        merge.parameter = models[0].architecture().describe(tensor);
        merge.shape = tensor.shape;
        merge.method = run.method;
        const auto source = [&](std::size_t model) {
            const InputView view{&models[model], models[model].find(tensor.name)};
            return std::make_shared<CountingSource>(directSource(view), bytes);
        };
        if (baseIsApart || !run.omegas.empty()) merge.base = source(0);
        for (std::size_t i = 0; i < inputs; ++i) merge.inputs.push_back(source(baseIsApart ? i + 1 : i));
        for (const ParameterSpec& spec : info.parameters) {
            const auto chosen = run.parameters.find(spec.name);
            const double value = chosen != run.parameters.end() ? chosen->second : spec.fallback.value();
            merge.parameters.shared.push_back(value);
            merge.parameters.perInput.emplace_back(inputs, value);
        }
        if (!run.omegas.empty())
            merge.importance = ChannelImportance{std::vector<float>(static_cast<std::size_t>(tensor.shape.back()), 0.3f),
                                                 ChannelLayout::of(tensor.shape, -1)};
        merges.push_back(std::move(merge));
    }
    return merges;
}

struct Cost {
    double seconds, cpuSeconds, gigabytes;
};

Cost measured(std::atomic<std::uint64_t>& bytes, const std::function<void()>& work) {
    const auto cpu = [] {
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        const auto seconds = [](const timeval& time) {
            return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
        };
        return seconds(usage.ru_utime) + seconds(usage.ru_stime);
    };
    bytes = 0;
    const double cpuBefore = cpu();
    const auto before = std::chrono::steady_clock::now();
    work();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
    return {seconds, cpu() - cpuBefore, static_cast<double>(bytes) / 1e9};
}

Cost medianOf(std::vector<Cost> costs) {
    std::ranges::sort(costs, {}, &Cost::seconds);
    return costs[costs.size() / 2];
}

/// Copies buffers far larger than the caches. @return GB/s, each byte counted once
double memcpyRate(ThreadPool& threads, int repetitions) {
    constexpr std::size_t kBytes = std::size_t{256} << 20;
    const auto workers = static_cast<std::size_t>(threads.threads());
    std::vector<std::vector<std::byte>> from(workers, std::vector<std::byte>(kBytes, std::byte{1}));
    std::vector<std::vector<std::byte>> to(workers, std::vector<std::byte>(kBytes));
    std::atomic<std::uint64_t> bytes = 0;
    std::vector<Cost> costs;
    for (int i = 0; i < repetitions; ++i) {
        costs.push_back(measured(bytes, [&] {
            threads.forEach(workers, [&](std::size_t part, int) {
                std::memcpy(to[part].data(), from[part].data(), kBytes);
                bytes += kBytes;
            });
        }));
    }
    const Cost median = medianOf(costs);
    return median.gigabytes / median.seconds;
}

/// The least that any merge must do: every byte of the inputs, read once.
void readAll(const std::vector<Checkpoint>& models, ThreadPool& threads, std::atomic<std::uint64_t>& bytes) {
    std::vector<std::vector<std::byte>> buffers(static_cast<std::size_t>(threads.threads()),
                                                std::vector<std::byte>(std::size_t{1} << 20));
    for (const Checkpoint& model : models) {
        threads.forEach(model.tensors().size(), [&](std::size_t i, int worker) {
            const TensorInfo& tensor = model.tensors()[i];
            std::span<std::byte> buffer = buffers[static_cast<std::size_t>(worker)];
            for (std::uint64_t offset = 0; offset < tensor.bytes.size(); offset += buffer.size())
                model.read(tensor, offset, buffer.first(std::min<std::size_t>(buffer.size(), tensor.bytes.size() - offset)));
            bytes += tensor.bytes.size();
        });
    }
}

void benchmark(const std::filesystem::path& folder, int threadCount, int repetitions, const std::string& part) {
    ThreadPool threads(threadCount);
    const std::vector<Checkpoint> models = openModels(folder, threads);
    const double rate = memcpyRate(threads, repetitions);
    fmt::print("{} threads, medians of {}; memcpy {:.1f} GB/s\n\n", threadCount, repetitions, rate);
    fmt::print("| {:<28} | {:>6} | {:>7} | {:>6} | {:>6} | {:>6} |\n", "method", "GB", "seconds", "CPU s", "GB/s", "share");
    fmt::print("| {:-<28} | {:->5}: | {:->6}: | {:->5}: | {:->5}: | {:->5}: |\n", "", "", "", "", "", "");

    std::atomic<std::uint64_t> bytes = 0;
    const auto repeat = [&](const std::string& name, const std::function<void()>& work) {
        std::vector<Cost> costs;
        for (int i = 0; i < repetitions; ++i) costs.push_back(measured(bytes, work));
        const Cost median = medianOf(std::move(costs));
        fmt::print("| {:<28} | {:>6.1f} | {:>7.2f} | {:>6.2f} | {:>6.1f} | {:>5.0f}% |\n", name, median.gigabytes,
                   median.seconds, median.cpuSeconds, median.gigabytes / median.seconds,
                   100 * median.gigabytes / median.seconds / rate);
        std::fflush(stdout);
    };
    repeat("reading the files", [&] { readAll(models, threads, bytes); });
    for (const Run& run : allRuns()) {
        if (run.name.find(part) == std::string::npos) continue;
        const std::vector<TensorMerge> merges = mergesOf(models, run, bytes);
        CountingSink sink(bytes);
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
    aimerge::benchmark(arguments[1],
                       count > 2 ? std::stoi(arguments[2]) : static_cast<int>(aimerge::usableProcessors().size()),
                       count > 3 ? std::stoi(arguments[3]) : 5, count > 4 ? arguments[4] : "");
}
