# What `cmake --install` puts under a prefix, and how CPack packs it: a tree that needs neither the sources nor the build and can be
# moved. Included by the top CMakeLists.txt.

# Libraries that come along: those whose version differs between distributions, and libtorch, which none has. MPI stays the
# machine's own: it belongs to the launcher, and to the network.
set(_bundled "^lib(fmt|spdlog|yaml-cpp|hdf5|hdf5_serial|sentencepiece|xxhash|zstd)\\.so")
if(NOT AIMERGE_CUDA)
  string(APPEND _bundled ";^lib(torch_cpu|c10|gomp|cupti|cudart)\\.so")
endif()

# With CUDA, libtorch stays where it is: its libraries are 4 GB.
set(_elsewhere "")
if(AIMERGE_CUDA)
  foreach(_library torch_cpu nccl cudart)
    get_filename_component(_folder "${LibTorch_${_library}_LIBRARY}" DIRECTORY)
    list(APPEND _elsewhere "${_folder}")
  endforeach()
endif()

install(TARGETS aimerge RUNTIME DESTINATION bin)
install(TARGETS aimerge_torch LIBRARY DESTINATION lib/aimerge)
# The engine for other programs: find_package(aimerge), aimerge::aimerge.
install(TARGETS aimerge_engine EXPORT aimerge LIBRARY DESTINATION lib/aimerge)
install(EXPORT aimerge NAMESPACE aimerge:: FILE aimergeTargets.cmake DESTINATION lib/cmake/aimerge)
include(CMakePackageConfigHelpers)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/aimergeConfigVersion.cmake" COMPATIBILITY ExactVersion)
install(FILES src/cmake/aimergeConfig.cmake "${PROJECT_BINARY_DIR}/aimergeConfigVersion.cmake" DESTINATION lib/cmake/aimerge)
install(DIRECTORY include/aimerge DESTINATION include)
set_target_properties(aimerge PROPERTIES INSTALL_RPATH "$ORIGIN/../lib/aimerge;${_elsewhere}")
set_target_properties(aimerge_torch aimerge_engine PROPERTIES INSTALL_RPATH "$ORIGIN;${_elsewhere}")

install(PROGRAMS src/tools/mergekit-yaml DESTINATION bin)
install(DIRECTORY src/tools/ DESTINATION share/aimerge/tools
  FILES_MATCHING PATTERN "*.py" PATTERN "*.js" PATTERN "*.txt"
  # These are for the demo and the build alone.
  PATTERN make_family.py EXCLUDE PATTERN train_second_family.py EXCLUDE PATTERN second_family_tasks.py EXCLUDE
  PATTERN task_examples.py EXCLUDE PATTERN line_coverage.py EXCLUDE PATTERN check_docs.py EXCLUDE PATTERN requirements-nvcc.txt EXCLUDE
  PATTERN requirements-lint.txt EXCLUDE
  PATTERN __pycache__ EXCLUDE)
install(DIRECTORY configs DESTINATION share/aimerge PATTERN smollm2 EXCLUDE)
install(DIRECTORY slurm DESTINATION share/aimerge USE_SOURCE_PERMISSIONS)
install(DIRECTORY docs DESTINATION share/doc/aimerge)
install(FILES README.md LICENSE DESTINATION share/doc/aimerge)

# The package `tokenizers`, which no distribution has. It fits every CPython, and scripts find it beside themselves.
file(GLOB _tokenizers "${PROJECT_SOURCE_DIR}/build/venv/lib/python3*/site-packages/tokenizers")
if(_tokenizers AND NOT CMAKE_CROSSCOMPILING)
  install(DIRECTORY ${_tokenizers} DESTINATION lib/aimerge PATTERN __pycache__ EXCLUDE PATTERN "*.pyi" EXCLUDE)
  file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/installed")
  file(CREATE_LINK ../../../lib/aimerge/tokenizers "${PROJECT_BINARY_DIR}/installed/tokenizers" SYMBOLIC)
  install(FILES "${PROJECT_BINARY_DIR}/installed/tokenizers" DESTINATION share/aimerge/tools)
endif()

install(CODE "
  set(AIMERGE_PROGRAM \"$<TARGET_FILE:aimerge>\")
  set(AIMERGE_LIBRARIES \"$<TARGET_FILE:aimerge_engine>;$<TARGET_FILE:aimerge_torch>\")
  set(AIMERGE_BUNDLED [==[${_bundled}]==])
  set(AIMERGE_SOURCE_TOOLS \"${PROJECT_SOURCE_DIR}/src/tools\")
  set(AIMERGE_PYTHON \"${PROJECT_SOURCE_DIR}/build/venv/bin/python\")
  set(AIMERGE_WORK \"${PROJECT_BINARY_DIR}/installed\")
  set(AIMERGE_WHEELS \"${LibTorch_INCLUDE_DIR}/../..\")")
install(SCRIPT src/cmake/InstallLibraries.cmake)

if(AIMERGE_CUDA) # needs what does not come along
  return()
endif()

set(CPACK_PACKAGE_VENDOR aimerge)
set(CPACK_PACKAGE_CONTACT "the aimerge developers <aimerge@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Merges language models on clusters, with activation-informed relaxation")
set(CPACK_PACKAGE_DIRECTORY "${PROJECT_SOURCE_DIR}/build/packages")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_GENERATOR "TGZ;DEB")
set(CPACK_THREADS 0)
string(TOLOWER "aimerge-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR}" CPACK_PACKAGE_FILE_NAME)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_NAME aimerge)
# By hand: dpkg-shlibdeps would name only the packages of the distribution it runs on.
execute_process(COMMAND getconf GNU_LIBC_VERSION OUTPUT_VARIABLE _glibc OUTPUT_STRIP_TRAILING_WHITESPACE)
string(REPLACE "glibc " "" _glibc "${_glibc}")
string(REGEX MATCH "^[0-9]+" _gcc "${CMAKE_CXX_COMPILER_VERSION}")
set(_depends "libc6 (>= ${_glibc})" "libstdc++6 (>= ${_gcc})" libgcc-s1 zlib1g
  libsz2 "libcurl4 | libcurl4t64" "libssl3 | libssl3t64" # of HDF5
  "libopenmpi3 | libopenmpi3t64 | libopenmpi40" openmpi-bin
  "python3 (>= 3.10)" python3-numpy python3-matplotlib python3-jinja2)
list(JOIN _depends ", " CPACK_DEBIAN_PACKAGE_DEPENDS)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA "${PROJECT_SOURCE_DIR}/src/cmake/debian/prerm")
include(CPack)
