// SPDX-License-Identifier: Apache-2.0
#include "tun/tun_port.h"

#include <unistd.h>

#include <cerrno>

#include "tun/tun_device.h"

namespace omerta::tun {
namespace {
constexpr size_t kHeader = sizeof(inner::VirtioNetHeader);
}  // namespace

TunPort::TunPort(const TunDevice& device, size_t queue) : TunPort(device.queue(queue)) { device_ = &device; }

TunPort::TunPort(int descriptor)
    : queue_(descriptor),
      buffer_(new uint8_t[kHeader + inner::kMaxPacketBytes]()),
      received_{reinterpret_cast<const inner::VirtioNetHeader*>(buffer_.get()), buffer_.get() + kHeader, 0} {}

std::span<const inner::Received> TunPort::receive() {
  const ssize_t got = read(queue_, buffer_.get(), kHeader + inner::kMaxPacketBytes);
  if (got <= static_cast<ssize_t>(kHeader)) return {};
  received_.size = static_cast<size_t>(got) - kHeader;
  return {&received_, 1};
}

inner::Port::Taken TunPort::send(std::span<const inner::Gathered> packets) {
  for (size_t i = 0; i < packets.size(); i++)
    if (writev(queue_, packets[i].data(), static_cast<int>(packets[i].size())) < 0)
      return {i, errno == EINVAL ? Stop::refused : Stop::full};
  return {packets.size(), Stop::none};
}

void TunPort::set_offloads(const inner::Offloads& offloads) {
  if (device_ != nullptr) device_->set_offloads(offloads);
}

}  // namespace omerta::tun
