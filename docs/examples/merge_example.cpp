// The engine as a library: merges by a config and says what came out.
//
// usage: merge_example CONFIG OUT

#include <aimerge/core/error.h>
#include <aimerge/core/file.h>
#include <aimerge/distributed/world.h>
#include <aimerge/job/job.h>

#include <cstdio>

int main(int argc, char** argv) {
    if (argc != 3) {
        std::fputs("usage: merge_example CONFIG OUT\n", stderr);
        return 2;
    }
    try {
        aimerge::JobOptions options;
        options.out = argv[2];
        options.show = [](std::string_view) {};  // not the plan
        options.progress = aimerge::ProgressListener([](const aimerge::ProgressState& state) {
            std::fprintf(stderr, "%s: %llu of %llu\n", state.phase.c_str(), static_cast<unsigned long long>(state.done),
                         static_cast<unsigned long long>(state.total));
        });
        aimerge::World world = aimerge::World::alone();
        const aimerge::MergeResult result = merge(world, options, {aimerge::readTextFile(argv[1]), argv[1], false, ""});
        for (const aimerge::MergedCheckpoint& checkpoint : result.checkpoints)
            std::printf("%s: %llu bytes\n", checkpoint.folder.c_str(), static_cast<unsigned long long>(result.bytes));
        return 0;
    } catch (const aimerge::Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return static_cast<int>(error.exitCode());
    }
}
