# find_package(aimerge): the target aimerge::aimerge, with the headers under aimerge/. Start with aimerge/job/job.h.
include(CMakeFindDependencyMacro)
find_dependency(fmt)
find_dependency(nlohmann_json)
include("${CMAKE_CURRENT_LIST_DIR}/aimergeTargets.cmake")
