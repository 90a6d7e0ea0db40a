# SPDX-License-Identifier: Apache-2.0
# Programs of tests/gpu/run.sh beside unit_gpu. gpu_*: programs that were written for the CPU backend, sent to CUDA by the
# objects of tests/gpu/shim (IC_TEST_BACKEND says how they run). They are run from the root of the repository.
add_library(gpu_shim OBJECT gpu/shim/arena.cpp gpu/shim/calls.cpp gpu/shim/main.cpp)
target_include_directories(gpu_shim PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(gpu_shim PRIVATE indexcache_options indexcache_cudart)
set(wrapped main malloc calloc realloc aligned_alloc posix_memalign free ic_context_create ic_forward ic_indexer_scores
    ic_topk_select ic_topk_merge ic_attention_run ic_attention_mass ic_indexer_prepare_queries ic_indexer_prepare_keys
    ic_cache_remap ic_cache_compact ic_cache_export ic_cache_import ic_index_overlap)
list(TRANSFORM wrapped PREPEND LINKER:--wrap=)

function(indexcache_add_gpu_program name)
  add_executable(${name} ${ARGN})
  target_compile_definitions(${name} PRIVATE INDEXCACHE_TEST_DIR="tests")
  target_link_libraries(${name} PRIVATE gpu_shim indexcache_options)
  target_link_options(${name} PRIVATE ${wrapped})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  add_dependencies(gpu_programs ${name})
endfunction()

add_custom_target(gpu_programs) # what run.sh packs
add_dependencies(gpu_programs unit_gpu unit_cuda)

file(GLOB sources CONFIGURE_DEPENDS capi/*.cpp)
indexcache_add_gpu_program(gpu_capi ${sources} gpu/shim/memory.cpp)
target_link_libraries(gpu_capi PRIVATE indexcache_internal GTest::gtest_main nlohmann_json::nlohmann_json)

# Counts with operator new and malloc of its own, over the arena.
indexcache_add_gpu_program(gpu_allocation allocation/allocation_test.cpp allocation/counting.cpp
                           capi/small_problem.cpp gpu/shim/device_memory.cpp)
target_link_libraries(gpu_allocation PRIVATE indexcache_internal GTest::gtest_main)
set(counted cudaMalloc cudaMallocAsync cudaMallocManaged cudaMallocHost cudaHostAlloc cudaFree cudaFreeAsync cudaFreeHost)
list(TRANSFORM counted PREPEND LINKER:--wrap=)
target_link_options(gpu_allocation PRIVATE ${counted})
foreach(function malloc calloc realloc aligned_alloc posix_memalign free)
  target_compile_definitions(gpu_allocation PRIVATE __real_${function}=ic_arena_${function})
endforeach()

# Over the shared library, as an engine has it; it lies beside them when they are carried to another machine.
foreach(example quickstart engine_loop)
  indexcache_add_gpu_program(gpu_${example} ${PROJECT_SOURCE_DIR}/examples/${example}.c gpu/shim/memory.cpp)
  target_link_libraries(gpu_${example} PRIVATE indexcache indexcache_cudart m)
  set_target_properties(gpu_${example} PROPERTIES BUILD_RPATH "\$ORIGIN")
endforeach()

# On any machine: what the shim does to a program leaves its tests as they are on the CPU.
foreach(program capi allocation engine_loop)
  add_test(NAME gpu.${program}_on_cpu COMMAND gpu_${program} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  set_tests_properties(gpu.${program}_on_cpu PROPERTIES LABELS unit ENVIRONMENT IC_TEST_BACKEND=cpu
                       FAIL_REGULAR_EXPRESSION "Running 0 tests")
endforeach()

# One planted fault per kernel, for the tools that must find it.
add_executable(gpu_planted gpu/planted/planted.cu)
target_link_libraries(gpu_planted PRIVATE indexcache_options)
add_dependencies(gpu_programs gpu_planted)
