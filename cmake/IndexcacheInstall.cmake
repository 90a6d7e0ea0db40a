# SPDX-License-Identifier: Apache-2.0
# Installation: header, libraries, CMake package and pkg-config file. The installed tree can be moved as a whole.
include(CMakePackageConfigHelpers)

install(FILES include/indexcache.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" COMPONENT devel)
install(TARGETS indexcache EXPORT indexcacheTargets
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT runtime NAMELINK_COMPONENT devel)
install(TARGETS indexcache_static EXPORT indexcacheTargets
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" COMPONENT devel)

# Neither library needs another package: the file of the targets is the whole configuration.
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/indexcache")
install(EXPORT indexcacheTargets NAMESPACE indexcache:: FILE indexcacheConfig.cmake DESTINATION "${package_dir}"
        COMPONENT devel)
write_basic_package_version_file(indexcacheConfigVersion.cmake COMPATIBILITY SameMinorVersion) # stays so until 1.0
install(FILES "${PROJECT_BINARY_DIR}/indexcacheConfigVersion.cmake" DESTINATION "${package_dir}" COMPONENT devel)

# prefix is found from where the .pc file lies, at whatever depth libdir is; an absolute libdir cannot move.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH climb "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" /prefix)
  string(REGEX REPLACE "/$" "" climb "${climb}")
  set(pc_prefix "\${pcfiledir}/${climb}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
  cmake_path(APPEND pc_${dir} "\${prefix}" "${CMAKE_INSTALL_${dir}}") # keeps an absolute directory as it is
endforeach()
get_target_property(libraries indexcache_static INTERFACE_LINK_LIBRARIES)
list(TRANSFORM libraries PREPEND -l)
list(JOIN libraries " " pc_libs_private)
configure_file(pkgconfig/indexcache.pc.in indexcache.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/indexcache.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig" COMPONENT devel)
