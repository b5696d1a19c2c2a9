// SPDX-License-Identifier: Apache-2.0
// Frames out of a stream of bytes, as QEMU's `-netdev stream` writes them: the length of each in front of it,
// four bytes in network order. Sans-IO; nothing is copied but what is left of a frame when the buffer is
// full.
#pragma once

#include <memory>
#include <span>

#include "guest/ethernet.h"

namespace omerta::guest {

inline constexpr size_t kLengthSize = 4;
/// An IP packet of any length with its Ethernet header. Who announces more speaks something else.
inline constexpr size_t kMaxFrame = 65536 + kEthernetHeader;

class FrameReader {
 public:
  FrameReader() : buffer_(new uint8_t[kBuffer]) {}

  /// Where the next bytes of the stream go, never without room. Frames handed out before are gone.
  std::span<uint8_t> room() {
    if (begin_ != 0) std::memmove(buffer_.get(), buffer_.get() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    return {buffer_.get() + end_, kBuffer - end_};
  }
  void filled(size_t bytes) { end_ += bytes; }
  /// The next whole frame; empty: there is none yet, or never again.
  std::span<uint8_t> next() {
    if (is_broken_ || end_ - begin_ < kLengthSize) return {};
    const size_t length = double_word(buffer_.get() + begin_);
    if (length == 0 || length > kMaxFrame) {
      is_broken_ = true;
      return {};
    }
    if (end_ - begin_ < kLengthSize + length) return {};
    const std::span<uint8_t> frame(buffer_.get() + begin_ + kLengthSize, length);
    begin_ += kLengthSize + length;
    return frame;
  }
  /// A length came that no frame has: where the next begins is not known any more.
  bool is_broken() const { return is_broken_; }
  /// Bytes of a frame that is not whole.
  size_t pending() const { return end_ - begin_; }
  /// Another stream begins.
  void reset() {
    begin_ = end_ = 0;
    is_broken_ = false;
  }

 private:
  static constexpr size_t kBuffer = size_t{256} << 10;
  static_assert(kBuffer > kLengthSize + kMaxFrame);

  std::unique_ptr<uint8_t[]> buffer_;
  size_t begin_ = 0, end_ = 0;
  bool is_broken_ = false;
};

}  // namespace omerta::guest
