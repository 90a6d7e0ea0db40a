# SPDX-License-Identifier: Apache-2.0
# Finds nvcc, enables CUDA and sets INDEXCACHE_HAVE_CUDA, as INDEXCACHE_CUDA asks.
set(INDEXCACHE_HAVE_CUDA OFF)
if(NOT INDEXCACHE_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "INDEXCACHE_CUDA is '${INDEXCACHE_CUDA}'; allowed: AUTO, ON, OFF")
endif()
if(INDEXCACHE_CUDA STREQUAL "OFF")
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER)
  # .cache/cuda is where ./run puts the compiler on a machine that has none.
  find_program(INDEXCACHE_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME
               PATHS /usr/local/cuda "${PROJECT_SOURCE_DIR}/.cache/cuda/toolkit" PATH_SUFFIXES bin)
  if(INDEXCACHE_NVCC)
    set(CMAKE_CUDA_COMPILER "${INDEXCACHE_NVCC}" CACHE FILEPATH "CUDA compiler")
  elseif(INDEXCACHE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "INDEXCACHE_CUDA=ON needs nvcc, and none was found. Put it on PATH, set CMAKE_CUDA_COMPILER, "
                        "or let ./run fetch it.")
  else()
    message(STATUS "indexcache: no nvcc found, building without CUDA")
    return()
  endif()
endif()

if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  # Code for A100 and Hopper, and PTX of the oldest for everything that comes later.
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 80-virtual CACHE STRING "CUDA architectures")
endif()
set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}" CACHE FILEPATH "Host compiler of nvcc")
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # CMake 3.25 does not know that nvcc has C++20
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()

# Not find_package(CUDAToolkit): that of CMake 3.25 fails on CUDA 13 (no nvToolsExt), and cudart is all that is needed.
find_library(INDEXCACHE_CUDART cudart_static HINTS ${CMAKE_CUDA_IMPLICIT_LINK_DIRECTORIES} REQUIRED)
add_library(indexcache_cudart STATIC IMPORTED)
set_target_properties(indexcache_cudart PROPERTIES
  IMPORTED_LOCATION "${INDEXCACHE_CUDART}"
  INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES}"
  INTERFACE_LINK_LIBRARIES "rt;${CMAKE_DL_LIBS}")
set(INDEXCACHE_HAVE_CUDA ON)
