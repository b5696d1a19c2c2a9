// SPDX-License-Identifier: Apache-2.0
// The TCP of a node without a kernel's: a table of connections and their deadlines, with bounds on what any
// owner, and all together, may have. Packets and the time are passed in; super-packets to send, and the next
// deadline, are asked for. One thread.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>

#include "stack/connection.h"

namespace omerta::stack {

class Stack final : private Surroundings {
 public:
  struct Counts {
    uint64_t malformed = 0;        ///< segments that cannot be read
    uint64_t unknown = 0;          ///< of no connection, answered by a reset where that is allowed
    uint64_t at_bound = 0;         ///< connections that were asked for and turned down at a bound
    uint64_t answers_dropped = 0;  ///< resets beyond what waits to be sent
  };

  /// key: random bytes nobody else knows.
  Stack(const Settings& settings, Handler& handler, const Key32& key);
  ~Stack() override;

  /// The moment of everything until the next call; it never goes back. From the user too, before connections
  /// are used outside of what the handler is told.
  void at(Nanoseconds now) { now_ = std::max(now_, now); }
  /// A packet of protocol TCP for any address.
  void receive(const PacketView& packet, Nanoseconds now);
  /// What a router says of a segment that was too long, which began at `sequence`.
  void too_big(const Flow& flow, Sequence sequence, size_t mtu);
  /// The next packet to be sent; nullptr: there is none now. Its memory is the stack's until it is called
  /// again.
  const inner::Received* transmit(Nanoseconds now);
  /// When advance() is to be called, after transmit() had nothing more; kNever: only when something comes.
  Nanoseconds deadline() const { return timers_.next(); }
  void advance(Nanoseconds now);

  /// Begins a connection; nullptr: there is one between these two, or as many as there may be.
  Connection* connect(const Flow& flow, Nanoseconds now);
  /// Of this flow, while it is not over.
  Connection* find(const Flow& flow);
  /// visit(connection) for each that is not over.
  template <class Visit>
  void for_each(Visit visit) {
    for (auto& [flow, entry] : entries_)
      if (!entry.connection->gone() && !entry.connection->lingers()) visit(*entry.connection);
  }

  size_t connections() const { return connections_; }
  size_t half_open() const { return half_open_; }
  size_t lingering() const { return entries_.size() - connections_; }
  /// Bytes in buffers.
  size_t memory() const { return memory_.used(); }
  const Counts& counts() const { return counts_; }

 private:
  struct Owner {
    explicit Owner(size_t limit, Budget& all) : memory(limit, &all) {}
    Budget memory;
    size_t entries = 0;
    size_t connections = 0;
    size_t half_open = 0;
  };
  struct Entry {
    Owner* owner;
    std::unique_ptr<Connection> connection;
    bool half_open = true;
    bool lingering = false;
  };

  // Surroundings
  const Settings& settings() const override { return settings_; }
  Handler& handler() override { return handler_; }
  Nanoseconds now() const override { return now_; }
  Sequence initial_sequence(const Flow& flow) override;
  uint32_t timestamp_offset(const Flow& flow) override;
  void changed(Connection& connection) override;
  void no_longer_half_open(Connection& connection) override;
  void short_of_memory(Connection& connection) override;
  void send_alone(const Segment& segment) override;

  Connection* add(const Flow& flow);
  void ask(const Segment& syn);
  void answer_unknown(const Segment& segment);
  void linger(const Flow& flow, Entry& entry);
  void sweep();
  void tell_of_memory();
  const inner::Received* write(const Segment& segment, size_t payload, size_t mss,
                               std::span<const iovec> parts);

  static constexpr size_t kMaxAlone = 256;

  const Settings settings_;
  Handler& handler_;
  const FlowHash hash_, sequence_hash_, timestamp_hash_;
  Budget memory_;
  Nanoseconds now_ = 0;
  std::unordered_map<Flow, Owner, FlowHash>
      owners_;  ///< by the remote address; the rest of the flow is empty
  std::unordered_map<Flow, Entry, FlowHash> entries_;
  session::TimerHeap<Connection> timers_;
  std::deque<Connection*> line_;  ///< those that may have something to send, in turns
  std::deque<Segment> alone_;
  std::deque<Flow> lingering_;  ///< the oldest first
  std::vector<Flow> over_;
  std::vector<Flow> short_;
  uint64_t given_ = 0;  ///< by the budget, when those were told last
  size_t connections_ = 0;
  size_t half_open_ = 0;
  Counts counts_;

  inner::VirtioNetHeader header_{};
  std::unique_ptr<uint8_t[]> packet_;
  inner::Received received_{};
};

}  // namespace omerta::stack
