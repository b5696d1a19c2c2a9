// SPDX-License-Identifier: Apache-2.0
// What the host and the agent in a guest say to each other, over any stream of bytes: a virtio-serial port.
// ts/provider/machine/agent-frames.ts says the same.
//
//   frame   kind u8 | length u24 | payload (length bytes, at most 65,536)      integers little-endian
//
//   to the agent
//     1 start   count u16 | strings, each ended by a zero byte: `count` words of the command, then
//     NAME=VALUE… 2 input   bytes for its standard input: never more than were granted and not yet reported
//     as taken 3 input-end 4 signal  u8, sent to the command and what it started 5 seed    32 random bytes,
//     before anything else: the kernel of a guest has no randomness of its own
//   from it
//     16 ready  version u8 = 1 | granted u32: bytes of input that may be on their way
//     17 output bytes   18 errors bytes
//     19 exited status u8: that of the command, or 128 and the signal that ended it
//     20 failed status u8 | text: the command cannot be started (126, or 127 when it is not found)
//     21 taken  u32: so many bytes of input went on to the command, or were dropped because it reads no more
//
// One command runs at a time. After `exited` or `failed` another may be started: what was sent of input until
// then is forgotten, and as much as at first is granted again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace omerta::agent {

enum class Kind : uint8_t {
  start = 1,
  input = 2,
  input_end = 3,
  signal = 4,
  seed = 5,
  ready = 16,
  output = 17,
  errors = 18,
  exited = 19,
  failed = 20,
  taken = 21,
};

constexpr uint8_t kVersion = 1;
constexpr size_t kHeader = 4;
constexpr size_t kMaxPayload = 65'536;
/// Of standard input: as much as may be on its way, and so as much as the agent keeps.
constexpr size_t kGranted = 262'144;
constexpr size_t kSeed = 32;

struct Frame {
  Kind kind;
  std::span<const uint8_t> payload;  // of the reader: until it is given more
};

/// Appends a frame. Precondition: at most kMaxPayload bytes.
void append_frame(std::vector<uint8_t>& out, Kind kind, std::span<const uint8_t> payload);
void append_frame(std::vector<uint8_t>& out, Kind kind, uint32_t number);

/// Puts frames together from a stream in any pieces; keeps no more than one.
class FrameReader {
 public:
  /// Where the next bytes belong; never empty.
  std::span<uint8_t> space();
  void filled(size_t bytes) { end_ += bytes; }
  enum class Next : uint8_t { frame, more, broken };
  /// Takes one out. `broken`: it is longer than any, and nothing after it can be read.
  Next next(Frame& frame);

 private:
  std::array<uint8_t, 2 * (kHeader + kMaxPayload)> bytes_;
  size_t begin_ = 0, end_ = 0;
};

/// What a command is started with.
struct Command {
  std::vector<std::string> words, environment;
};

/// False when the payload is not one: no word, a string without its end, or fewer strings than `count`.
bool read_command(std::span<const uint8_t> payload, Command& command);

}  // namespace omerta::agent
