/* SPDX-License-Identifier: Apache-2.0 */
/* A C99 program of somebody else's: finds the installed library, selects two of five scores, meets an error, asks for a
 * GPU. */
#include <indexcache.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                  \
  do {                                                                    \
    if (!(condition)) {                                                   \
      char text[512] = "";                                                \
      ic_last_error(text, sizeof text);                                   \
      fprintf(stderr, "line %d: " #condition "\n  %s\n", __LINE__, text); \
      return 1;                                                           \
    }                                                                     \
  } while (0)

static int select_two_best(ic_context *context) {
  const float scores[5] = {1.0f, 4.0f, 0.0f, 4.0f, 2.0f};
  const int32_t end = 5;
  int32_t indices[IC_K_PADDED(2)];
  int32_t length = -1;
  ic_topk_desc desc = IC_TOPK_DESC_INIT;
  ic_select_args args = IC_SELECT_ARGS_INIT;
  ic_topk *topk = NULL;
  char *memory;

  desc.k = 5000;
  CHECK(ic_topk_create(context, &desc, &topk) == IC_ERROR_INVALID_ARGUMENT && topk == NULL);
  desc.k = 2;
  CHECK(ic_topk_create(context, &desc, &topk) == IC_OK);
  CHECK(ic_topk_select_workspace_size(topk, 1, 5, &args.workspace_size) == IC_OK);
  memory = malloc(args.workspace_size + 256);
  CHECK(memory != NULL);
  args.workspace = memory + (256 - (uintptr_t)memory % 256);
  args.scores = scores;
  args.end = &end;
  args.num_rows = 1;
  args.max_end = 5;
  args.indices = indices;
  args.lengths = &length;
  CHECK(ic_topk_select(topk, &args, NULL) == IC_OK);
  CHECK(length == 2 && indices[0] == 1 && indices[1] == 3 && indices[2] == -1);
  free(memory);
  ic_topk_destroy(topk);
  return 0;
}

int main(void) {
  const int has_cuda = strstr(ic_build_info(), "\"cuda\": null") == NULL;
  ic_context_desc desc = IC_CONTEXT_DESC_INIT;
  ic_context *context = NULL;
  ic_status status;

  CHECK(ic_version() == (uint32_t)(IC_VERSION_MAJOR * 65536 + IC_VERSION_MINOR * 256 + IC_VERSION_PATCH));
  CHECK(ic_context_create(&desc, &context) == IC_ERROR_INVALID_ARGUMENT); /* no backend chosen */
  desc.backend = IC_BACKEND_CPU;
  desc.num_threads = 2;
  CHECK(ic_context_create(&desc, &context) == IC_OK);
  if (select_two_best(context) != 0) return 1;
  ic_context_destroy(context);

  /* With or without a GPU or its driver on this host: a clear answer, and the CPU backend above has worked. */
  desc.backend = IC_BACKEND_CUDA;
  desc.num_threads = 0;
  status = ic_context_create(&desc, &context);
  if (has_cuda) {
    CHECK(status == IC_OK || status == IC_ERROR_CUDA_NO_DRIVER || status == IC_ERROR_CUDA_NO_DEVICE);
  } else {
    CHECK(status == IC_ERROR_CUDA_NOT_BUILT);
  }
  ic_context_destroy(context);
  printf("%s\nCUDA backend: %s\n", ic_build_info(), ic_status_string(status));
  return 0;
}
