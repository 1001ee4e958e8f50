// Every allocation of an engine's steps fails once: the request gets an error, and the engine goes on.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "engine/fake_model.h"
#include "tte/error.h"

namespace {

// Allocations of this thread until one fails; negative: none does.
thread_local std::int64_t allocations_left = -1;

void* allocate(std::size_t bytes) {
  if (allocations_left >= 0 && allocations_left-- == 0) throw std::bad_alloc();
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}

}  // namespace

// They replace those of the whole program, which is why this is the only place that has them.
void* operator new(std::size_t bytes) {
  return allocate(bytes);
}
void* operator new[](std::size_t bytes) {
  return allocate(bytes);
}
// For the standard library's temporary buffers: what it gives goes to the operators below.
void* operator new(std::size_t bytes, const std::nothrow_t& /*tag*/) noexcept {
  return std::malloc(bytes);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete[](void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace tte::engine::testing {
namespace {

// Steps before and after an engine's, on the same thread: only the engine's allocations count.
class Gate : public Stepper {
 public:
  Gate(std::int64_t& left, bool opens) : left_(left), opens_(opens) {}
  bool step() override {
    if (opens_) {
      allocations_left = left_;
    } else {
      left_ = allocations_left;
      allocations_left = -1;
    }
    return false;
  }

 private:
  std::int64_t& left_;
  bool opens_;
};

enum class Outcome { kResult, kNoMemory };

template <typename T>
Outcome outcome_of(std::future<T> future) {
  try {
    future.get();
    return Outcome::kResult;
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("memory ran out"), std::string::npos) << error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error: " << error.what();
  }
  return Outcome::kNoMemory;
}

std::shared_ptr<const models::Prompt> prompt() {
  return make_prompt({std::string("see "), make_visual(3, 4, 4), std::string(" and tell")});
}

// Whether allocation number `n` of the steps was reached.
bool fails_cleanly(std::int64_t n) {
  FakeModel::Options options;
  options.capacity = 44;  // Some have to pause.
  const auto model = std::make_shared<FakeModel>(options);
  const auto tokenizer = std::make_shared<FakeTokenizer>();
  std::int64_t left = n;
  auto executor = std::make_shared<Executor>(1, 1 << 20);
  const auto hold = Hold::on(*executor);
  const auto open = std::make_shared<Gate>(left, true);
  const auto close = std::make_shared<Gate>(left, false);
  executor->add(open);
  auto engine = std::make_unique<Engine>(model, tokenizer, executor, EngineOptions());
  executor->add(close);
  std::vector<std::future<GenerateResult>> traces;
  for (int i = 0; i < 3; ++i) {
    auto request = generate_request(i == 0 ? prompt() : text_prompt(6 + i, static_cast<std::uint64_t>(i)), 9);
    request.pin_state = i == 1;
    traces.push_back(engine->submit(std::move(request)));
  }
  auto mean = engine->submit(encode_request(prompt(), Output::kMean));
  auto last = engine->submit(encode_request(text_prompt(9, 4)));
  hold->let_go();
  int results = 0;
  for (auto& trace : traces) results += outcome_of(std::move(trace)) == Outcome::kResult ? 1 : 0;
  results += outcome_of(std::move(mean)) == Outcome::kResult ? 1 : 0;
  results += outcome_of(std::move(last)) == Outcome::kResult ? 1 : 0;
  // It may have been the turn of none of these.
  const auto serves = [&] {
    return outcome_of(engine->submit(encode_request(text_prompt(12, 5)))) == Outcome::kResult;
  };
  EXPECT_TRUE(serves() || serves()) << "the engine goes on";
  engine.reset();
  executor.reset();  // Its thread has ended: `left` is not written any more.
  EXPECT_EQ(model->used(), 0);
  EXPECT_TRUE(left < 0 || results == 5);
  return left < 0;
}

TEST(NoMemory, EveryAllocationOfAStepMayFail) {
  std::int64_t n = 0;
  for (; fails_cleanly(n) && !HasFailure(); ++n) {
  }
  EXPECT_FALSE(HasFailure()) << "at allocation " << n;
  EXPECT_GT(n, 100);
}

}  // namespace
}  // namespace tte::engine::testing
