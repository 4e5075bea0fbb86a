#pragma once
// report.html.

#include "aimerge/report/interactive_figure.h"
#include "aimerge/report/report_folder.h"

#include <filesystem>
#include <string>

namespace aimerge {

/// @param folder of the report, with the drawn figures
/// @param interactive the interactive figure, or why there is none
/// @param figures whether the report's figures are drawn
std::string htmlPage(const Report& report, const std::filesystem::path& folder, const PagePart& interactive, bool figures);

}  // namespace aimerge
