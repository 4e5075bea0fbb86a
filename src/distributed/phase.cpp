#include "aimerge/distributed/phase.h"

#include "aimerge/core/size_text.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace aimerge {
namespace {

std::vector<PhaseFigures>& phases() {
    thread_local std::vector<PhaseFigures> ofThread;
    return ofThread;
}

}  // namespace

void PhaseFigures::add(const PhaseFigures& more) {
    seconds += more.seconds;
    idleSeconds += more.idleSeconds;
    bytesRead += more.bytesRead;
    bytesWritten += more.bytesWritten;
    tokens += more.tokens;
    peakDeviceBytes = std::max(peakDeviceBytes, more.peakDeviceBytes);
}

Phase::Phase(std::string name) : range_(name.c_str()) {
    spdlog::debug("{}: begins", name);
    figures_.name = std::move(name);
}

Phase::~Phase() {
    figures_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    spdlog::debug("{}: ends after {:.3f} s, {:.3f} s of them waiting; {} read, {} written", figures_.name, figures_.seconds,
                  figures_.idleSeconds, formatBytes(figures_.bytesRead), formatBytes(figures_.bytesWritten));
    const auto known = std::ranges::find(phases(), figures_.name, &PhaseFigures::name);
    if (known != phases().end())
        known->add(figures_);
    else
        phases().push_back(std::move(figures_));
}

const std::vector<PhaseFigures>& recordedPhases() {
    return phases();
}

}  // namespace aimerge
