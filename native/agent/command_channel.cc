// SPDX-License-Identifier: Apache-2.0
#include "agent/command_channel.h"

#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace omerta::agent {

namespace {

constexpr uint8_t kNotFound = 127;
constexpr uint8_t kNotStarted = 126;
constexpr size_t kMaxText = 4096;
constexpr size_t kChunk = kMaxPayload / 2;

bool would_wait() { return errno == EAGAIN || errno == EINTR; }

size_t readable(int fd) {
  int bytes = 0;
  return fd >= 0 && ioctl(fd, FIONREAD, &bytes) == 0 ? static_cast<size_t>(bytes) : 0;
}

}  // namespace

CommandChannel::CommandChannel(int stream, void (*seed)(std::span<const uint8_t>))
    : stream_(stream), seed_(seed) {
  uint8_t hello[5] = {kVersion};
  for (size_t i = 0; i < 4; ++i) hello[1 + i] = static_cast<uint8_t>(kGranted >> (8 * i));
  append_frame(out_, Kind::ready, hello);
}

CommandChannel::~CommandChannel() {
  if (is_running_) forget();
}

void CommandChannel::wants(std::vector<pollfd>& polled) const {
  polled.push_back({stream_, static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT)), 0});
  if (!is_running_) return;
  const auto& [child, input, input_ended, reaped, status, output_left, errors_left] = running_;
  if (child.input >= 0 && !input.empty()) polled.push_back({child.input, POLLOUT, 0});
  if (!out_.empty()) return;
  for (const int fd : {child.output, child.errors})
    if (fd >= 0) polled.push_back({fd, POLLIN, 0});
}

void CommandChannel::advance() {
  read_frames();
  if (is_running_) feed();
  while (!over_ && write_out() && is_running_) {
    auto& [child, input, input_ended, reaped, status, output_left, errors_left] = running_;
    const bool has_output = take(child.output, output_left, Kind::output);
    const bool has_errors = take(child.errors, errors_left, Kind::errors);
    if (has_output || has_errors) continue;
    if (!reaped) return;
    append_frame(out_, Kind::exited, {&status, 1});
    forget();
  }
}

void CommandChannel::read_frames() {
  while (!over_) {
    const auto space = reader_.space();
    const ssize_t got = read(stream_, space.data(), space.size());
    if (got < 0 && would_wait()) return;
    if (got <= 0) {
      over_ = true;
      return;
    }
    reader_.filled(static_cast<size_t>(got));
    Frame frame{};
    auto next = FrameReader::Next::more;
    while (!over_ && (next = reader_.next(frame)) == FrameReader::Next::frame) act(frame);
    if (next == FrameReader::Next::broken) over_ = true;
  }
}

void CommandChannel::act(const Frame& frame) {
  switch (frame.kind) {
    case Kind::start:
      return start(frame.payload);
    case Kind::input:
      return add_input(frame.payload);
    case Kind::input_end:
      running_.input_ended = is_running_;
      return;
    case Kind::signal:
      if (frame.payload.size() == 1 && is_running_ && !running_.reaped)
        kill(-running_.child.pid, frame.payload[0]);
      return;
    case Kind::seed:
      if (frame.payload.size() == kSeed) seed_(frame.payload);
      return;
    default:
      over_ = true;  // what only an agent says, or a later host
  }
}

void CommandChannel::start(std::span<const uint8_t> payload) {
  Command command;
  if (is_running_ || !read_command(payload, command)) {
    over_ = true;
    return;
  }
  running_ = {};
  const int error = start_child(command, running_.child);
  is_running_ = error == 0;
  if (is_running_) return;
  const std::string text = (command.words[0] + ": " + std::strerror(error)).substr(0, kMaxText);
  std::vector<uint8_t> said{error == ENOENT ? kNotFound : kNotStarted};
  said.insert(said.end(), text.begin(), text.end());
  append_frame(out_, Kind::failed, said);
}

void CommandChannel::add_input(std::span<const uint8_t> bytes) {
  if (!is_running_) return;  // it was on its way when the command ended
  auto& input = running_.input;
  over_ = running_.input_ended || input.size() + bytes.size() > kGranted;
  if (!over_) input.insert(input.end(), bytes.begin(), bytes.end());
}

bool CommandChannel::write_out() {
  size_t written = 0;
  bool is_waiting = false;
  while (written < out_.size() && !is_waiting && !over_) {
    const ssize_t put = write(stream_, out_.data() + written, out_.size() - written);
    if (put > 0) written += static_cast<size_t>(put);
    is_waiting = put < 0 && errno == EAGAIN;
    over_ = put < 0 && !would_wait();
  }
  out_.erase(out_.begin(), out_.begin() + static_cast<std::ptrdiff_t>(written));
  return out_.empty();
}

void CommandChannel::feed() {
  auto& input = running_.input;
  int& fd = running_.child.input;
  size_t fed = 0;
  bool is_waiting = false;
  while (fd >= 0 && fed < input.size() && !is_waiting) {
    const ssize_t put = write(fd, input.data() + fed, input.size() - fed);
    if (put > 0) fed += static_cast<size_t>(put);
    is_waiting = put < 0 && errno == EAGAIN;
    if (put < 0 && !would_wait()) close_end(fd);
  }
  // It reads no more: whoever sends has to be able to send on, to the end.
  if (fd < 0) fed = input.size();
  if (fed > 0) append_frame(out_, Kind::taken, static_cast<uint32_t>(fed));
  input.erase(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(fed));
  if (input.empty() && running_.input_ended) close_end(fd);
}

bool CommandChannel::take(int& fd, size_t& left, Kind kind) {
  if (fd < 0 || left == 0) return false;
  uint8_t bytes[kChunk];
  const ssize_t got = read(fd, bytes, std::min(sizeof bytes, left));
  if (got < 0 && would_wait()) return false;
  if (got <= 0) {
    close_end(fd);
    return false;
  }
  if (left != SIZE_MAX) left -= static_cast<size_t>(got);
  append_frame(out_, kind, {bytes, static_cast<size_t>(got)});
  return true;
}

void CommandChannel::ended(pid_t pid, int status) {
  if (!is_running_ || pid != running_.child.pid) return;
  running_.reaped = true;
  running_.status = static_cast<uint8_t>(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  // All it printed is in the pipes. What it left running may print on, and is not waited for.
  running_.output_left = readable(running_.child.output);
  running_.errors_left = readable(running_.child.errors);
}

void CommandChannel::forget() {
  auto& child = running_.child;
  if (!running_.reaped) kill(-child.pid, SIGKILL);
  for (int* end : {&child.input, &child.output, &child.errors}) close_end(*end);
  running_ = {};
  is_running_ = false;
}

}  // namespace omerta::agent
