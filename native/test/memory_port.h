// SPDX-License-Identifier: Apache-2.0
// An inside in memory: gives what it was told to, keeps what it is sent.
#pragma once

#include <deque>
#include <vector>

#include "inner/port.h"

namespace omerta::test {

class MemoryPort final : public inner::Port {
 public:
  int descriptor() const override { return -1; }
  std::span<const inner::Received> receive() override {
    if (waiting.empty()) return {};
    packet_ = std::move(waiting.front());
    waiting.pop_front();
    received_ = {&packet_.header, packet_.bytes.data(), packet_.bytes.size()};
    return {&received_, 1};
  }
  Taken send(std::span<const inner::Gathered> packets) override {
    for (size_t i = 0; i < packets.size(); i++) {
      if (refuses_super_packets &&
          static_cast<const inner::VirtioNetHeader*>(packets[i][0].iov_base)->gso_type != 0)
        return {i, Stop::refused};
      if (room == 0) {
        if (full_for_next != 0 && --full_for_next == 0) room = SIZE_MAX;
        return {i, Stop::full};
      }
      room--;
      std::vector<uint8_t>& whole = sent.emplace_back();
      for (const iovec& part : packets[i]) {
        const auto* bytes = static_cast<const uint8_t*>(part.iov_base);
        whole.insert(whole.end(), bytes, bytes + part.iov_len);
      }
    }
    return {packets.size(), Stop::none};
  }
  void set_offloads(const inner::Offloads& offloads) override { allowed = offloads; }

  struct Packet {
    inner::VirtioNetHeader header{};
    std::vector<uint8_t> bytes;
  };
  std::deque<Packet> waiting;
  std::vector<std::vector<uint8_t>> sent;  ///< each with its VirtioNetHeader in front
  size_t room = SIZE_MAX;                  ///< packets taken before it is full
  size_t full_for_next = 0;                ///< it has room again after so many that it did not take; 0: never
  bool refuses_super_packets = false;
  inner::Offloads allowed;

 private:
  Packet packet_;
  inner::Received received_{};
};

}  // namespace omerta::test
