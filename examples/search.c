/* SPDX-License-Identifier: Apache-2.0 */
/* Which layers of a model can share? A greedy search over six layers, whose "model" is a formula. With the name of a
 * journal as argument it goes on from there when it has been stopped. */
#include <indexcache.h>
#include <stdio.h>
#include <stdlib.h>

enum { kLayers = 6, kFull = 2 };

static void check(ic_status status) {
  if (status == IC_OK) return;
  char message[512];
  ic_last_error(message, sizeof message);
  fprintf(stderr, "%s\n  %s\n", ic_status_string(status), message);
  exit(1);
}

/* Stands for the loss of a model that runs under this pattern, on batches that are the same for every candidate. Here
 * a layer loses the more, the farther its source is away, and odd layers lose little. */
static double evaluate(const char *pattern) {
  double loss = 2;
  int source = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    if (pattern[layer] == 'F') source = layer;
    loss += (layer - source) * (layer % 2 != 0 ? 0.0625 : 0.25);
  }
  return loss;
}

/* A file's text; NULL and 0 when there is no such file. */
static char *read_file(const char *name, size_t *size) {
  char *text = NULL;
  *size = 0;
  FILE *file = name == NULL ? NULL : fopen(name, "rb");
  if (file == NULL) return NULL;
  for (size_t room = 4096;; room *= 2) {
    text = realloc(text, room);
    if (text == NULL) exit(1);
    *size += fread(text + *size, 1, room - *size, file);
    if (*size < room) break;
  }
  fclose(file);
  return text;
}

static int64_t written; /* bytes of the journal that are in the file */

/* Adds to the file what the journal has more than it. */
static void append_journal(const ic_search *search, FILE *file) {
  size_t size = 0;
  if (file == NULL || ic_search_journal(search, written, NULL, &size) != IC_ERROR_BUFFER_TOO_SMALL) return;
  char *text = malloc(size);
  if (text == NULL) exit(1);
  check(ic_search_journal(search, written, text, &size));
  written += (int64_t)fwrite(text, 1, size - 1, file);
  free(text);
  fflush(file);
}

int main(int argc, char **argv) {
  const char *name = argc > 1 ? argv[1] : NULL;
  char pattern[kLayers + 1];
  ic_search_desc desc = IC_SEARCH_DESC_INIT;
  desc.num_layers = kLayers;
  desc.strategy = IC_STRATEGY_GREEDY;
  desc.num_full = kFull;
  char *journal = read_file(name, &desc.journal_size);
  desc.journal = journal;
  ic_search *search = NULL;
  check(ic_search_create(&desc, &search));
  free(journal);

  FILE *file = name == NULL ? NULL : fopen(name, "wb"); /* anew, without a line that was cut */
  append_journal(search, file);
  for (;;) {
    ic_search_candidate candidate = IC_SEARCH_CANDIDATE_INIT;
    check(ic_search_next(search, &candidate));
    if (candidate.id < 0) break;
    size_t size = sizeof pattern;
    check(ic_search_candidate_pattern(search, candidate.id, pattern, &size));
    check(ic_search_tell(search, candidate.id, evaluate(pattern)));
    append_journal(search, file);  // what a search that is stopped here goes on from
  }
  if (file != NULL) fclose(file);

  ic_search_info info = IC_SEARCH_INFO_INIT;
  check(ic_search_get_info(search, &info));
  printf("baseline       loss %.4f\n", info.baseline_loss);
  for (int32_t i = 0; i < info.num_steps; ++i) {
    ic_search_step step = IC_SEARCH_STEP_INIT;
    size_t size = sizeof pattern;
    check(ic_search_get_step(search, i, &step));
    check(ic_search_step_pattern(search, i, pattern, &size));
    printf("layer %d shares loss %.4f %s\n", (int)step.layer, step.loss, pattern);
  }
  printf("%lld evaluations of %lld\n", (long long)info.num_evaluated, (long long)info.num_planned);
  ic_search_destroy(search);
  return info.state == IC_SEARCH_DONE && info.num_full == kFull ? 0 : 1;
}
