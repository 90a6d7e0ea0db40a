# SPDX-License-Identifier: Apache-2.0
# Installation: header, libraries, CMake package and pkg-config file; the installed tree can be moved as a whole.
include(CMakePackageConfigHelpers)
