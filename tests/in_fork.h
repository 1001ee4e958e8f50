// What a forked process does, which has none of its parent's threads.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

namespace tte::testing {

// The exit status of a forked process that runs `body` and then ends as programs do; a signal's number above
// 128 as shells say it. It is killed by SIGALRM when it does not end by itself.
template <typename F>
int status_of_fork(F&& body) {
  constexpr unsigned kSeconds = 60;
  const pid_t child = fork();
  if (child == 0) {
    alarm(kSeconds);
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace tte::testing
