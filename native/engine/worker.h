// SPDX-License-Identifier: Apache-2.0
// One worker thread: run to completion. A datagram is received, judged, opened or relayed, and handed
// on by the same thread without a queue in between:
//
//   UDP     GRO buffer → judge → forward: rewritten in place → one GSO send from the same memory
//                              → session: TransportOpener → inner::Coalescing → inner::Port
//   inside  inner::Port → InnerSealer → one GSO send
//
// The worker waits, receives and dispatches; its parts do the rest.
#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "engine/accelerator_watch.h"
#include "engine/burst_addresses.h"
#include "engine/handshake_receiver.h"
#include "engine/housekeeping.h"
#include "engine/inner_sealer.h"
#include "engine/latency_window.h"
#include "engine/queue_sampling.h"
#include "engine/sender.h"
#include "engine/transport_opener.h"
#include "engine/wireguard_relay.h"
#include "udp/gathering.h"

namespace omerta::engine {

class Worker {
 public:
  /// port: its inside; nullptr for a node without one.
  Worker(Shared& shared, size_t index, udp::UdpSocket& socket, std::unique_ptr<inner::Port> port,
         int stop_event);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Runs until the stop event is signalled.
  void run();
  /// Any thread.
  const char* io_name() const { return io_name_.load(std::memory_order_relaxed); }

 private:
  /// Datagrams judged together: a coalesced buffer's worth.
  static constexpr size_t kJudged = 64;

  bool turn();
  void watch_descriptors();
  void use_mmsg();
  void forget_port();
  void serve_paths();
  void serve_egress();
  bool receive_from_udp();
  bool receive_from_extra_ports();
  void handle(std::span<const udp::Message> messages);
  void act_on(const relay::Decision& decision, uint8_t* data, size_t size, const udp::Message& message);
  void deliver(uint32_t leg_id, uint8_t* payload, size_t size, const udp::Message& message);
  void handle_wireguard(uint8_t* data, size_t size, const session::Endpoint& from,
                        const udp::Message& message);
  void handle_control(uint32_t leg_id, const uint8_t* frame, size_t size, const udp::Message& message);
  void answer_stun(const uint8_t* request, size_t size, const udp::Message& message);

  Shared& shared_;
  CounterRow& counters_;
  const size_t index_;
  udp::UdpSocket& socket_;
  const int stop_event_;
  std::unique_ptr<inner::Port> port_;
  bool inside_;  ///< there is a port, and it is not gone
  Nanoseconds now_ = 0;
  bool udp_left_ = false;  ///< the turns of the last wake-up did not receive all there was
  std::unique_ptr<udp::SocketIo> io_;
  std::atomic<const char*> io_name_;
  crypto::Aead aead_;
  Sender out_;
  std::optional<inner::Coalescing> coalescing_;
  AcceleratorWatch watch_;
  TransportOpener opener_;
  std::optional<InnerSealer> sealer_;
  std::vector<Egress::Due> due_;
  WireguardRelay relay_;
  HandshakeReceiver handshakes_;
  Housekeeping housekeeping_;
  BurstAddresses addresses_;
  udp::Gathering gathering_;
  QueueSampling queue_;
  LatencyWindow latency_;
};

}  // namespace omerta::engine
