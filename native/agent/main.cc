// SPDX-License-Identifier: Apache-2.0
// omerta-agent: the first process of a guest machine. It runs what the host asks for, and the machine ends
// when the host is gone.
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "agent/command_channel.h"
#include "agent/guest_setup.h"

namespace {

using namespace omerta::agent;

/// Readable when a process ended: of this one, which inherits those without a parent.
int watch_children() {
  sigset_t ended;
  sigemptyset(&ended);
  sigaddset(&ended, SIGCHLD);
  sigprocmask(SIG_BLOCK, &ended, nullptr);
  return signalfd(-1, &ended, SFD_NONBLOCK | SFD_CLOEXEC);
}

void reap(int children, CommandChannel& channel) {
  signalfd_siginfo info;
  while (read(children, &info, sizeof info) > 0) {
  }
  int status = 0;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) channel.ended(pid, status);
}

void serve(int port) {
  const int children = watch_children();
  CommandChannel channel(port, add_randomness);
  std::vector<pollfd> polled;
  for (channel.advance(); !channel.is_over(); channel.advance()) {
    polled.assign(1, {children, POLLIN, 0});
    channel.wants(polled);
    poll(polled.data(), polled.size(), -1);
    reap(children, channel);
  }
}

}  // namespace

int main() {
  if (getpid() != 1) {
    std::fputs("omerta-agent: it is the first process of a guest machine, and nothing else\n", stderr);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  set_up_guest();
  if (const int port = open_command_port(); port >= 0) serve(port);
  sync();
  reboot(RB_POWER_OFF);
  return 1;
}
