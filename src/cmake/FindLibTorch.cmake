# Finds libtorch as the PyPI wheel ships it, with or without its CUDA part. find_package(Torch) is not used: it needs a CUDA
# toolkit even for a CPU build and links torch_cuda into every program.
#
# LIBTORCH_ROOT (cache or environment): the folder with libtorch's include/ and lib/, e.g. <venv>/lib/python3.11/site-packages/torch.
# Unset: the virtual environment that launch/setup.sh makes in build/venv.
#
# Targets: LibTorch::cpu; where the wheel's CUDA libraries are there also LibTorch::cuda (torch_cuda, NCCL, cudart).
set(LIBTORCH_ROOT "$ENV{LIBTORCH_ROOT}" CACHE PATH "folder with libtorch's include/ and lib/")
set(_root "${LIBTORCH_ROOT}")
if(NOT _root)
  file(GLOB _candidates "${PROJECT_SOURCE_DIR}/build/venv/lib/python3*/site-packages/torch"
       "${PROJECT_SOURCE_DIR}/build/venv/torch")
  if(_candidates)
    list(GET _candidates 0 _root)
  endif()
endif()

find_path(LibTorch_INCLUDE_DIR ATen/ATen.h HINTS "${_root}/include" NO_DEFAULT_PATH)
foreach(_library c10 torch_cpu c10_cuda torch_cuda)
  find_library(LibTorch_${_library}_LIBRARY ${_library} HINTS "${_root}/lib" NO_DEFAULT_PATH)
endforeach()
set(_nvidia "${_root}/../nvidia") # the wheels carry libx.so.N without libx.so, hence full names
find_file(LibTorch_nccl_LIBRARY libnccl.so.2 HINTS "${_nvidia}/nccl/lib" NO_DEFAULT_PATH)
find_path(LibTorch_nccl_INCLUDE_DIR nccl.h HINTS "${_nvidia}/nccl/include" NO_DEFAULT_PATH)
find_file(LibTorch_cudart_LIBRARY libcudart.so.13 HINTS "${_nvidia}/cu13/lib" NO_DEFAULT_PATH)

set(_version "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h")
if(EXISTS "${_version}")
  file(STRINGS "${_version}" LibTorch_VERSION REGEX "#define TORCH_VERSION_(MAJOR|MINOR|PATCH) [0-9]+")
  list(TRANSFORM LibTorch_VERSION REPLACE "[^0-9]" "")
  list(JOIN LibTorch_VERSION "." LibTorch_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  VERSION_VAR LibTorch_VERSION
  REQUIRED_VARS LibTorch_torch_cpu_LIBRARY LibTorch_c10_LIBRARY LibTorch_INCLUDE_DIR
  REASON_FAILURE_MESSAGE "run ./launch/setup.sh, or set LIBTORCH_ROOT")

function(_libtorch_import name file) # remaining arguments: what it links
  add_library(LibTorch::${name} SHARED IMPORTED)
  set_target_properties(LibTorch::${name} PROPERTIES
    IMPORTED_LOCATION "${file}"
    INTERFACE_LINK_LIBRARIES "${ARGN}")
endfunction()

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  _libtorch_import(c10 "${LibTorch_c10_LIBRARY}")
  # Searched last: the wheel also carries headers of other libraries, among them another version of fmt than the one we link.
  target_compile_options(LibTorch::c10 INTERFACE
    "$<$<COMPILE_LANGUAGE:C,CXX>:SHELL:-idirafter ${LibTorch_INCLUDE_DIR}>"
    "$<$<COMPILE_LANGUAGE:C,CXX>:SHELL:-idirafter ${LibTorch_INCLUDE_DIR}/torch/csrc/api/include>")
  target_compile_features(LibTorch::c10 INTERFACE cxx_std_20)
  # at::parallel_for is a template with OpenMP in it, and a plain loop when its user is compiled without. libtorch brings its
  # libgomp; clang has another library, and its builds are for the sanitizers.
  target_compile_options(LibTorch::c10 INTERFACE "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fopenmp>")
  target_link_options(LibTorch::c10 INTERFACE "$<$<LINK_LANG_AND_ID:CXX,GNU>:-fopenmp>")
  _libtorch_import(cpu "${LibTorch_torch_cpu_LIBRARY}" LibTorch::c10)
  if(LibTorch_torch_cuda_LIBRARY AND LibTorch_nccl_LIBRARY AND LibTorch_cudart_LIBRARY)
    _libtorch_import(cudart "${LibTorch_cudart_LIBRARY}")
    _libtorch_import(nccl "${LibTorch_nccl_LIBRARY}" LibTorch::cudart)
    target_include_directories(LibTorch::nccl SYSTEM INTERFACE "${LibTorch_nccl_INCLUDE_DIR}")
    _libtorch_import(c10_cuda "${LibTorch_c10_cuda_LIBRARY}" LibTorch::c10 LibTorch::cudart)
    _libtorch_import(cuda "${LibTorch_torch_cuda_LIBRARY}" LibTorch::c10_cuda LibTorch::cpu LibTorch::nccl)
  endif()
endif()
