// SPDX-License-Identifier: Apache-2.0
#include "agent/child.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string_view>
#include <vector>

namespace omerta::agent {

namespace {

constexpr const char* kDefaultPath = "/usr/sbin:/usr/bin:/sbin:/bin";

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (const auto& each : strings) result.push_back(const_cast<char*>(each.c_str()));
  result.push_back(nullptr);
  return result;
}

/// In the child, from fork to exec: what it cannot do is told by `report`.
[[noreturn]] void become(const Command& command, const int ends[3], int report) {
  for (int fd = 0; fd < 3; ++fd) dup2(ends[fd], fd);
  setsid();
  signal(SIGPIPE, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  auto words = pointers(command.words);
  auto environment = pointers(command.environment);
  const char* path = kDefaultPath;
  for (const auto& each : command.environment)
    if (each.starts_with("PATH=")) path = each.c_str() + 5;
  setenv("PATH", path, 1);  // where execvpe looks
  execvpe(words[0], words.data(), environment.data());
  const int error = errno;
  [[maybe_unused]] const auto told = write(report, &error, sizeof error);
  _exit(127);
}

}  // namespace

void close_end(int& fd) {
  if (fd >= 0) close(fd);
  fd = -1;
}

int start_child(const Command& command, Child& child) {
  // Input, output, errors, and what tells why exec failed: each a reading and a writing end.
  int pipes[4][2];
  for (int made = 0; made < 4; ++made)
    if (pipe2(pipes[made], O_CLOEXEC) != 0) {
      const int error = errno;
      while (made-- > 0) close(pipes[made][0]), close(pipes[made][1]);
      return error;
    }
  const int ends[3] = {pipes[0][0], pipes[1][1], pipes[2][1]};
  const pid_t pid = fork();
  if (pid == 0) become(command, ends, pipes[3][1]);
  int error = pid < 0 ? errno : 0;
  for (const int end : ends) close(end);
  close(pipes[3][1]);
  if (pid > 0 && read(pipes[3][0], &error, sizeof error) < 0) error = errno;
  close(pipes[3][0]);
  child = {pid, pipes[0][1], pipes[1][0], pipes[2][0]};
  for (const int fd : {child.input, child.output, child.errors}) fcntl(fd, F_SETFL, O_NONBLOCK);
  if (error != 0)
    for (int* end : {&child.input, &child.output, &child.errors}) close_end(*end);
  return error;
}

}  // namespace omerta::agent
