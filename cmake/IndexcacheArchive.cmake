# SPDX-License-Identifier: Apache-2.0
# libindexcache.a for embedders: the library's objects, libstdc++ and cudart linked into one object in which every name
# but the exported ones is local. Other copies of libstdc++, cudart or this library can live beside it.
#   - COMDAT groups are dissolved: a linker drops a group whose name it has seen, local or not.
#   - What no exported function reaches is dropped, and with it what it would ask of a newer libc.
#   - objcopy localises weak names but not unique ones (STB_GNU_UNIQUE): all C++ names are made weak first.
file(READ "${version_script}" script)
string(REGEX MATCHALL "ic_[a-z0-9_]+" exported_names "${script}")
list(TRANSFORM exported_names PREPEND "-Wl,-u,")
list(JOIN exported_names "\n" exported_names)
set(roots "${PROJECT_BINARY_DIR}/archive_roots.rsp")
file(CONFIGURE OUTPUT "${roots}" CONTENT "${exported_names}\n")

execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libstdc++.a
                OUTPUT_VARIABLE libstdcxx OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
set(merged "${PROJECT_BINARY_DIR}/merged/indexcache.o")
file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/merged")
add_custom_command(
  OUTPUT "${merged}"
  COMMAND ${CMAKE_CXX_COMPILER} -fuse-ld=bfd -r -nostdlib -o "${merged}" 
          -Wl,--force-group-allocation,--gc-sections "@${roots}"
          "$<TARGET_OBJECTS:indexcache_objects>"
          $<$<BOOL:${INDEXCACHE_HAVE_CUDA}>:$<TARGET_FILE:indexcache_cudart>> "${libstdcxx}"
  COMMAND ${CMAKE_OBJCOPY} --wildcard "--weaken-symbol=_Z*" "${merged}"
  COMMAND ${CMAKE_OBJCOPY} --wildcard "--keep-global-symbol=ic_*" --strip-unneeded "${merged}"
  DEPENDS indexcache_objects "$<TARGET_OBJECTS:indexcache_objects>" "${roots}"
  COMMAND_EXPAND_LISTS VERBATIM
  COMMENT "Merging indexcache.o")
add_library(indexcache_static STATIC "${merged}")
set_source_files_properties("${merged}" PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
set_target_properties(indexcache_static PROPERTIES OUTPUT_NAME indexcache LINKER_LANGUAGE C)
# What the merged object still asks of the system.
target_link_libraries(indexcache_static INTERFACE m pthread dl rt)
