// The C functions that src/python/aimerge/_engine.py calls. An interface for that package alone: it may change with every
// version, and both come in one wheel.

#include "python/job_thread.h"

#include "aimerge/core/version.h"

#include <chrono>
#include <cstdint>
#include <exception>

#define AIMERGE_FOR_PYTHON extern "C" __attribute__((visibility("default")))

AIMERGE_FOR_PYTHON const char* aimerge_version() {
    return aimerge::kVersion.data();
}

/// A job that runs, for aimerge_free(); null when no thread could be started.
AIMERGE_FOR_PYTHON aimerge::JobThread* aimerge_start(const char* function, const char* request) {
    try {
        return new aimerge::JobThread(function, request);
    } catch (const std::exception&) {
        return nullptr;
    }
}

AIMERGE_FOR_PYTHON void aimerge_stop(aimerge::JobThread* job) {
    job->stop();
}

/// JobThread::wait(); the text stands until the next call.
AIMERGE_FOR_PYTHON const char* aimerge_wait(aimerge::JobThread* job, int milliseconds) {
    return job->wait(std::chrono::milliseconds(milliseconds)).c_str();
}

/// float32 values of a job that has ended, for as long as it is not freed.
AIMERGE_FOR_PYTHON const float* aimerge_values(const aimerge::JobThread* job, std::uint64_t* count) {
    *count = job->values().size();
    return job->values().data();
}

/// A tensor's bytes of a job that has ended, for as long as it is not freed.
AIMERGE_FOR_PYTHON const void* aimerge_bytes(const aimerge::JobThread* job) {
    return job->bytes();
}

AIMERGE_FOR_PYTHON void aimerge_free(aimerge::JobThread* job) {
    delete job;
}
