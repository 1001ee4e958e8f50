#include "prompt/trace_text.h"

#include <gtest/gtest.h>

namespace tte::prompt {
namespace {

struct Case {
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
    ::testing::Values(Case{"<think> a b </think> c\n", "a b", "c"}, Case{"no tags", "", "no tags"},
                      Case{"opened in the prompt</think>c", "opened in the prompt", "c"},
                      Case{"a</think> b <think> c </think>", "a", "b <think> c </think>"},
                      Case{"<think>cut short", "cut short", ""}, Case{"", "", ""},
                      Case{"<think></think>", "", ""},
                      Case{"a <think>b</think> c </think> d", "b", "c </think> d"}));

TEST(SplitTrace, OfARecipeWithoutTagsIsAllConclusion) {
  Trace trace;
  trace.text = "<think>a</think>b";
  split_trace(trace, "", "");
  EXPECT_EQ(trace.thinking, "");
  EXPECT_EQ(trace.conclusion, "<think>a</think>b");
}

}  // namespace
}  // namespace tte::prompt
