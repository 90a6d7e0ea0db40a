# SPDX-License-Identifier: Apache-2.0
# libindexcache.a for embedders: the library's objects, libstdc++ and cudart linked into one object in which every name
# but the exported ones is local. Any number of other copies of libstdc++, cudart or this library can live beside it.
# COMDAT groups are dissolved first: a linker drops a group whose name it knows already, local or not.
set(exported_names "${PROJECT_BINARY_DIR}/exported_names.txt")
set(merged "${PROJECT_BINARY_DIR}/indexcache_merged.o")
set(archive_object "${PROJECT_BINARY_DIR}/indexcache.o")
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libstdc++.a
                OUTPUT_VARIABLE libstdcxx OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
add_custom_command(
  OUTPUT "${archive_object}"
  COMMAND ${CMAKE_CXX_COMPILER} -fuse-ld=bfd -r -nostdlib -o "${merged}" -Wl,--force-group-allocation
          "$<TARGET_OBJECTS:indexcache_objects>"
          $<$<BOOL:${INDEXCACHE_HAVE_CUDA}>:$<TARGET_FILE:indexcache_cudart>> "${libstdcxx}"
  COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol=ic_* "${merged}" "${archive_object}"
  COMMAND ${CMAKE_COMMAND} -E rm "${merged}"
  DEPENDS indexcache_objects "$<TARGET_OBJECTS:indexcache_objects>"
  COMMAND_EXPAND_LISTS VERBATIM
  COMMENT "Merging indexcache.o")
add_library(indexcache_static STATIC "${archive_object}")
set_source_files_properties("${archive_object}" PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
set_target_properties(indexcache_static PROPERTIES OUTPUT_NAME indexcache LINKER_LANGUAGE C)
# What the merged object still asks of the system.
target_link_libraries(indexcache_static INTERFACE Threads::Threads m ${CMAKE_DL_LIBS})
