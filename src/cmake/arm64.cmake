# Toolchain file: cross-compiles for ARM64 with Debian's compiler, against the sysroot that launch/cross_arm64.sh makes.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
get_filename_component(_root "${CMAKE_CURRENT_LIST_DIR}/../../build/arm64/sysroot" ABSOLUTE)
set(CMAKE_SYSROOT "${_root}")
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(_kind LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${_kind} ONLY)
endforeach()
set(_libraries "${_root}/usr/lib/aarch64-linux-gnu")
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${_root}")
set(ENV{PKG_CONFIG_LIBDIR} "${_libraries}/pkgconfig:${_root}/usr/share/pkgconfig")
set(LIBTORCH_ROOT "${_root}/opt/torch" CACHE PATH "")

# FindMPI asks mpicxx, and runs a program to learn the version: neither can be run here.
set(MPI_CXX_COMPILER_INCLUDE_DIRS "${_libraries}/openmpi/include" CACHE STRING "")
set(MPI_CXX_HEADER_DIR "${_libraries}/openmpi/include" CACHE PATH "")
set(MPI_CXX_LIB_NAMES mpi CACHE STRING "")
set(MPI_mpi_LIBRARY "${_libraries}/openmpi/lib/libmpi.so" CACHE FILEPATH "")
set(MPI_CXX_VERSION 3.1 CACHE STRING "")
set(MPIEXEC_EXECUTABLE mpiexec CACHE FILEPATH "")

# FindHDF5 asks h5cc.
set(HDF5_C_INCLUDE_DIRS "${_root}/usr/include/hdf5/serial")
set(CMAKE_INCLUDE_PATH "${_root}/usr/include/hdf5/serial")
set(CMAKE_LIBRARY_PATH "${_libraries}/hdf5/serial")
