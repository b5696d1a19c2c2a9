// SPDX-License-Identifier: Apache-2.0
// A queue of a TUN device as a port for inner packets: a read(2) or writev(2) for each super-packet.
#pragma once

#include <memory>

#include "inner/port.h"

namespace omerta::tun {

class TunDevice;

class TunPort final : public inner::Port {
 public:
  /// The device has to outlive it.
  TunPort(const TunDevice& device, size_t queue);
  /// Any descriptor whose reads and writes are packets with a VirtioNetHeader in front; it stays the
  /// caller's.
  explicit TunPort(int descriptor);

  int descriptor() const override { return queue_; }
  /// One at a time, always in the same memory: it is still in the cache when the next one comes.
  std::span<const inner::Received> receive() override;
  Taken send(std::span<const inner::Gathered> packets) override;
  void set_offloads(const inner::Offloads& offloads) override;

 private:
  const TunDevice* device_ = nullptr;
  int queue_;
  std::unique_ptr<uint8_t[]> buffer_;
  inner::Received received_;
};

}  // namespace omerta::tun
