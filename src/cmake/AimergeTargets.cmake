# The two shapes of target in this project: a room (a static library of one folder under src/) and a test of it.

# aimerge_room(checkpoint SOURCES a.cpp b.cpp USES core LINKS PkgConfig::xxhash)
#   USES    other rooms: their headers and libraries are part of this one's interface
#   LINKS   third-party targets, private
#   LIGHT   does not go through weights: compiled with aimerge_light_flags
#   CUDA    sources (.cu, or .cpp that call the CUDA runtime) that are built where AIMERGE_CUDA is ON. Such a room alone has
#           AIMERGE_HAS_CUDA (0 or 1): the objects of the others are the same in every build, so ccache has them already
function(aimerge_room room)
  cmake_parse_arguments(PARSE_ARGV 1 arg "LIGHT" "" "SOURCES;USES;LINKS;CUDA")
  set(_flags aimerge_flags)
  if(arg_LIGHT)
    set(_flags aimerge_light_flags)
  endif()
  add_library(aimerge_${room} STATIC ${arg_SOURCES})
  add_library(aimerge::${room} ALIAS aimerge_${room})
  set_property(GLOBAL APPEND PROPERTY AIMERGE_ROOMS aimerge_${room})
  target_include_directories(aimerge_${room} PUBLIC "${PROJECT_SOURCE_DIR}/include" PRIVATE "${PROJECT_SOURCE_DIR}/src")
  list(TRANSFORM arg_USES PREPEND aimerge::)
  target_link_libraries(aimerge_${room} PUBLIC ${arg_USES} fmt::fmt nlohmann_json::nlohmann_json PRIVATE ${_flags} ${arg_LINKS})
  if(arg_CUDA)
    target_compile_definitions(aimerge_${room} PRIVATE AIMERGE_HAS_CUDA=$<BOOL:${AIMERGE_CUDA}>)
  endif()
  if(AIMERGE_CUDA AND arg_CUDA)
    target_sources(aimerge_${room} PRIVATE ${arg_CUDA})
    target_link_libraries(aimerge_${room} PRIVATE LibTorch::cudart)
    target_include_directories(aimerge_${room} SYSTEM PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
  endif()
endfunction()

# aimerge_test(ties_test SOURCES ties_test.cpp USES merge RANKS 2 4 LABELS mpi ENVIRONMENT A=b)
#   RANKS   run under mpirun with each of these numbers of ranks (one ctest entry per number); without it, as a plain program.
#           Such a test gets the gtest main that initialises MPI (tests/support/mpi_main.cpp).
#   LABELS  of ctest, beside the room
#   GPU     computes on a CUDA device (tests/support/test_device.h): where there is none the test is skipped with the reason. Ranks
#           share the GPU
#   SLOW    takes minutes with sanitizers: there the target `slow_tests` alone builds it, and it has the label `slow`
#   WAITS   waits more than it computes: label `waits` (launch/test.sh runs these beside the compilers)
function(aimerge_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "GPU;SLOW;WAITS" "TIMEOUT" "SOURCES;USES;LINKS;RANKS;LABELS;ENVIRONMENT")
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  if(AIMERGE_SANITIZE)
    math(EXPR arg_TIMEOUT "10 * ${arg_TIMEOUT}")
  endif()
  list(TRANSFORM arg_USES PREPEND aimerge::)
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests" "${PROJECT_SOURCE_DIR}/src")
  target_link_libraries(${name} PRIVATE ${arg_USES} aimerge_test_flags ${arg_LINKS})
  if(arg_USES MATCHES "aimerge::(model|calibration|scoring)")
    target_precompile_headers(${name} REUSE_FROM aimerge_headers_of_torch_tests)
  else()
    target_precompile_headers(${name} REUSE_FROM aimerge_headers_of_tests)
  endif()
  target_compile_definitions(${name} PRIVATE
    AIMERGE_TEST_DATA="${PROJECT_SOURCE_DIR}/tests/data"
    AIMERGE_SOURCE_ROOT="${PROJECT_SOURCE_DIR}"
    AIMERGE_HAS_CUDA=$<BOOL:${AIMERGE_CUDA}>)
  if(arg_GPU)
    target_compile_definitions(${name} PRIVATE AIMERGE_TEST_ON_GPU)
    target_link_libraries(${name} PRIVATE aimerge::device)
    list(APPEND arg_LABELS gpu)
    if(NOT TARGET gpu_tests)
      add_custom_target(gpu_tests)
    endif()
    add_dependencies(gpu_tests ${name})
  endif()
  if(arg_SLOW)
    list(APPEND arg_LABELS slow)
    if(AIMERGE_SANITIZE)
      set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
    if(NOT TARGET slow_tests)
      add_custom_target(slow_tests)
    endif()
    add_dependencies(slow_tests ${name})
  endif()
  if(arg_WAITS)
    list(APPEND arg_LABELS waits)
  endif()
  get_filename_component(_room "${CMAKE_CURRENT_SOURCE_DIR}" NAME)
  list(APPEND arg_LABELS ${_room})
  set(_environment OMP_NUM_THREADS=1 AIMERGE_CACHE_DIR=${PROJECT_BINARY_DIR}/test-cache ${arg_ENVIRONMENT})
  if(arg_RANKS)
    target_sources(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests/support/mpi_main.cpp")
    target_link_libraries(${name} PRIVATE aimerge::distributed MPI::MPI_CXX)
    foreach(_ranks IN LISTS arg_RANKS)
      add_test(NAME ${name}.np${_ranks}
        COMMAND ${MPIEXEC_EXECUTABLE} --oversubscribe --bind-to none -n ${_ranks} $<TARGET_FILE:${name}>)
      set_tests_properties(${name}.np${_ranks} PROPERTIES
        PROCESSORS ${_ranks} TIMEOUT ${arg_TIMEOUT} LABELS "mpi;${arg_LABELS}" SKIP_RETURN_CODE 77
        ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;${_environment}")
    endforeach()
  else()
    if(arg_GPU)
      target_sources(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests/support/gpu_main.cpp")
    else()
      target_link_libraries(${name} PRIVATE GTest::gtest_main)
    endif()
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}" ENVIRONMENT "${_environment}"
      SKIP_RETURN_CODE 77)
  endif()
endfunction()
