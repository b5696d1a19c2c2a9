// SPDX-License-Identifier: Apache-2.0
// Two stacks and a network between them, in virtual time: packets are lost, marked, delayed, overtake each
// other, come twice, and wait in a queue of limited length for a line of limited rate.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "common/ecn.h"
#include "inner/coalescing.h"
#include "inner/segmentation.h"
#include "stack/stack.h"

namespace omerta::test {

using stack::Flow;

/// What a network does to packets, in each direction.
struct Impairment {
  double loss = 0;
  double duplication = 0;
  double reordering = 0;  ///< share of packets that are kept back for up to `jitter`
  double corruption = 0;  ///< share of packets with a bit that is another; their checksums tell
  double marking = 0;     ///< share of ECN-capable packets that are marked
  Nanoseconds delay = 10 * kMillisecond;
  Nanoseconds jitter = 0;
  uint64_t bytes_per_second = 0;  ///< 0: no limit
  size_t queue = SIZE_MAX;        ///< bytes that wait for the line at most
};

class StackNetwork {
 public:
  struct End {
    End(const stack::Settings& settings, stack::Handler& handler, uint8_t key)
        : stack(settings, handler, key_of(key)) {}
    static Key32 key_of(uint8_t byte) {
      Key32 key;
      key.fill(byte);
      return key;
    }
    stack::Stack stack;
    Nanoseconds line_free = 0;
  };

  StackNetwork(uint64_t seed, const stack::Settings& settings, stack::Handler& a, stack::Handler& b)
      : random(seed), ends_{End(settings, a, 1), End(settings, b, 2)} {}

  stack::Stack& stack(size_t end) { return ends_[end].stack; }
  /// An address of an end, 10.0.0.1 or 10.0.0.2, or those of IPv6.
  static stack::Address address(size_t end, bool v6) {
    const uint8_t v4[4] = {10, 0, 0, static_cast<uint8_t>(end + 1)};
    uint8_t bytes[16] = {0xfd};
    bytes[15] = static_cast<uint8_t>(end + 1);
    return v6 ? stack::address_of(bytes, 16) : stack::address_of(v4, 4);
  }
  double chance() { return std::uniform_real_distribution<double>(0, 1)(random); }
  uint64_t below(uint64_t bound) { return std::uniform_int_distribution<uint64_t>(0, bound - 1)(random); }

  /// Does something at a moment.
  void at(Nanoseconds moment, std::function<void()> what) { events_.emplace(moment, std::move(what)); }
  /// Takes what both have to send.
  void flush() {
    for (size_t from = 0; from < 2; from++)
      while (const inner::Received* super = ends_[from].stack.transmit(now)) send(from, *super);
  }
  /// Goes on to the next thing that happens. false: nothing does any more.
  bool step() {
    flush();
    Nanoseconds next = std::min(ends_[0].stack.deadline(), ends_[1].stack.deadline());
    if (!events_.empty()) next = std::min(next, events_.begin()->first);
    if (next == stack::kNever) return false;
    now = std::max(now, next);
    while (!events_.empty() && events_.begin()->first <= now) {
      const auto event = std::move(events_.begin()->second);
      events_.erase(events_.begin());
      event();
    }
    deliver_coalesced();
    for (End& end : ends_) end.stack.advance(now);
    return true;
  }

  std::mt19937_64 random;
  Nanoseconds now = 1000 * kSecond;
  Impairment impairment[2];  ///< of what the end sends
  bool coalesce = false;     ///< what arrives at one moment is joined
  /// Kinds of options that a middlebox takes out of SYNs: 4 (SACK permitted), 8 (timestamps), 3 (window
  /// scale).
  std::vector<uint8_t> stripped;
  size_t super_packets = 0, packets = 0, lost = 0;

 private:
  /// A worker's way into a stack.
  class Inside final : public inner::Port {
   public:
    Inside(stack::Stack& stack, Nanoseconds& now) : stack_(stack), now_(now) {}
    int descriptor() const override { return -1; }
    std::span<const inner::Received> receive() override { return {}; }
    void set_offloads(const inner::Offloads&) override {}
    Taken send(std::span<const inner::Gathered> packets) override {
      for (const inner::Gathered& packet : packets) {
        stack::PacketView view;
        if (stack::parse_packet(packet, view) == stack::PacketError::none && view.protocol == inner::kTcp)
          stack_.receive(view, now_);
      }
      return {packets.size(), Stop::none};
    }

   private:
    stack::Stack& stack_;
    Nanoseconds& now_;
  };

  void send(size_t from, const inner::Received& super) {
    super_packets++;
    inner::Segmentation segments(*super.header, super.data, super.size);
    if (!segments.valid()) std::abort();
    for (size_t i = 0; i < segments.count(); i++) {
      auto packet = std::make_shared<std::vector<uint8_t>>(segments.size(i));
      segments.write(i, packet->data());
      packets++;
      strip(*packet);
      carry(from, std::move(packet));
    }
  }

  void strip(std::vector<uint8_t>& packet) const {
    const inner::IpView ip = inner::parse_ip(packet.data(), packet.size());
    uint8_t* tcp = packet.data() + (ip.family == 4 ? 20 : 40);
    if ((tcp[13] & stack::kSyn) == 0 || stripped.empty()) return;
    const size_t size = static_cast<size_t>(packet.data() + packet.size() - tcp);
    for (size_t at = 20; at < size; at += tcp[at] == 1 ? 1 : tcp[at + 1])
      if (std::find(stripped.begin(), stripped.end(), tcp[at]) != stripped.end())
        std::memset(tcp + at, 1, tcp[at + 1]);
    store(tcp + 16, uint16_t{0});
    store(tcp + 16, inner::checksum_finish(
                        inner::checksum_payload(tcp, size, inner::pseudo_header_sum(ip, inner::kTcp, size))));
  }

  void carry(size_t from, std::shared_ptr<std::vector<uint8_t>> packet) {
    const Impairment& how = impairment[from];
    Nanoseconds leaves = now;
    if (how.bytes_per_second != 0) {
      Nanoseconds& free = ends_[from].line_free;
      const Nanoseconds begins = std::max(now, free);
      if (static_cast<double>(begins - now) * static_cast<double>(how.bytes_per_second) / 1e9 >
          static_cast<double>(how.queue)) {
        lost++;
        return;
      }
      leaves = free = begins + packet->size() * kSecond / how.bytes_per_second;
    }
    if (chance() < how.loss) {
      lost++;
      return;
    }
    if (chance() < how.marking && (ecn_of(packet->data()) & 3) == kEct0)
      set_ecn(packet->data(), kCongestionExperienced);
    if (chance() < how.corruption) (*packet)[below(packet->size())] ^= static_cast<uint8_t>(1U << below(8));
    const int copies = chance() < how.duplication ? 2 : 1;
    for (int i = 0; i < copies; i++) {
      Nanoseconds arrives = leaves + how.delay;
      if (how.jitter != 0 && chance() < how.reordering) arrives += below(how.jitter);
      at(arrives, [this, to = 1 - from, packet] { arrive(to, *packet); });
    }
  }

  void arrive(size_t to, const std::vector<uint8_t>& packet) {
    arrived_[to].push_back(packet);
    if (!coalesce) deliver_coalesced();
  }

  void deliver_coalesced() {
    for (size_t to = 0; to < 2; to++) {
      if (arrived_[to].empty()) continue;
      std::vector<std::vector<uint8_t>> packets_here = std::move(arrived_[to]);
      arrived_[to].clear();
      Inside inside(ends_[to].stack, now);
      inner::Coalescing coalescing(inside, coalesce, coalesce);
      for (std::vector<uint8_t>& packet : packets_here) {
        const inner::IpView ip = inner::parse_ip(packet.data(), packet.size());
        if (ip.family != 0) coalescing.add(packet.data(), ip, counters_);
      }
      coalescing.flush(counters_);
    }
  }

  End ends_[2];
  std::multimap<Nanoseconds, std::function<void()>> events_;
  std::vector<std::vector<uint8_t>> arrived_[2];
  CounterRow counters_;
};

}  // namespace omerta::test
