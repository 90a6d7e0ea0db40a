# SPDX-License-Identifier: Apache-2.0
# Compiler flags: one interface target for our own code, one for sanitizers, and the instruction-set files of lib/cpu/isa.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_C_STANDARD 11)
set(CMAKE_CUDA_STANDARD 20)
foreach(language C CXX CUDA)
  set(CMAKE_${language}_STANDARD_REQUIRED ON)
  set(CMAKE_${language}_EXTENSIONS OFF)
  set(CMAKE_${language}_VISIBILITY_PRESET hidden)
endforeach()
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# Not for CUDA: ccache (4.7.5) compares what the preprocessor leaves for the first architecture, so it takes a kernel that
# has changed under another one's macro for the old one, and hands out the old machine code.
find_program(CCACHE ccache)
if(CCACHE)
  foreach(language C CXX)
    if(NOT CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER "${CCACHE}")
    endif()
  endforeach()
endif()

add_library(indexcache_sanitize INTERFACE)
if(INDEXCACHE_SANITIZE)
  target_compile_options(indexcache_sanitize INTERFACE
    -fsanitize=${INDEXCACHE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(indexcache_sanitize INTERFACE -fsanitize=${INDEXCACHE_SANITIZE})
endif()

add_library(indexcache_options INTERFACE)
target_link_libraries(indexcache_options INTERFACE indexcache_sanitize)
# The arithmetic is part of the contract: no contraction that the source does not spell out.
set(c_and_cxx "$<COMPILE_LANGUAGE:C,CXX>")
target_compile_options(indexcache_options INTERFACE
  "$<${c_and_cxx}:-Wall;-Wextra;-Wpedantic;-Wshadow;-ffp-contract=off;-fno-math-errno;-fno-trapping-math>"
  "$<${c_and_cxx}:-fmacro-prefix-map=${PROJECT_SOURCE_DIR}/=>"
  "$<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>"
  "$<$<COMPILE_LANGUAGE:CXX>:-Wconversion>"
  "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fno-gnu-unique>"
  "$<$<COMPILE_LANGUAGE:CUDA>:--fmad=false;-Xcompiler=-Wall,-Wextra,-Wno-unused-parameter>")
if(INDEXCACHE_WERROR)
  target_compile_options(indexcache_options INTERFACE
    "$<${c_and_cxx}:-Werror>" "$<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings>")
endif()

# Files of lib/cpu/isa are compiled for the level that their name ends in; AVX files exist on x86-64 only.
function(indexcache_isa_flags sources_variable)
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
  set(portable "")
  set(kept ${${sources_variable}})
  foreach(level portable avx2 avx512)
    set(files ${kept})
    list(FILTER files INCLUDE REGEX "/cpu/isa/[^/]*_${level}\\.cpp$")
    if(NOT level STREQUAL "portable" AND NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
      list(REMOVE_ITEM kept ${files})
    elseif(files)
      if(NOT INDEXCACHE_SANITIZE)
        list(PREPEND ${level} -O3)
      endif()
      set_source_files_properties(${files} PROPERTIES COMPILE_OPTIONS "${${level}}")
    endif()
  endforeach()
  set(${sources_variable} ${kept} PARENT_SCOPE)
endfunction()

# A C program over the shared library. Sanitizers need their C++ half in every program that loads C++.
function(indexcache_add_c_program name source)
  add_executable(${name} ${source})
  target_link_libraries(${name} PRIVATE indexcache indexcache_options m)
  if(INDEXCACHE_SANITIZE)
    set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  endif()
endfunction()
