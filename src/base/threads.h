// How many threads operations of torch use, and whether the system gives them.
#pragma once

#include <optional>

namespace tte::base {

// Sets it for the calling thread only, unlike at::set_num_threads: the program that tte is part of, and its
// other threads, keep theirs.
void set_operation_threads(int threads);

// Makes the threads that the calling thread's operations run on, where they are not there yet. OpenMP would make them
// in the first operation, and ends the process where the system gives none (no address space, too many threads), so
// that is tried before. False: it gives none.
bool make_operation_threads();

// Runs a small operation, so that what libraries keep for each thread is there for the calling one. The C library makes
// it when it is first used, and ends the process where there is no memory for it.
void touch_thread_locals();

// Throws std::bad_alloc where there is no memory for what so many threads keep for themselves.
void check_room_for(int threads);

// Operations of the calling thread run on it alone while one lives.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

// While one lives, operations of the calling thread run on as many threads as before it, or on one where the system
// does not give them.
class AvailableThreads {
 public:
  AvailableThreads();

 private:
  std::optional<OneThread> alone_;
};

// The most that it makes sense to ask for on this machine. Far above it threads cannot be created, and OpenMP
// then ends the process.
int most_threads();

// Threads that read media: so many as are wanted; 0: a quarter of the cores, at least one.
int media_threads(int wanted);

}  // namespace tte::base
