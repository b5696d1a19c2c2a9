// SPDX-License-Identifier: Apache-2.0
// The way inside: consecutive TCP segments or UDP datagrams of one flow become one super-packet. Payloads
// are not copied: the port gathers them from the buffer they were opened in. Only packets that segmentation
// would make of the super-packet again, byte for byte, are joined: every header field and checksum counts.
// All others go as they came.
#pragma once

#include <array>
#include <vector>

#include "common/counters.h"
#include "inner/port.h"

namespace omerta::inner {

class Coalescing {
 public:
  /// tcp, udp: what may be joined. The port has to outlive it.
  Coalescing(Port& port, bool tcp, bool udp);

  /// Takes an IP packet of exactly ip.length bytes; its memory must live until flush().
  void add(uint8_t* packet, const IpView& ip, CounterRow& counters);
  /// Hands over everything, in order within each flow. A super-packet that is refused goes packet by packet;
  /// what there is no room for is dropped and counted.
  void flush(CounterRow& counters);
  /// Forgets what was taken and not handed over.
  void clear() {
    count_ = 0;
    recent_.fill(UINT8_MAX);
  }

  /// What is joined. Turned off for good when the port refuses one super-packet after the other.
  bool tcp() const { return tcp_.on; }
  bool udp() const { return udp_.on; }
  void give_up_tcp() { tcp_.on = false; }
  void give_up_udp() { udp_.on = false; }

 private:
  static constexpr size_t kMaxItems = 64;
  static constexpr size_t kMaxSegments = kMaxParts - 2;
  static constexpr size_t kMaxBytes = 65535;
  static constexpr size_t kRecent = 128;
  /// Super-packets refused in a row until no more are made.
  static constexpr int kMaxRefused = 4;
  /// IPv4 with every option and TCP with every option.
  static constexpr size_t kMaxHeaders = 60 + 60;

  /// TCP or UDP.
  struct Joining {
    bool on;
    int refused = 0;  ///< in a row
  };
  struct Item {
    uint8_t* packet;
    IpView ip;
    size_t header_size;  ///< IP and transport headers; 0 = neither TCP nor UDP, goes as it is
    size_t transport_offset;
    size_t segment_payload;
    size_t total;  ///< bytes of the packet it has become
    uint32_t next_sequence;
    uint8_t protocol;
    bool open;      ///< may still grow
    bool verified;  ///< the checksums of its first packet are right
    bool push;      ///< a segment has TCP's PSH flag
    size_t segments;
    /// What is handed over: the header, the packet's headers (of a packet that is alone: all of it),
    /// payloads.
    iovec parts[kMaxParts];
    VirtioNetHeader header;
    uint8_t headers[kMaxHeaders];
  };
  /// What add() reads of a packet; header_size 0 when it is no TCP or UDP that may be joined.
  struct Candidate {
    size_t header_size = 0;
    size_t transport_offset = 0;
    size_t payload = 0;
    uint32_t sequence = 0;
    uint8_t protocol = 0;
    bool push = false;
    bool joinable = false;  ///< its flags allow that others follow in the same super-packet
  };

  Candidate examine(const uint8_t* packet, const IpView& ip) const;
  static bool same_flow(const Item& item, const Candidate& candidate, const uint8_t* packet,
                        const IpView& ip);
  static bool same_headers(const Item& item, const Candidate& candidate, const uint8_t* packet);
  static bool join(Item& item, const Candidate& candidate, uint8_t* packet, const IpView& ip);
  static Gathered gather(Item& item);
  static void head_joined(Item& item);
  Joining& joining_of(const Item& item) { return item.protocol == kTcp ? tcp_ : udp_; }
  void send_apart(const Item& item, CounterRow& counters);
  void not_taken(const Item& item, Port::Stop why, CounterRow& counters);

  Port& port_;
  Joining tcp_;
  Joining udp_;
  std::vector<Item> items_;
  std::array<Gathered, kMaxItems> gathered_;
  size_t count_ = 0;
  /// Item last begun for a flow, by a hash of it; one that lost its place does not grow any more.
  std::array<uint8_t, kRecent> recent_;
};

}  // namespace omerta::inner
