// SPDX-License-Identifier: Apache-2.0
#include "agent/frame.h"

#include <algorithm>
#include <cstring>

namespace omerta::agent {

void append_frame(std::vector<uint8_t>& out, Kind kind, std::span<const uint8_t> payload) {
  const size_t length = payload.size();
  const uint8_t header[kHeader] = {static_cast<uint8_t>(kind), static_cast<uint8_t>(length),
                                   static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length >> 16)};
  out.insert(out.end(), header, header + kHeader);
  out.insert(out.end(), payload.begin(), payload.end());
}

void append_frame(std::vector<uint8_t>& out, Kind kind, uint32_t number) {
  uint8_t bytes[4];
  for (size_t i = 0; i < sizeof bytes; ++i) bytes[i] = static_cast<uint8_t>(number >> (8 * i));
  append_frame(out, kind, bytes);
}

std::span<uint8_t> FrameReader::space() {
  if (begin_ > 0) {
    std::memmove(bytes_.data(), bytes_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  return std::span(bytes_).subspan(end_);
}

FrameReader::Next FrameReader::next(Frame& frame) {
  if (end_ - begin_ < kHeader) return Next::more;
  const uint8_t* at = bytes_.data() + begin_;
  const size_t length = at[1] | size_t{at[2]} << 8 | size_t{at[3]} << 16;
  if (length > kMaxPayload) return Next::broken;
  if (end_ - begin_ < kHeader + length) return Next::more;
  frame = {static_cast<Kind>(at[0]), {at + kHeader, length}};
  begin_ += kHeader + length;
  return Next::frame;
}

bool read_command(std::span<const uint8_t> payload, Command& command) {
  if (payload.size() < 2) return false;
  const size_t count = payload[0] | size_t{payload[1]} << 8;
  std::vector<std::string> strings;
  for (auto rest = payload.subspan(2); !rest.empty();) {
    const auto end = std::find(rest.begin(), rest.end(), uint8_t{0});
    if (end == rest.end()) return false;
    strings.emplace_back(rest.begin(), end);
    rest = rest.subspan(static_cast<size_t>(end - rest.begin()) + 1);
  }
  if (count == 0 || strings.size() < count) return false;
  const auto middle = strings.begin() + static_cast<std::ptrdiff_t>(count);
  command.words.assign(strings.begin(), middle);
  command.environment.assign(middle, strings.end());
  return true;
}

}  // namespace omerta::agent
