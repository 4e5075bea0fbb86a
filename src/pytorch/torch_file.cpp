#include "aimerge/pytorch/torch_file.h"

#include "aimerge/core/error.h"
#include "aimerge/core/in_quotes.h"
#include "pytorch/state_dict.h"
#include "pytorch/zip_archive.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <tuple>

namespace aimerge {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPickle = "data.pkl", kByteOrder = "byteorder", kVersion = "version", kProgram = "constants.pkl";
constexpr std::string_view kStorages = "data/";
constexpr int kLatestVersion = 10;  // of the archive, that torch reads

/// What lies in the only folder of the archive, whatever its name, by the rest of the path.
using Records = std::map<std::string, ZipEntry, std::less<>>;

Records recordsOf(std::vector<ZipEntry> entries, const std::string& fileName) {
    if (entries.empty()) throw InputError("{}: is an empty archive, expected what torch.save writes", fileName);
    const std::string folder = entries.front().name.substr(0, entries.front().name.find('/') + 1);
    if (folder.empty())
        throw InputError("{}: its first entry {} lies in no folder, expected an archive as torch.save writes it", fileName,
                         inQuotes(entries.front().name));
    Records records;
    for (ZipEntry& entry : entries) {
        if (!entry.name.starts_with(folder))
            throw InputError("{}: its entry {} lies outside of its folder {}", fileName, inQuotes(entry.name),
                             inQuotes(folder));
        std::string name = entry.name.substr(folder.size());
        records.emplace(std::move(name), std::move(entry));
    }
    return records;
}

/// Empty where there is no such record.
std::string smallRecord(HeaderSource& source, const Records& records, std::string_view name) {
    constexpr std::uint64_t kLongest = 64;
    const auto record = records.find(name);
    if (record == records.end()) return {};
    const ByteRange bytes = record->second.bytes;
    return source.read(bytes.begin, std::min(bytes.size(), kLongest));
}

void checkFormat(HeaderSource& source, const Records& records) {
    const std::string fileName = source.fileName();
    if (records.contains(kProgram))
        throw InputError(
            "{}: is a TorchScript program ({}), expected a state dict; fetch the model in the Hugging Face format", fileName,
            kProgram);
    if (!records.contains(kPickle)) {
        throw InputError("{}: has no {}, but {} entries such as {}; expected what torch.save writes", fileName, kPickle,
                         records.size(), inQuotes(records.begin()->first));
    }
    const std::string order = smallRecord(source, records, kByteOrder);
    if (!order.empty() && order != "little")
        throw InputError("{}: its byteorder is {}, expected little; convert the file: {}", fileName, inQuotes(order),
                         conversionCommand(fileName));
    const std::string version = smallRecord(source, records, kVersion);
    const int number = std::atoi(version.c_str());
    if (number < 1 || number > kLatestVersion)
        throw InputError("{}: its archive version is {}, expected 1 to {}", fileName, inQuotes(version), kLatestVersion);
}

StateDict readPickle(HeaderSource& source, const ZipEntry& entry) {
    const std::string fileName = source.fileName();
    if (entry.bytes.size() > kMaxHeaderBytes)
        throw InputError("{}: {} has {} bytes, at most {} are allowed", fileName, kPickle, entry.bytes.size(),
                         kMaxHeaderBytes);
    const std::string pickle = source.read(entry.bytes.begin, entry.bytes.size());
    if (const std::uint32_t found = crc32Of(pickle); entry.crc32 != 0 && found != entry.crc32)
        throw InputError("{}: {} has CRC-32 {:08x}, its archive says {:08x}; the file is damaged, fetch it again", fileName,
                         kPickle, found, entry.crc32);
    return readStateDict(pickle, fileName);
}

/// The bytes of each storage, all of which must belong to one of the pickle.
std::vector<ByteRange> storagePlaces(const std::vector<PickledStorage>& storages, const Records& records,
                                     const std::string& fileName) {
    std::vector<ByteRange> places;
    for (const PickledStorage& storage : storages) {
        const auto record = records.find(std::string(kStorages) + storage.key);
        if (record == records.end())
            throw InputError("{}: has no entry {}, which its tensors lie in; the file is incomplete", fileName,
                             inQuotes(std::string(kStorages) + storage.key));
        std::uint64_t bytes = 0;
        const ByteRange place = record->second.bytes;
        if (__builtin_mul_overflow(storage.elements, std::uint64_t{bytesPerElement(storage.dtype)}, &bytes) ||
            bytes != place.size())
            throw InputError("{}: its entry {} has {} bytes, expected {} elements of {}", fileName,
                             inQuotes(record->second.name), place.size(), storage.elements, torchName(storage.dtype));
        places.push_back(place);
    }
    const auto isStorage = [](const auto& record) {
        return record.first.starts_with(kStorages) && record.first != kStorages;
    };
    if (const auto count = std::ranges::count_if(records, isStorage); static_cast<std::size_t>(count) != storages.size())
        throw InputError("{}: has {} storages ({}N), but {} names {}; the file is damaged", fileName, count, kStorages,
                         kPickle, storages.size());
    return places;
}

TensorInfo placed(const PickledTensor& tensor, const PickledStorage& storage, ByteRange place, const std::string& fileName) {
    const auto elements = static_cast<std::uint64_t>(elementCount(tensor.shape));
    if (elements > storage.elements || tensor.firstElement > storage.elements - elements)
        throw InputError("{}: tensor {} of shape {} begins at element {} of storage {}, which has {}", fileName,
                         inQuotes(tensor.name), shapeText(tensor.shape), tensor.firstElement, inQuotes(storage.key),
                         storage.elements);
    const std::uint64_t width = bytesPerElement(storage.dtype);
    TensorInfo info;
    info.name = tensor.name;
    info.dtype = storage.dtype;
    info.shape = tensor.shape;
    info.bytes.begin = place.begin + tensor.firstElement * width;
    info.bytes.end = info.bytes.begin + elements * width;
    return info;
}

/// Two names for the same bytes are tied weights, and each has them. What has only some bytes in common is not understood.
void checkOverlaps(const std::vector<TensorInfo>& tensors, const std::string& fileName) {
    const TensorInfo* last = nullptr;
    for (const TensorInfo& tensor : tensors) {
        if (tensor.bytes.size() == 0) continue;
        if (last != nullptr && tensor.bytes != last->bytes && tensor.bytes.begin < last->bytes.end)
            throw InputError("{}: tensors {} and {} have only a part of their bytes in common; convert the file: {}",
                             fileName, inQuotes(last->name), inQuotes(tensor.name), conversionCommand(fileName));
        last = &tensor;
    }
}

/// Says what a file is that is no zip archive.
void checkBeginning(HeaderSource& source) {
    const std::string fileName = source.fileName();
    const std::string beginning = source.readBeginning();
    if (beginsAsZip(beginning)) return;
    if (beginning.starts_with("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"))
        throw InputError("{}: is in the format of torch before 1.6, expected the zip archive of later ones; convert it: {}",
                         fileName, conversionCommand(fileName));
    throw InputError("{}: begins with {}, expected the zip archive that torch.save writes", fileName,
                     inQuotes(std::string_view(beginning).substr(0, 16)));
}

}  // namespace

std::string conversionCommand(const fs::path& file) {
    const std::string folder = file.parent_path().string();
    if (file.filename() == "adapter_model.bin")
        return fmt::format(
            "python3 -c \"import torch, safetensors.torch as s; s.save_file({{k: v.clone().contiguous() for k, v in "
            "torch.load('{0}/adapter_model.bin', weights_only=True).items()}}, '{0}/adapter_model.safetensors')\"",
            folder);
    return fmt::format(
        "python3 -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('{0}', "
        "torch_dtype='auto').save_pretrained('{0}')\"",
        folder);
}

std::vector<TensorInfo> readTorchFile(HeaderSource& source) {
    checkBeginning(source);
    const std::string fileName = source.fileName();
    const Records records = recordsOf(readZipArchive(source), fileName);
    checkFormat(source, records);
    const StateDict dict = readPickle(source, records.find(kPickle)->second);
    const std::vector<ByteRange> places = storagePlaces(dict.storages, records, fileName);
    std::vector<TensorInfo> tensors;
    for (const PickledTensor& tensor : dict.tensors)
        tensors.push_back(placed(tensor, dict.storages[tensor.storage], places[tensor.storage], fileName));
    std::ranges::sort(tensors, {},
                      [](const TensorInfo& tensor) { return std::tie(tensor.bytes.begin, tensor.bytes.end, tensor.name); });
    checkOverlaps(tensors, fileName);
    return tensors;
}

}  // namespace aimerge
