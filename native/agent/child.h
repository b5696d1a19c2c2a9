// SPDX-License-Identifier: Apache-2.0
// A command with pipes for its standard streams, in a session of its own, so that a signal reaches what it
// started.
#pragma once

#include <sys/types.h>

#include <string>

#include "agent/frame.h"

namespace omerta::agent {

struct Child {
  pid_t pid = -1;
  int input = -1, output = -1, errors = -1;  // this end of the pipes, non-blocking
};

/// Starts it. @returns 0, or the errno of what failed; the command is then not running.
int start_child(const Command& command, Child& child);

/// Closes one end and forgets it.
void close_end(int& fd);

}  // namespace omerta::agent
