// SPDX-License-Identifier: Apache-2.0
// The way of an inner packet from the inside to UDP: its peer is looked up, a super-packet is split straight
// into the send arena, sealed there and appended as one message.
#pragma once

#include "crypto/aead.h"
#include "engine/accelerator_watch.h"
#include "engine/own_datagrams.h"
#include "engine/sender.h"
#include "inner/port.h"
#include "inner/segmentation.h"

namespace omerta::engine {

class InnerSealer {
 public:
  /// own_port: UDP port this engine sends from. Everything else has to outlive it.
  InnerSealer(Sender& out, crypto::Aead& aead, AcceleratorWatch& watch, inner::Port& port, uint16_t own_port);

  /// Seals and sends a batch of what waits in the port. Whether there may be more.
  bool receive(Nanoseconds now);
  /// Seals a packet that waited (engine/egress.h); it leaves with the next flush.
  void release(std::vector<uint8_t>& packet, Nanoseconds now);

 private:
  static constexpr size_t kJobs = 64;

  void seal(inner::Segmentation& segments);
  bool shortened(inner::Segmentation& segments, size_t limit);
  void end_loop(const inner::Segmentation& segments);
  void seal_split(session::Keypair& keypair, const session::Endpoint& endpoint, const session::PathSet& paths,
                  const inner::Segmentation& segments);
  void seal_segments(session::Keypair& keypair, const session::Endpoint& endpoint,
                     const session::PathSet* paths, const inner::Segmentation& segments, size_t first);
  [[gnu::noinline]] bool waits(const session::Shaping& shaping, const session::Endpoint& endpoint,
                               const inner::Segmentation& segments, size_t first, size_t count,
                               size_t inner_mtu);
  [[gnu::noinline]] bool pays(const session::Shaping& shaping, const inner::Segmentation& segments,
                              size_t first, size_t count, size_t longest);
  void duplicate(const session::PathSet& paths, uint8_t* const* starts, size_t count, size_t prefix,
                 uint8_t ecn);
  void probe_gso(session::Peer& peer, const session::Endpoint& endpoint, size_t prefix, uint8_t ecn);
  void stage(session::Peer& peer, const inner::Segmentation& segments);
  void answer(const std::vector<uint8_t>& error, Counter counter);

  Sender& out_;
  Shared& shared_;
  CounterRow& counters_;
  crypto::Aead& aead_;
  AcceleratorWatch& watch_;
  inner::Port& port_;
  const uint16_t own_port_;
  OwnDatagrams own_datagrams_;
  Nanoseconds now_ = 0;
  bool releasing_ = false;  ///< what is sealed has waited
  /// Of a peer that is split over several paths: by which the last packets went, and how many bytes of them.
  struct Burst {
    const session::PathSet* paths = nullptr;
    const session::PathSet::Path* path = nullptr;
    size_t bytes = 0;
  } burst_;
  TokenBucket error_budget_;
  /// The identification of the next IPv6 packet that is fragmented: it begins anywhere, as others count too.
  uint32_t fragmented_ = 0;
};

}  // namespace omerta::engine
