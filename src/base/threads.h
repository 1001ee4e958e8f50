// How many threads operations of torch use.
#pragma once

namespace tte::base {

// Sets it for the calling thread only, unlike at::set_num_threads: the program that tte is part of, and its
// other threads, keep theirs.
void set_operation_threads(int threads);

// The most that it makes sense to ask for on this machine. Far above it threads cannot be created, and OpenMP
// then ends the process.
int most_threads();

// Threads that read media: so many as are wanted; 0: a quarter of the cores, at least one.
int media_threads(int wanted);

}  // namespace tte::base
