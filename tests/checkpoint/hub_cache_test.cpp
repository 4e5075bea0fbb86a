#include "aimerge/checkpoint/hub_cache.h"

#include "aimerge/checkpoint/checkpoint.h"
#include "aimerge/core/error.h"
#include "support/expect_error.h"
#include "support/safetensors_builder.h"
#include "support/temp_folder.h"
#include "support/tiny_llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace aimerge {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";

/// Sets HF_HOME and unsets what would overrule it, for one test.
class HubHome {
public:
    explicit HubHome(const fs::path& home) {
        ::unsetenv("HF_HUB_CACHE");
        ::unsetenv("HUGGINGFACE_HUB_CACHE");
        ::setenv("HF_HOME", home.c_str(), 1);
    }
    ~HubHome() { ::unsetenv("HF_HOME"); }
};

TEST(HubCache, KnowsHubNames) {
    for (const char* name : {"org/name", "gpt2", "HuggingFaceTB/SmolLM2-135M-Instruct", "a/b.c_d-1"})
        EXPECT_TRUE(isHubName(name)) << name;
    for (const char* name : {"", "/abs/path", "./rel", "../up", "a/b/c", "a//b", "org/", "/name", "org/.hidden", "a b",
                             "org/na me", "~/models", "org/..", "-a/b"})
        EXPECT_FALSE(isHubName(name)) << name;
}

TEST(HubCache, OpensTheSnapshotOfMain) {
    const TempFolder home;
    const HubHome environment(home.path());
    const fs::path model = home / "hub/models--org--tiny";
    writeBytes(model / "refs/main", kCommit);
    // As the hub's tools store it: links from the snapshot to blobs.
    TinyLlama().write(model / "blobs");
    const fs::path snapshot = model / "snapshots" / kCommit;
    fs::create_directories(snapshot);
    for (const char* name : {"config.json", "model.safetensors"})
        fs::create_symlink(fs::path("../../blobs") / name, snapshot / name);

    const Checkpoint checkpoint = Checkpoint::open("org/tiny");

    EXPECT_EQ(checkpoint.name(), "org/tiny");
    EXPECT_EQ(checkpoint.folder(), snapshot);
    EXPECT_NE(checkpoint.find("model.norm.weight"), nullptr);
}

TEST(HubCache, CallsALinkToNothingThatWithTheCommand) {
    for (const char* name : {"config.json", "model.safetensors", "tokenizer.json"}) {
        const TempFolder home;
        const HubHome environment(home.path());
        const fs::path model = home / "hub/models--org--tiny", snapshot = model / "snapshots" / kCommit;
        writeBytes(model / "refs/main", kCommit);
        TinyLlama().write(snapshot);
        fs::remove(snapshot / name);
        fs::create_symlink(fs::path("../../blobs/abc"), snapshot / name);

        EXPECT_THAT(messageOf<InputError>([] { Checkpoint::open("org/tiny"); }),
                    AllOf(HasSubstr((snapshot / name).string() + ": is a link to ../../blobs/abc, which is not there"),
                          HasSubstr("`hf download org/tiny`")));
        writeBytes(model / "refs/main", "another");
        EXPECT_THAT(messageOf<InputError>([&] { Checkpoint::open(std::string("org/tiny@") + kCommit); }),
                    HasSubstr(std::string("`hf download org/tiny --revision ") + kCommit + "`"));
    }
}

TEST(HubCache, PassesOverLinksThatNobodyReads) {
    const TempFolder folder;
    TinyLlama().write(folder.path());
    fs::create_symlink("/nowhere", folder / "README.md");

    EXPECT_NO_THROW(Checkpoint::open(folder.path().string()));
}

TEST(HubCache, FindsARevisionByBranchTagAndCommit) {
    const TempFolder cache;
    const fs::path model = cache / "models--org--tiny";
    writeBytes(model / "refs/main", "1111");
    writeBytes(model / "refs/v2", "2222");
    writeBytes(model / "refs/refs/pr/3", "2222");
    for (const char* commit : {"1111", "2222"}) fs::create_directories(model / "snapshots" / commit);
    const auto found = [&](const char* text) { return findInHubCache(HubReference::from(text), cache.path()).filename(); };

    EXPECT_EQ(found("org/tiny"), "1111");
    EXPECT_EQ(found("org/tiny@main"), "1111");
    EXPECT_EQ(found("org/tiny@v2"), "2222");
    EXPECT_EQ(found("org/tiny@refs/pr/3"), "2222");
    EXPECT_EQ(found("org/tiny@2222"), "2222");
    EXPECT_THAT(messageOf<InputError>([&] { found("org/tiny@v3"); }),
                AllOf(HasSubstr("has no v3 revision"), HasSubstr("`hf download org/tiny --revision v3`")));
    for (const char* text : {"org/tiny@", "org/tiny@../..", "org/tiny@a//b"})
        EXPECT_THAT(messageOf<InputError>([&] { found(text); }), HasSubstr("no revision has such a name")) << text;
}

TEST(HubCache, AcceptsABlankAfterTheCommit) {
    const TempFolder cache;
    writeBytes(cache / "models--gpt2/refs/main", std::string(kCommit) + "\n");
    fs::create_directories(cache / "models--gpt2/snapshots" / kCommit);

    EXPECT_EQ(findInHubCache(HubReference::from("gpt2"), cache.path()), cache / "models--gpt2/snapshots" / kCommit);
}

TEST(HubCache, GivesTheDownloadCommandForWhatIsMissing) {
    const TempFolder cache;
    writeBytes(cache / "models--org--no-ref/snapshots/abc/config.json", "{}");
    writeBytes(cache / "models--org--empty-ref/refs/main", "\n");
    writeBytes(cache / "models--org--no-snapshot/refs/main", kCommit);
    const struct {
        std::string name, message;
    } rows[] = {{"org/absent", "no such model in the local hub cache " + cache.path().string()},
                {"org/no-ref", "has no main revision"},
                {"org/empty-ref", "has no main revision"},
                {"org/no-snapshot", "lacks the files of its main revision"}};
    for (const auto& row : rows) {
        const std::string message =
            messageOf<InputError>([&] { findInHubCache(HubReference::from(row.name), cache.path()); });

        EXPECT_THAT(message,
                    AllOf(HasSubstr(row.name + ": "), HasSubstr(row.message), HasSubstr("`hf download " + row.name + "`"),
                          HasSubstr("huggingface-cli download " + row.name)));
    }
}

TEST(HubCache, DoesNotFollowAReferenceOutOfTheCache) {
    const TempFolder cache;
    writeBytes(cache / "models--org--evil/refs/main", "../../../etc");

    EXPECT_THAT(messageOf<InputError>([&] { findInHubCache(HubReference::from("org/evil"), cache.path()); }),
                HasSubstr("holds no commit hash"));
}

TEST(HubCache, PrefersAFolderOfThatName) {
    const TempFolder home;
    const HubHome environment(home.path());

    EXPECT_THAT(messageOf<InputError>([&] { Checkpoint::open("org/tiny"); }), HasSubstr("hf download org/tiny"));

    TinyLlama().write(home / "org/tiny");
    EXPECT_EQ(Checkpoint::open((home / "org/tiny").string()).folder(), home / "org/tiny");
}

}  // namespace
}  // namespace aimerge
