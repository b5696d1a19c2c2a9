// SPDX-License-Identifier: Apache-2.0
// The way back into a TUN device: consecutive TCP segments of one flow become one super-packet and
// one write. Payloads are not copied: the write gathers them from the buffer they were opened in.
#pragma once

#include <sys/uio.h>

#include <vector>

#include "common/counters.h"
#include "tun/ip.h"
#include "tun/virtio_net_header.h"

namespace omerta::tun {

class Coalescing {
 public:
  /// tcp: whether segments may be joined (TunDevice::tcp_offload).
  Coalescing(int queue, bool tcp);

  /// Takes an IP packet of exactly ip.length bytes; its memory must live until flush().
  void add(uint8_t* packet, const IpView& ip, CounterRow& counters);
  /// Writes everything, in order within each flow.
  void flush(CounterRow& counters);

 private:
  static constexpr size_t kMaxItems = 64;
  static constexpr size_t kMaxSegments = 64;
  static constexpr size_t kMaxBytes = 65535;

  struct Item {
    uint8_t* packet;
    IpView ip;
    size_t header_size;  ///< IP and TCP headers; 0 = not TCP, written as it is
    size_t transport_offset;
    size_t segment_payload;
    size_t total;  ///< bytes of the packet it has become
    uint32_t next_sequence;
    bool open;  ///< may still grow
    size_t segments;
    iovec payload[kMaxSegments];
  };

  static bool same_flow(const Item& item, const uint8_t* packet, const IpView& ip, size_t transport_offset);
  static bool joinable(const Item& item, const uint8_t* packet, size_t header_size);
  void write(Item& item, CounterRow& counters);

  int queue_;
  bool tcp_;
  std::vector<Item> items_;
  size_t count_ = 0;
};

}  // namespace omerta::tun
