// SPDX-License-Identifier: Apache-2.0
// Runs commands, one after the other, for whoever is at the other end of a stream: frames (frame.h) in and
// out, pipes of the command between. Nothing is kept beyond the input that was granted and a frame of output
// of each kind: a reader that waits makes the command wait.
#pragma once

#include <poll.h>

#include <vector>

#include "agent/child.h"
#include "agent/frame.h"

namespace omerta::agent {

class CommandChannel {
 public:
  /// `stream`: non-blocking, the caller's. `seed`: what is done with randomness of the host.
  CommandChannel(int stream, void (*seed)(std::span<const uint8_t>));
  ~CommandChannel();
  CommandChannel(const CommandChannel&) = delete;
  CommandChannel& operator=(const CommandChannel&) = delete;

  /// What it waits for, appended.
  void wants(std::vector<pollfd>& polled) const;
  /// Does what can be done without waiting, whatever poll said.
  void advance();
  /// `status` as waitpid has it. Nothing happens for a process that is not the command.
  void ended(pid_t pid, int status);
  /// Whether the other end is gone, or said what no host says: nothing is left to do.
  bool is_over() const { return over_; }

 private:
  /// A command that was started and whose end was not told yet.
  struct Running {
    Child child;
    std::vector<uint8_t> input;
    bool input_ended = false, reaped = false;
    uint8_t status = 0;
    size_t output_left = SIZE_MAX, errors_left = SIZE_MAX;  // that may still be read
  };

  void read_frames();
  void act(const Frame& frame);
  void start(std::span<const uint8_t> payload);
  void add_input(std::span<const uint8_t> bytes);
  bool write_out();
  void feed();
  /// Sends what the command printed. @returns whether there was any
  bool take(int& fd, size_t& left, Kind kind);
  void forget();

  const int stream_;
  void (*const seed_)(std::span<const uint8_t>);
  FrameReader reader_;
  std::vector<uint8_t> out_;
  bool is_running_ = false, over_ = false;
  Running running_;
};

}  // namespace omerta::agent
