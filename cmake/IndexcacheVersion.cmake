# SPDX-License-Identifier: Apache-2.0
# Reads IC_VERSION_MAJOR/MINOR/PATCH of include/indexcache.h into INDEXCACHE_VERSION.
set(header "${CMAKE_CURRENT_LIST_DIR}/../include/indexcache.h")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${header}")
file(READ "${header}" text)
set(INDEXCACHE_VERSION "")
foreach(part MAJOR MINOR PATCH)
  if(NOT text MATCHES "#define IC_VERSION_${part} +([0-9]+)")
    message(FATAL_ERROR "include/indexcache.h does not define IC_VERSION_${part}")
  endif()
  list(APPEND INDEXCACHE_VERSION ${CMAKE_MATCH_1})
endforeach()
list(JOIN INDEXCACHE_VERSION "." INDEXCACHE_VERSION)
unset(text)
