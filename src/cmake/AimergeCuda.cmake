# Switches CUDA on: the compiler, its C++20, and the target through which rooms link libtorch with its CUDA part. Included when
# AIMERGE_CUDA is ON. cudart and NCCL come from the torch wheel, never from the toolkit: one process, one NCCL.

if(NOT TARGET LibTorch::cuda)
  message(FATAL_ERROR "AIMERGE_CUDA needs the CUDA libraries of the torch wheel beside it: run ./launch/setup.sh --cuda")
endif()

# A toolkit of version 13 in its usual place, else the compiler that launch/setup.sh --cuda put beside the wheel.
if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
  find_program(AIMERGE_NVCC nvcc
    PATHS /usr/local/cuda/bin "${LibTorch_INCLUDE_DIR}/../../nvidia/cu13/bin"
    DOC "nvcc of CUDA 13")
  if(AIMERGE_NVCC)
    set(CMAKE_CUDA_COMPILER "${AIMERGE_NVCC}")
  endif()
endif()
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80 90)
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
  message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} is CUDA ${CMAKE_CUDA_COMPILER_VERSION}; libtorch's CUDA part needs 13 or newer: "
    "set CUDACXX, or run ./launch/setup.sh --cuda")
endif()
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # CMake 3.25 does not know nvcc's C++20
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_RUNTIME_LIBRARY None) # cudart is linked by path, through LibTorch::cuda

# libtorch_cuda.so registers its operators when it is loaded; nothing refers to it by name, so a linker that drops unused
# libraries (Ubuntu's default) would drop it.
target_link_libraries(aimerge_libtorch INTERFACE -Wl,--no-as-needed LibTorch::cuda)
