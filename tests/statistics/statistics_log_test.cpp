#include "aimerge/statistics/statistics_log.h"
#include "aimerge/core/error.h"
#include "aimerge/core/file.h"
#include "statistics/hdf5_object.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace aimerge {
namespace {

using testing::HasSubstr;

class StatisticsLogTest : public testing::Test {
protected:
    void SetUp() override {
        const auto* info = testing::UnitTest::GetInstance()->current_test_info();
        folder_ = std::filesystem::path(testing::TempDir()) / (std::string("statistics_log_") + info->name());
        std::filesystem::remove_all(folder_);
        std::filesystem::create_directories(folder_);
        path_ = folder_ / "stats.h5";
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    static StatisticsLog sampleLog() {
        StatisticsLog log;
        log.origin.baseModel = "org/base";
        log.origin.baseDigest = "00ff";
        log.origin.baseFileStamps = "model.safetensors 12 34";
        log.origin.baseConfig = "{\"model_type\": \"llama\", \"architectures\": [\"\xc3\x84\"]}\n";
        log.origin.corpus = "corpus with \xc3\xa4.jsonl";
        log.origin.tokensDigest = "abcd";
        log.origin.tokens = 512;
        log.origin.blocks = 8;
        log.origin.blockLength = 64;
        log.origin.dtype = "bfloat16";
        log.origin.microBatch = 2;
        log.origin.vocabulary = "";
        log.origin.device = "NVIDIA H100";
        log.origin.ranks = 3;
        log.origin.threadsPerRank = 2;
        log.origin.commandLine = "aimerge calibrate demo.yaml";
        log.origin.created = "2030-01-01T00:00:00Z";
        log.origin.toolVersion = "1";
        log.origin.revision = 7;
        log.origin.machines = "rank 0: node1\nranks 1-2: node2";
        log.modules["model.layers.0.self_attn.q_proj"] = {{0.5f, 1.25f}, {1, 2}, {3, 4}, 512};
        log.modules["lm_head"] = {{0.0f}, {0.125f}, {9}, 512};
        log.modules["model.layers.0.experts.down_proj"] = {
            .meanAbs = {1, 2, 0, 0, 3, 4},
            .rms = {2, 3, 0, 0, 4, 5},
            .maxAbs = {3, 4, 0, 0, 5, 6},
            .tokens = 1000,
            .experts = 3,
            .expertTokens = {700, 0, 300},
            .inputAxis = -2,
        };
        log.stages = {{0, 0, 1, 1.5, 0.25, 0.125, 1 << 20}, {1, 2, 2, 1, 2, 3, 4}, {2, 3, 2, 0, 0, 0, 5}};
        return log;
    }

    std::filesystem::path folder_, path_;
};

/// Takes the checksum off and changes the rest.
void inFile(const std::filesystem::path& path, const std::function<void(hid_t)>& change) {
    writeTextFile(path, readTextFile(path).substr(512));
    const hdf5::FileObject file(H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT));
    change(file.id());
}

TEST_F(StatisticsLogTest, ReadsBackWhatWasWritten) {
    const StatisticsLog log = sampleLog();

    writeStatisticsLog(path_, log);
    const StatisticsLog read = readStatisticsLog(path_);

    EXPECT_EQ(read.modules, log.modules);
    EXPECT_EQ(read.origin.baseModel, log.origin.baseModel);
    EXPECT_EQ(read.origin.baseFileStamps, log.origin.baseFileStamps);
    EXPECT_EQ(read.origin.baseConfig, log.origin.baseConfig);
    EXPECT_EQ(read.origin.corpus, log.origin.corpus);
    EXPECT_EQ(read.origin.tokens, 512);
    EXPECT_EQ(read.origin.blockLength, 64);
    EXPECT_EQ(read.origin.vocabulary, "");
    EXPECT_EQ(read.origin.ranks, 3);
    EXPECT_EQ(read.origin.toolVersion, "1");
    EXPECT_EQ(read.origin.revision, 7);
    EXPECT_EQ(read.origin.machines, "rank 0: node1\nranks 1-2: node2");
    ASSERT_EQ(read.stages.size(), 3u);
    EXPECT_EQ(read.stages[1].rank, 1);
    EXPECT_EQ(read.stages[1].lastLayer, 2);
    EXPECT_EQ(read.stages[0].waitSeconds, 0.25);
    EXPECT_EQ(read.stages[2].peakMemoryBytes, 5);
}

TEST_F(StatisticsLogTest, ALogWithoutExpertsAndConfigIsReadAsBefore) {
    StatisticsLog log = sampleLog();
    log.modules.erase("model.layers.0.experts.down_proj");
    log.origin.baseConfig.clear();
    log.origin.revision = 0;
    log.origin.machines.clear();

    writeStatisticsLog(path_, log);

    inFile(path_, [](hid_t file) {
        EXPECT_EQ(H5Lexists(file, "/base_config", H5P_DEFAULT), 0);
        EXPECT_EQ(H5Aexists(file, "revision"), 0);
        EXPECT_EQ(H5Aexists(file, "machines"), 0);
        const hdf5::Group group(H5Gopen2(file, "/statistics/lm_head", H5P_DEFAULT));
        EXPECT_EQ(H5Aexists(group.id(), "input_axis"), 0);
    });
    EXPECT_EQ(readStatisticsLog(path_).modules, log.modules);
    EXPECT_EQ(readStatisticsOrigin(path_).baseConfig, "");
}

TEST_F(StatisticsLogTest, AContradictionIsNotWritten) {
    StatisticsLog log = sampleLog();
    log.modules["lm_head"].experts = 2;

    EXPECT_THROW(writeStatisticsLog(path_, log), std::logic_error);
    EXPECT_FALSE(std::filesystem::exists(path_));
}

/// Larger than what is passed on at a time, so that it comes in several parts; and a vector.
TEST_F(StatisticsLogTest, SensitivitiesLieWhereTheirPlacesSay) {
    const std::vector<std::vector<std::int64_t>> shapes{{1100, 1000}, {7}};
    const auto valueOf = [](std::size_t parameter, std::int64_t e) {
        return static_cast<float>(e) + 0.5f * static_cast<float>(parameter);
    };
    std::vector<SensitivityValues> values;
    for (std::size_t p = 0; p < shapes.size(); ++p)
        values.push_back({"p" + std::to_string(p), shapes[p], [&, p](std::int64_t first, std::span<float> out) {
                              for (std::size_t i = 0; i < out.size(); ++i)
                                  out[i] = valueOf(p, first + static_cast<std::int64_t>(i));
                          }});

    writeStatisticsLog(path_, sampleLog(), values);

    EXPECT_EQ(readStatisticsLog(path_).modules, sampleLog().modules);
    const std::vector<SensitivityPlace> places = readSensitivityPlaces(path_);
    ASSERT_EQ(places.size(), 2u);
    const File file = File::openForReading(path_);
    for (std::size_t p = 0; p < places.size(); ++p) {
        EXPECT_EQ(places[p].parameter, values[p].parameter);
        EXPECT_EQ(places[p].shape, shapes[p]);
        std::vector<float> stored(p == 0 ? 1100 * 1000 : 7);
        file.readAt(places[p].begin, std::as_writable_bytes(std::span(stored)));
        for (std::size_t e = 0; e < stored.size(); ++e) ASSERT_EQ(stored[e], valueOf(p, static_cast<std::int64_t>(e))) << e;
    }
}

TEST_F(StatisticsLogTest, DamagedSensitivitiesAreFound) {
    writeStatisticsLog(path_, sampleLog(), std::vector<SensitivityValues>{{"p", {3}, [](std::int64_t, std::span<float> out) {
                                                                               std::ranges::fill(out, 1.0f);
                                                                           }}});
    const std::uint64_t begin = readSensitivityPlaces(path_).at(0).begin;
    File file = File::openForWriting(path_);
    file.writeAt(begin + 4, std::as_bytes(std::span("x", 1)));

    EXPECT_THROW(readSensitivityPlaces(path_), InputError);
    EXPECT_THROW(readStatisticsLog(path_), InputError);
}

TEST_F(StatisticsLogTest, ALogWithoutSensitivitiesHasNoPlaces) {
    writeStatisticsLog(path_, sampleLog());

    EXPECT_TRUE(readSensitivityPlaces(path_).empty());
}

TEST_F(StatisticsLogTest, OriginAloneIsThatOfTheLog) {
    writeStatisticsLog(path_, sampleLog());

    const StatisticsOrigin origin = readStatisticsOrigin(path_);

    EXPECT_EQ(origin.tokensDigest, "abcd");
    EXPECT_EQ(origin.microBatch, 2);
}

TEST_F(StatisticsLogTest, LeavesNoTemporaryFileAndReplacesAnOlderLog) {
    writeStatisticsLog(path_, sampleLog());
    StatisticsLog second = sampleLog();
    second.origin.blocks = 9;

    writeStatisticsLog(path_, second);

    EXPECT_EQ(readStatisticsOrigin(path_).blocks, 9);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator()), 1);
}

TEST_F(StatisticsLogTest, TheSameLogGivesTheSameBytes) {
    writeStatisticsLog(path_, sampleLog());
    writeStatisticsLog(folder_ / "again.h5", sampleLog());

    EXPECT_EQ(readTextFile(path_), readTextFile(folder_ / "again.h5"));
}

TEST_F(StatisticsLogTest, AFolderThatIsNotThereIsAFaultNamingTheFile) {
    const std::filesystem::path path = folder_ / "absent" / "stats.h5";

    try {
        writeStatisticsLog(path, sampleLog());
        FAIL() << "no exception";
    } catch (const RuntimeFault& fault) {
        EXPECT_THAT(fault.what(), HasSubstr((folder_ / "absent").string()));
        EXPECT_THAT(fault.what(), HasSubstr("cannot be opened for writing: No such file"));
    }
}

struct BadLog {
    const char* name;
    std::function<void(const std::filesystem::path&)> spoil;  // of a good log
    std::vector<std::string> message;
};

void PrintTo(const BadLog& bad, std::ostream* out) {
    *out << bad.name;
}

void setFirstValue(const std::filesystem::path& path, const char* object, float value) {
    inFile(path, [&](hid_t file) {
        const hdf5::Dataset dataset(H5Dopen2(file, object, H5P_DEFAULT));
        const hdf5::Space space(H5Dget_space(dataset.id()));
        std::vector<float> values(static_cast<std::size_t>(H5Sget_simple_extent_npoints(space.id())));
        H5Dread(dataset.id(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
        values.at(0) = value;
        H5Dwrite(dataset.id(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    });
}

void addIntegers(hid_t owner, const char* name, const std::vector<std::int64_t>& values) {
    const hsize_t extent = values.size();
    const hdf5::Space space(H5Screate_simple(1, &extent, nullptr));
    const hdf5::Attribute attribute(H5Acreate2(owner, name, H5T_NATIVE_INT64, space.id(), H5P_DEFAULT, H5P_DEFAULT));
    H5Awrite(attribute.id(), H5T_NATIVE_INT64, values.data());
}

void setTokens(const std::filesystem::path& path, const char* module, const std::vector<std::int64_t>& tokens) {
    inFile(path, [&](hid_t file) {
        const hdf5::Group group(H5Gopen2(file, module, H5P_DEFAULT));
        H5Adelete(group.id(), "tokens");
        addIntegers(group.id(), "tokens", tokens);
    });
}

/// Ones in another shape.
void replaceValues(const std::filesystem::path& path, const char* object, const std::vector<hsize_t>& extent) {
    inFile(path, [&](hid_t file) {
        H5Ldelete(file, object, H5P_DEFAULT);
        const hdf5::Space space(H5Screate_simple(static_cast<int>(extent.size()), extent.data(), nullptr));
        const hdf5::Dataset dataset(
            H5Dcreate2(file, object, H5T_NATIVE_FLOAT, space.id(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        const std::vector<float> values(8, 1.0f);
        H5Dwrite(dataset.id(), H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    });
}

void setBaseConfig(const std::filesystem::path& path, const char* text) {
    inFile(path, [&](hid_t file) {
        const hdf5::Dataset dataset(H5Dopen2(file, "/base_config", H5P_DEFAULT));
        const hdf5::Type type(H5Dget_type(dataset.id()));
        H5Dwrite(dataset.id(), type.id(), H5S_ALL, H5S_ALL, H5P_DEFAULT, &text);
    });
}

constexpr const char* kExperts = "/statistics/model.layers.0.experts.down_proj";
constexpr const char* kQueryMean = "/statistics/model.layers.0.self_attn.q_proj/mean_abs";

const BadLog kBadLogs[] = {
    {"Absent", [](const auto& path) { std::filesystem::remove(path); }, {"no such file"}},
    {"Text", [](const auto& path) { writeTextFile(path, "mean_abs: 1\n"); }, {"not an HDF5 file"}},
    {"Empty", [](const auto& path) { writeTextFile(path, ""); }, {"not an HDF5 file"}},
    {"Truncated",
     [](const auto& path) {
         inFile(path, [](hid_t) {});
         std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
     },
     {"cannot be opened", "truncated"}},
    {"CutShort",
     [](const auto& path) { std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1); },
     {"its checksum does not fit"}},
    {"CutWithinTheChecksum",
     [](const auto& path) { std::filesystem::resize_file(path, 100); },
     {"its checksum does not fit"}},
    {"FlippedBit",
     [](const auto& path) {
         std::string bytes = readTextFile(path);
         bytes[bytes.size() / 2] ^= 1;
         writeTextFile(path, bytes);
     },
     {"its checksum does not fit"}},
    {"TwoNumbersForOne",
     [](const auto& path) {
         inFile(path, [](hid_t file) {
             H5Adelete(file, "tokens");
             addIntegers(file, "tokens", {1, 2});
         });
     },
     {"attribute tokens of / has 2 values, expected one"}},
    {"OtherVersion",
     [](const auto& path) {
         inFile(path, [](hid_t file) {
             const hdf5::Attribute attribute(H5Aopen(file, "format_version", H5P_DEFAULT));
             const std::int64_t version = 7;
             H5Awrite(attribute.id(), H5T_NATIVE_INT64, &version);
         });
     },
     {"format_version is 7", "reads 1"}},
    {"NoVersion",
     [](const auto& path) { inFile(path, [](hid_t file) { H5Adelete(file, "format_version"); }); },
     {"attribute format_version of /", "cannot be opened"}},
    {"NoOriginField",
     [](const auto& path) { inFile(path, [](hid_t file) { H5Adelete(file, "corpus"); }); },
     {"attribute corpus of /"}},
    {"NoDataset",
     [](const auto& path) { inFile(path, [](hid_t file) { H5Ldelete(file, "/statistics/lm_head/rms", H5P_DEFAULT); }); },
     {"/statistics/lm_head/rms cannot be opened"}},
    {"NoStatistics",
     [](const auto& path) { inFile(path, [](hid_t file) { H5Ldelete(file, "/statistics", H5P_DEFAULT); }); },
     {"/statistics cannot be opened"}},
    {"NotANumber",
     [](const auto& path) { setFirstValue(path, kQueryMean, std::numeric_limits<float>::quiet_NaN()); },
     {kQueryMean, "nan", "channel 0"}},
    {"Negative", [](const auto& path) { setFirstValue(path, kQueryMean, -2); }, {kQueryMean, "-2", "channel 0"}},
    {"Infinite",
     [](const auto& path) { setFirstValue(path, kQueryMean, std::numeric_limits<float>::infinity()); },
     {kQueryMean, "inf"}},
    {"UnequalLengths",
     [](const auto& path) { replaceValues(path, "/statistics/lm_head/rms", {3}); },
     {"/statistics/lm_head", "mean_abs has shape [1], rms [3]"}},
    {"NegativeTokens", [](const auto& path) { setTokens(path, "/statistics/lm_head", {-1}); }, {"tokens is -1"}},
    {"TokensOfTooFewExperts",
     [](const auto& path) {
         setTokens(path, kExperts, {3, 0});
     },
     {"attribute tokens of /statistics/model.layers.0.experts.down_proj has 2 values, expected 3"}},
    {"NegativeTokensOfAnExpert",
     [](const auto& path) {
         setTokens(path, kExperts, {3, 0, -5});
     },
     {kExperts, "tokens of expert 2 is -5, expected a count"}},
    {"TokensWithoutEnd",
     [](const auto& path) {
         setTokens(path, kExperts, {3, 0, std::numeric_limits<std::int64_t>::max()});
     },
     {kExperts, "tokens of expert 2 is 9223372036854775807"}},
    {"ValuesWithoutTokens",
     [](const auto& path) {
         setTokens(path, kExperts, {0, 0, 5});
     },
     {"down_proj/mean_abs: tokens of expert 0 is 0, its values are not"}},
    {"TokensOfAPlainModuleByExpert",
     [](const auto& path) {
         setTokens(path, "/statistics/lm_head", {1, 2});
     },
     {"attribute tokens of /statistics/lm_head has 2 values, expected one"}},
    {"ThreeAxes",
     [](const auto& path) {
         replaceValues(path, "/statistics/lm_head/mean_abs", {1, 2, 1});
     },
     {"/statistics/lm_head/mean_abs has shape [1, 2, 1], expected [in_features], or [experts, in_features]"}},
    {"NoAxis",
     [](const auto& path) { replaceValues(path, "/statistics/lm_head/rms", {}); },
     {"/statistics/lm_head/rms has shape [], expected"}},
    {"NoExperts",
     [](const auto& path) {
         replaceValues(path, "/statistics/lm_head/mean_abs", {0, 4});
     },
     {"/statistics/lm_head/mean_abs has shape [0, 4], expected"}},
    {"OneStatisticOfExpertsAndOneNot",
     [](const auto& path) {
         replaceValues(path, "/statistics/lm_head/max_abs", {1, 1});
     },
     {"/statistics/lm_head: mean_abs has shape [1], max_abs [1, 1]; they must agree"}},
    {"NegativeOfAnExpert",
     [](const auto& path) { setFirstValue(path, "/statistics/model.layers.0.experts.down_proj/rms", -2); },
     {"rms: value -2 of expert 0, channel 0"}},
    {"UnknownInputAxis",
     [](const auto& path) {
         inFile(path, [](hid_t file) {
             const hdf5::Group group(H5Gopen2(file, kExperts, H5P_DEFAULT));
             H5Adelete(group.id(), "input_axis");
             addIntegers(group.id(), "input_axis", {1});
         });
     },
     {kExperts, "input_axis is 1, expected -1 (the default) or -2"}},
    {"ConfigThatIsNoJson",
     [](const auto& path) { setBaseConfig(path, "model_type: llama"); },
     {"/base_config is not the text"}},
    {"ConfigThatIsAList", [](const auto& path) { setBaseConfig(path, "[]"); }, {"/base_config is not the text"}},
    {"ConfigThatIsANumber",
     [](const auto& path) { replaceValues(path, "/base_config", {}); },
     {"/base_config cannot be read as text"}},
    {"SeveralConfigs",
     [](const auto& path) { replaceValues(path, "/base_config", {2}); },
     {"/base_config is no single text"}},
};

class BadStatisticsLog : public StatisticsLogTest, public testing::WithParamInterface<BadLog> {
protected:
    void SetUp() override {
        folder_ = std::filesystem::path(testing::TempDir()) / (std::string("bad_statistics_log_") + GetParam().name);
        std::filesystem::remove_all(folder_);
        std::filesystem::create_directories(folder_);
        path_ = folder_ / "stats.h5";
    }
};

TEST_P(BadStatisticsLog, IsRejectedNamingFileAndObject) {
    writeStatisticsLog(path_, sampleLog());
    GetParam().spoil(path_);

    try {
        readStatisticsLog(path_);
        FAIL() << "no exception";
    } catch (const InputError& error) {
        EXPECT_THAT(error.what(), HasSubstr(path_.string()));
        for (const std::string& part : GetParam().message) EXPECT_THAT(error.what(), HasSubstr(part));
    }
}

INSTANTIATE_TEST_SUITE_P(Files, BadStatisticsLog, testing::ValuesIn(kBadLogs),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace aimerge
