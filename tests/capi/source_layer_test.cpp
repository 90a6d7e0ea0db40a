// SPDX-License-Identifier: Apache-2.0
// Asking for the indices of a Shared layer by its own id: refused, with the layer to ask for.
#include <gtest/gtest.h>

#include <vector>

#include "tests/capi/toy_engine.h"

namespace ic::test {
namespace {

TEST(SourceLayer, ASharedLayerIsRefusedWithTheNameOfItsSource) {
  ToyEngine engine(ToyOptions{.pattern = "FSSFS"});
  engine.set_last_rows(2);
  ASSERT_IC_OK(engine.begin());
  ASSERT_IC_OK(engine.forward({.layer = 0}));
  ASSERT_IC_OK(engine.forward({.layer = 2}));
  ic_index_view view = IC_INDEX_VIEW_INIT;
  EXPECT_EQ(ic_cache_get_view(engine.cache.get(), 2, &view), IC_ERROR_STALE_UNPUBLISHED);
  EXPECT_EQ(last_error(), "layer 2 is Shared and has never published on this cache; its source is layer 0");
  std::vector<uint64_t> block(4096);
  EXPECT_EQ(ic_cache_export(engine.cache.get(), 4, 0, IC_MEMORY_HOST, block.data(), block.size() * 8, nullptr),
            IC_ERROR_STALE_UNPUBLISHED);
  EXPECT_NE(last_error().find("its source is layer 3"), std::string::npos) << last_error();

  // Layer 1 runs Full in this generation: it publishes, and is the source of layer 2 from now on.
  ASSERT_IC_OK(engine.forward({.layer = 1, .mode = IC_LAYER_FULL}));
  ASSERT_IC_OK(ic_cache_get_view(engine.cache.get(), 1, &view));
  engine.expect_selection(view, 1);
  EXPECT_EQ(ic_cache_get_view(engine.cache.get(), 2, &view), IC_ERROR_STALE_UNPUBLISHED);
  EXPECT_NE(last_error().find("its source is layer 1"), std::string::npos) << last_error();
}

TEST(SourceLayer, AFullLayerIsToldToRun) {
  ToyEngine engine(ToyOptions{.pattern = "FSSFS"});
  engine.set_last_rows(2);
  ASSERT_IC_OK(engine.begin());
  ic_index_view view = IC_INDEX_VIEW_INIT;
  EXPECT_EQ(ic_cache_get_view(engine.cache.get(), 3, &view), IC_ERROR_STALE_UNPUBLISHED);
  EXPECT_NE(last_error().find("run it Full"), std::string::npos) << last_error();
}

}  // namespace
}  // namespace ic::test
