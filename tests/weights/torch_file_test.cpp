#include "weights/torch_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "temp_dir.h"
#include "tte/error.h"
#include "weights/torch_archive.h"

namespace tte::weights {
namespace {

using ::testing::HasSubstr;
using testing::tensor_pickle;
using testing::torch_archive;

class TorchFile : public ::testing::Test {
 protected:
  [[nodiscard]] auto read(const std::string& content) const {
    return read_torch_file(MappedFile::open(folder_.write("heads.pt", content)));
  }
  [[nodiscard]] auto read_pickle(const std::string& pickle, std::size_t alignment = 64) const {
    return read(torch_archive({{"data.pkl", pickle}, {"data/0", floats(12)}}, alignment));
  }
  // What a file is refused for.
  [[nodiscard]] std::string refusal(const std::string& pickle, std::size_t alignment = 64) const {
    try {
      (void)read_pickle(pickle, alignment);
    } catch (const ModelError& error) {
      EXPECT_THAT(error.what(), HasSubstr("heads.pt"));
      EXPECT_LT(std::string(error.what()).size(), 500);
      return error.what();
    }
    return "";
  }
  static std::string floats(int count) {
    const at::Tensor values = at::arange(count, at::kFloat);
    return {static_cast<const char*>(values.const_data_ptr()), values.nbytes()};
  }
  testing::TempDir folder_;
};

TEST_F(TorchFile, TensorsAreViewsOfTheFile) {
  const auto found = read_pickle(tensor_pickle("w", 12, 1, {2, 3}, {1, 4}));
  ASSERT_EQ(found.size(), 1);
  const at::Tensor expected = at::arange(12, at::kFloat).as_strided({2, 3}, {1, 4}, 1);
  EXPECT_TRUE(at::equal(found.at("w").at(0), expected));
}

TEST_F(TorchFile, TensorsStayInTheirStorage) {
  for (const auto& [offset, sizes, strides] :
       std::vector<std::tuple<std::size_t, std::vector<int>, std::vector<int>>>{
           {0, {13}, {1}},
           {1, {12}, {1}},
           {12, {1}, {1}},
           {0, {2, 3}, {1, 6}},
           {0, {-1}, {1}},
           {0, {2}, {-1}},
           {0, {0}, {1}},
           {0xffffffff, {1}, {1}},
           {0, {2147483647, 2147483647}, {2147483647, 2147483647}}}) {
    EXPECT_THAT(refusal(tensor_pickle("w", 12, offset, sizes, strides)), HasSubstr("tensor"));
  }
  EXPECT_THAT(refusal(tensor_pickle("w", 13, 0, {1}, {1})), HasSubstr("of another count"));
  EXPECT_THAT(refusal(tensor_pickle("w", 12, 0, std::vector<int>(65, 1), std::vector<int>(65, 1))),
              HasSubstr("too many dimensions"));
}

// A copy of the numbers for each time that a pickle names them would be a bomb.
TEST_F(TorchFile, NumbersThatDoNotLieOnTheirBoundariesAreRefused) {
  EXPECT_THAT(refusal(tensor_pickle("w", 12, 0, {12}, {1}), 63), HasSubstr("begin where"));
}

TEST_F(TorchFile, PicklesAreSmall) {
  EXPECT_THAT(refusal(std::string(std::size_t{2} << 20, 'N')), HasSubstr("more than 1 MB"));
}

TEST_F(TorchFile, UnsoundPicklesAreRefused) {
  const std::string mark = "(", list = "]", dict = "}";
  for (const std::string& pickle : std::vector<std::string>{"",
                                                            ".",
                                                            "e.",
                                                            "s.",
                                                            "u.",
                                                            "a.",
                                                            "t.",
                                                            "\x85.",
                                                            "R.",
                                                            "Q.",
                                                            "b.",
                                                            "h\1.",
                                                            "j\1\0\0\0",
                                                            "q\1.",
                                                            "]K\1K\2s.",
                                                            "}K\1a.",
                                                            "(K\1u.",
                                                            "}(K\1u.",
                                                            "cos\nsystem\n)R.",
                                                            "cos\nsystem",
                                                            "X\xff\xff\xff\xff",
                                                            "\x8a\x09",
                                                            "K\1.",
                                                            "N.",
                                                            "].",
                                                            "\x8a\x09"
                                                            "123456789.",
                                                            "ctorch._utils\n_rebuild_tensor_v2\n)R.",
                                                            "K\1K\2\x93.",
                                                            "K\1K\2R.",
                                                            "\xff.",
                                                            "ctorch._utils\n_rebuild_parameter\n)R."}) {
    EXPECT_NE(refusal(pickle), "") << ::testing::PrintToString(pickle);
  }
  EXPECT_THAT(refusal("cos\nsystem\n)R."), HasSubstr("os.system"));
  EXPECT_THAT(refusal("c" + std::string(5000, 'x') + "\n" + std::string(5000, 'y') + "\n)R."),
              HasSubstr("xxx"));
}

// A list may hold itself: nobody walks down it.
TEST_F(TorchFile, ListsInThemselvesAreLeftOut) {
  const std::string itself = std::string("}X\1\0\0\0a", 7) + "]q" + std::string("\1h\1", 3) + "as.";
  EXPECT_TRUE(read_pickle(itself).empty());
}

TEST_F(TorchFile, FilesThatAreCutOrOfOtherKindsAreRefused) {
  const std::string whole =
      torch_archive({{"data.pkl", tensor_pickle("w", 12, 0, {12}, {1})}, {"data/0", floats(12)}});
  EXPECT_EQ(read(whole).size(), 1);
  for (std::size_t end = 1; end < whole.size(); ++end)
    EXPECT_THROW((void)read(whole.substr(0, end)), ModelError) << end;
  EXPECT_THROW((void)read(whole.substr(1)), ModelError);
  EXPECT_THROW((void)read(torch_archive({{"data/0", floats(12)}})), ModelError);
  EXPECT_THROW((void)read(torch_archive({{"data.pkl", tensor_pickle("w", 12, 0, {12}, {1})}})), ModelError);
}

}  // namespace
}  // namespace tte::weights
