// SPDX-License-Identifier: Apache-2.0
// What the workers of an engine and its control thread share.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "common/counters.h"
#include "crypto/aead.h"
#include "engine/accelerators.h"
#include "engine/alarm.h"
#include "engine/egress.h"
#include "engine/event_ring.h"
#include "engine/gso_probe.h"
#include "engine/host_shares.h"
#include "engine/instruments.h"
#include "engine/interface_choice.h"
#include "engine/settings.h"
#include "engine/stranger_budgets.h"
#include "relay/forwarding_table.h"
#include "relay/leg_refusals.h"
#include "relay/sent_counters.h"
#include "relay/wireguard_table.h"
#include "session/session_table.h"
#include "udp/extra_ports.h"
#include "udp/gro_watch.h"
#include "udp/io_choice.h"
#include "udp/return_addresses.h"
#include "udp/udp_socket.h"

namespace omerta::engine {

/// State all workers share. Everything in it is either immutable, atomic, or synchronises itself.
struct Shared {
  Shared(const EngineSettings& settings, size_t workers);
  std::unique_ptr<CounterRow[]> counters;      ///< one row per worker, then the control thread's
  std::unique_ptr<Instruments[]> instruments;  ///< one row per worker
  crypto::AeadChoice aead;
  Alarm path_alarm;    ///< of the session table's path timers
  Alarm egress_alarm;  ///< of what waits for its turn
  InterfaceChoice interfaces;
  Egress egress;
  std::unique_ptr<session::SessionTable> sessions;
  relay::ForwardingTable legs;
  relay::SentCounters sent;
  relay::WireguardTable wireguard;
  relay::LegRefusals refusals;
  EventRing events;
  StrangerBudgets stranger_budgets;
  HostShares host_shares;
  std::atomic<size_t> inner_mtu = 65535;
  udp::IoChoice io;
  Accelerators accelerators;
  GsoProbe gso_probe;
  udp::GroWatch gro_watch;
  std::atomic<bool> routing_loop_told{false};
  /// Of all workers; they share a port. Changed only while no worker runs.
  std::vector<udp::UdpSocket*> sockets;
  udp::ExtraPorts extra_ports;
  udp::ReturnAddresses proven_remotes;  ///< those a frame on a leg or a session came from
  udp::ReturnAddresses strangers;       ///< those a contact frame came from; only control frames go there
};

void random_bytes(std::span<uint8_t> out);

}  // namespace omerta::engine
