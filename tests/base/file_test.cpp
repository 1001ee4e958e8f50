#include "base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>

#include "base/json.h"
#include "expect_error.h"
#include "temp_dir.h"

namespace tte::base {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

std::string error_of(const std::filesystem::path& path) {
  const std::string message = message_of<ModelError>([&] { read_file(path, 100); });
  EXPECT_LT(message.size(), 500U);
  EXPECT_EQ(printable(message, 1000), message) << "fit for one line";
  return message;
}

TEST(File, IsReadWhole) {
  const testing::TempDir folder;
  const std::string bytes("a\0b\xff\n", 5);
  EXPECT_EQ(read_file(folder.write("f", bytes), 5), bytes);
  EXPECT_EQ(read_file(folder.write("g", ""), 0), "");
  EXPECT_THAT(error_of(folder.write("h", std::string(101, 'x'))), AllOf(HasSubstr("101"), HasSubstr("100")));
}

TEST(File, OnlyRegularFilesAreRead) {
  const testing::TempDir folder;
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("loop", folder.path() / "loop");
  std::filesystem::create_symlink("nowhere", folder.path() / "dangling");
  std::filesystem::create_symlink(folder.write("real", "x"), folder.path() / "link");
  EXPECT_THAT(error_of(folder.path() / "pipe"), HasSubstr("a pipe, socket or device"));
  EXPECT_THAT(error_of("/dev/zero"), HasSubstr("a pipe, socket or device"));
  EXPECT_THAT(error_of(folder.path()), HasSubstr("a folder"));
  EXPECT_THAT(error_of(folder.path() / "loop"), HasSubstr("cannot be opened"));
  EXPECT_THAT(error_of(folder.path() / "dangling"), HasSubstr("a link to a file that is missing"));
  EXPECT_THAT(error_of(folder.path() / "none"), HasSubstr("does not exist"));
  EXPECT_EQ(read_file(folder.path() / "link", 9), "x");
  for (const char* name : {"pipe", "loop", "dangling", "link", "."})
    EXPECT_TRUE(is_present(folder.path() / name));
  EXPECT_FALSE(is_present(folder.path() / "none"));
}

TEST(File, PathsThatNoFileCanHave) {
  EXPECT_THAT(error_of(std::string("/tmp/a\0b", 8)), HasSubstr("NUL"));
  EXPECT_FALSE(is_present(std::string("/tmp\0b", 6)));
  const std::string long_name(5000, 'n');
  EXPECT_THAT(error_of("/tmp/" + long_name), HasSubstr("cannot be opened"));
  EXPECT_FALSE(is_present("/tmp/" + long_name));
  EXPECT_THAT(error_of("/tmp/\xff\xfe/\n.json"), HasSubstr("\\xff\\xfe/\\x0a.json"));
}

TEST(File, OfALongPathTheEndIsShown) {
  EXPECT_EQ(shown(std::filesystem::path("/a/b.json")), "/a/b.json");
  const std::filesystem::path folder = std::string(900, 'x');
  const std::string end = shown(folder / "config.json");
  EXPECT_LE(end.size(), 250U);
  EXPECT_TRUE(end.starts_with("...") && end.ends_with("/config.json")) << end;
}

}  // namespace
}  // namespace tte::base
