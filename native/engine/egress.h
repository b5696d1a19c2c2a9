// SPDX-License-Identifier: Apache-2.0
// What leaves by an interface with a ceiling, or to a peer at a constant rate, waits here for its turn
// (ts/contract/shaping-control.ts). Packets wait unsealed: so they leave by the path the peer has then, with
// counters in their order, and what is dropped has cost no sealing.
//
//   link   an interface with a ceiling: a bucket of bytes, and the packets that wait for it in the order of
//          ratelimit/fair_queue.h
//   slot   a moment at which exactly one packet of a certain peer leaves: one that waits, or a cover
//
// What the engine itself sends (handshakes, control and path frames) never waits; its bytes are taken from
// the bucket all the same, so that data makes room for it.
//
// Workers put packets in, worker 0 takes them out when it is woken for it. Without a ceiling or a slot
// nothing of this is called for a packet (session::ShapingSettings::queued).
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "common/bytes.h"
#include "ratelimit/fair_queue.h"
#include "session/endpoint.h"

namespace omerta::engine {

struct Ceiling {
  std::string interface;
  uint64_t bytes_per_second = 0;  ///< of IP packets
};

/// How packets to one peer wait.
struct EgressFlow {
  Key32 peer{};
  Share share{};
  Nanoseconds slot = 0;  ///< between two packets to it; 0: as the links let them
};

struct LinkStatus {
  std::string interface;
  uint64_t bytes_per_second = 0;
  uint64_t sent_bytes = 0;
  uint64_t waiting_bytes = 0;
};

class Egress {
 public:
  /// wake_at: called with the moment `take` is to be called next, UINT64_MAX: it need not be.
  /// interface_of: name of the interface by which a datagram leaves, empty: nobody can tell; asked under this
  /// object's mutex, once a second for each way.
  Egress(std::function<void(Nanoseconds)> wake_at,
         std::function<std::string(const session::Endpoint&)> interface_of)
      : wake_at_(std::move(wake_at)), interface_of_(std::move(interface_of)) {}

  // --- configuration -----------------------------------------------------------------------------
  /// All of them; what waits for one that is left out goes on at once.
  void set_ceilings(const std::vector<Ceiling>& ceilings, Nanoseconds now);
  void set_flow(const EgressFlow& flow, Nanoseconds now);
  /// What waits for the peer is dropped.
  void remove_flow(const Key32& peer);
  /// The peer's packets wait no longer; what does leaves at once.
  void release_flow(const Key32& peer, Nanoseconds now);
  void remove_all_flows();
  std::vector<LinkStatus> links();
  struct FlowStatus {
    QueueCounts counts;
    size_t waiting_bytes;
  };
  /// nullopt: none was set.
  std::optional<FlowStatus> status(const Key32& peer);

  // --- any thread --------------------------------------------------------------------------------
  /// Whether there is a ceiling, so that what is sent past the queue is to be told by `charge`.
  bool limits() const { return limits_.load(std::memory_order_relaxed); }
  /// A datagram was sent past the queue.
  void charge(const session::Endpoint& to, size_t size, Nanoseconds now);
  /// Whether packets to the peer, datagrams of `cost` bytes in all, may leave now; they are taken from the
  /// bucket then.
  bool pass(const Key32& peer, const session::Endpoint& to, size_t cost, Nanoseconds now);
  /// They wait. How many there was no room for.
  size_t push(const Key32& peer, const session::Endpoint& to, std::vector<Waiting> packets, Nanoseconds now);
  /// Bytes of an IP packet that holds a datagram of this size.
  static size_t cost_of(const session::Endpoint& to, size_t datagram);

  // --- worker 0 ----------------------------------------------------------------------------------
  struct Due {
    Key32 peer{};
    std::vector<uint8_t> packet;  ///< empty: a cover is due
  };
  /// What may leave now, at most kTaken packets; `all` counts what became of others. Nothing passes until
  /// `taken` is called, when that was sent.
  void take(std::vector<Due>& due, Nanoseconds now, QueueCounts& all);
  void taken(Nanoseconds now);

  static constexpr size_t kTaken = 64;

 private:
  struct Link {
    std::string interface;
    double rate = 0;  ///< bytes a nanosecond; 0: without limit
    double tokens = 0;
    Nanoseconds filled = 0;
    uint64_t sent_bytes = 0;
    FairQueue queue;

    double depth() const;
    void fill(Nanoseconds now);
    void pay(size_t bytes);
    bool open() const { return rate == 0 || tokens > 0; }
    Nanoseconds next(Nanoseconds now) const;
    Nanoseconds target() const;
  };
  struct PeerFlow {
    Share share;
    Nanoseconds slot = 0;
    Nanoseconds due = 0;
    Link* link = nullptr;  ///< that its last packet was put in line for
    std::shared_ptr<FairQueue::Flow> flow;
  };
  struct KeyHash {
    size_t operator()(const Key32& key) const { return load<size_t>(key.data()); }
  };
  using Flows = std::unordered_map<Key32, PeerFlow, KeyHash>;
  /// Remote and local address, and the interface that was chosen.
  using Way = std::array<uint8_t, 36>;
  struct KnownLink {
    Link* link;
    Nanoseconds until;
  };

  Link* link_of(const session::Endpoint& to, Nanoseconds now);
  Link* find_link(const std::string& interface);
  void set_slot(const Key32& peer, PeerFlow& flow, Nanoseconds due);
  void drop_waiting(PeerFlow& flow);
  void take_slots(std::vector<Due>& due, Nanoseconds now, QueueCounts& all);
  void take_from(Link& link, std::vector<Due>& due, Nanoseconds now, QueueCounts& all);
  void wake(Nanoseconds now);

  const std::function<void(Nanoseconds)> wake_at_;
  const std::function<std::string(const session::Endpoint&)> interface_of_;
  std::atomic<bool> limits_{false};
  std::mutex mutex_;
  QueueRoom room_;  ///< outlives the flows
  std::vector<std::unique_ptr<Link>> links_;
  /// For those whose way has no ceiling any more, or who are by none of these.
  Link unlimited_;
  Flows flows_;
  std::set<std::pair<Nanoseconds, Key32>> slots_;
  std::map<Way, KnownLink> ways_;
  Nanoseconds woken_at_ = UINT64_MAX;  ///< as wake_at_ was told last
  size_t turn_ = 0;                    ///< the link that is looked at first
  bool taking_ = false;
};

}  // namespace omerta::engine
