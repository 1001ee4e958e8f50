#include "media/patches.h"

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "media_test_util.h"

namespace tte::media::testing {
namespace {

TEST(Patches, DigestFollowsContent) {
  const PatchSpec spec = kPatches;
  const auto digest = [&](const at::Tensor& image, const PatchSpec& s) {
    return patchify({image}, s, {56, 56}).digest;
  };
  const base::Digest first = digest(pattern(60, 60), spec);
  EXPECT_EQ(first, digest(pattern(60, 60), spec));
  EXPECT_NE(first, digest(pattern(60, 60, 1), spec));
  EXPECT_NE(first, patchify({pattern(60, 60)}, spec, {56, 84}).digest);
  PatchSpec other = kPatches;
  other.mean[0] = 0.5;
  EXPECT_NE(first, digest(pattern(60, 60), other));
}

TEST(Patches, StridedInputGivesTheSame) {
  const at::Tensor image = pattern(64, 80);
  const at::Tensor strided = image.permute({2, 0, 1}).contiguous().permute({1, 2, 0});
  ASSERT_FALSE(strided.is_contiguous());
  EXPECT_TRUE(at::equal(patchify({image}, kPatches, {56, 84}).values,
                        patchify({strided}, kPatches, {56, 84}).values));
}

TEST(Patches, OddFrameIsRepeated) {
  const std::vector<at::Tensor> three = {pattern(56, 56, 1), pattern(56, 56, 2), pattern(56, 56, 3)};
  std::vector<at::Tensor> four = three;
  four.push_back(three.back());
  const Patches a = patchify(three, kPatches, {56, 56});
  EXPECT_EQ(a.t, 2);
  EXPECT_TRUE(at::equal(a.values, patchify(four, kPatches, {56, 56}).values));
}

}  // namespace
}  // namespace tte::media::testing
