// SPDX-License-Identifier: Apache-2.0
// SHA-256 against the examples of FIPS 180-4 and lengths around a block.
#include "core/sha256.h"

#include <gtest/gtest.h>

#include <string>

namespace ic {
namespace {

std::string hex(const std::array<uint8_t, 32> &digest) {
  std::string out;
  for (const uint8_t byte : digest) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

TEST(Sha256, PublishedExamples) {
  EXPECT_EQ(hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(hex(sha256(std::string(1000000, 'a'))), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, LengthsAroundTheBlock) {
  EXPECT_EQ(hex(sha256(std::string(55, 'F'))), "aa5ed4701dc567390528cc541f2fd1fc0f3b6f4c8df1609aeda6044d18e433e2");
  EXPECT_EQ(hex(sha256(std::string(56, 'F'))), "f2a9dbc5c4dc3df72a1a6f09919a2c2a1dbdc781840c947ab7cb136fc0a56ed4");
  EXPECT_EQ(hex(sha256(std::string(63, 'F'))), "4a714ea485a305466bc106418218766417d28f3d42ebfebcddd31cffe2115750");
  EXPECT_EQ(hex(sha256(std::string(64, 'F'))), "0b7f44b7e52fa47c779d80d51089eef1bbc3ad80cae12ecea1ab7ca9c05fc91a");
  EXPECT_EQ(hex(sha256(std::string(119, 'F'))), "90cdd6f79f169e9d1ef7b55efeed3516df60c41f0fbafa38a351b421789a64d7");
}

TEST(Sha256, FirstEightBytesAreLittleEndian) {
  // "abc" begins ba 78 16 bf 8f 01 cf ea.
  EXPECT_EQ(sha256_first_8("abc"), 0xeacf018fbf1678bau);
}

}  // namespace
}  // namespace ic
