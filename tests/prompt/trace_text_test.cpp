#include "prompt/trace_text.h"

#include <gtest/gtest.h>

#include <string>

namespace tte::prompt {
namespace {

struct Case {
  const char* name;
  const char* text;
  const char* thinking;
  const char* conclusion;
};

class SplitTrace : public ::testing::TestWithParam<Case> {};

TEST_P(SplitTrace, AtTheTags) {
  Trace trace;
  trace.text = GetParam().text;
  split_trace(trace, "<think>", "</think>");
  EXPECT_EQ(trace.thinking, GetParam().thinking);
  EXPECT_EQ(trace.conclusion, GetParam().conclusion);
}

INSTANTIATE_TEST_SUITE_P(
    Traces, SplitTrace,
    ::testing::Values(Case{"Both", "<think> a b </think> c\n", "a b", "c"},
                      Case{"NoTags", "no tags", "", "no tags"},
                      Case{"OpenedInThePrompt", "opened in the prompt</think>c", "opened in the prompt", "c"},
                      Case{"OpenedAgain", "a</think> b <think> c </think>", "a", "b <think> c </think>"},
                      Case{"CutShort", "<think>cut short", "cut short", ""}, Case{"Empty", "", "", ""},
                      Case{"OnlyTags", "<think></think>", "", ""},
                      Case{"ClosedTwice", "a <think>b</think> c </think> d", "b", "c </think> d"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(SplitTrace, CutShortAfterATagThatThePromptOpened) {
  Trace trace;
  trace.text = "cut short";
  split_trace(trace, "<think>", "</think>", true);
  EXPECT_EQ(trace.thinking, "cut short");
  EXPECT_EQ(trace.conclusion, "");
  trace.text = "all of it </think> c";
  split_trace(trace, "<think>", "</think>", true);
  EXPECT_EQ(trace.thinking, "all of it");
  EXPECT_EQ(trace.conclusion, "c");
}

TEST(SplitTrace, OfARecipeWithoutTagsIsAllConclusion) {
  Trace trace;
  trace.text = "<think>a</think>b";
  split_trace(trace, "", "");
  EXPECT_EQ(trace.thinking, "");
  EXPECT_EQ(trace.conclusion, "<think>a</think>b");
}

}  // namespace
}  // namespace tte::prompt
