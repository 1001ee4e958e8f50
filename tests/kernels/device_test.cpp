#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/recording.h"
#include "kernels/reference.h"
#include "tte/error.h"

namespace tte::kernels {
namespace {

TEST(DeviceTest, LoadCudaAgreesWithCudaAvailableAndNamesTheDevices) {
  if (cuda_available()) {
    EXPECT_NO_THROW(load_cuda());
    return;
  }
  try {
    load_cuda();
    FAIL() << "load_cuda() must throw where cuda_available() is false";
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("cpu"));
    EXPECT_THAT(error.what(), testing::HasSubstr("cuda"));
  }
}

TEST(DeviceTest, OtherDevicesAreRefusedByName) {
  const at::Tensor x = at::empty({2, 4}, at::TensorOptions().device(at::kMeta).dtype(at::kFloat));
  try {
    silu_mul(x);
    FAIL() << "a tensor without a kernel table must be refused";
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("meta"));
  }
  EXPECT_THROW(cache_block_size(at::kMeta), DeviceError);
}

TEST(DeviceTest, TheProcessorRecordsNothing) {
  EXPECT_FALSE(reads_device_lengths(at::kCPU, at::kBFloat16, 128));
  EXPECT_THROW(record(
                   at::kCPU, [] {}, nullptr),
               c10::Error);
}

}  // namespace
}  // namespace tte::kernels
