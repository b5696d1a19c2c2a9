// SPDX-License-Identifier: Apache-2.0
// How an engine is made: what cannot be changed while it runs, and what it begins with.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "guest/guest_socket.h"
#include "relay/accounts.h"
#include "session/constants.h"
#include "tun/tun_device.h"
#include "udp/io_choice.h"

namespace omerta::engine {

/// An inside without an interface: what peers send ends in this process (exit/stack_port.h).
struct StackSettings {
  std::vector<std::string> addresses;  ///< inner ones of this node
  size_t mtu = 1400;
};

/// An inside that is a virtual machine's: packets come from its network device (guest/guest_port.h).
struct GuestSettings {
  std::shared_ptr<guest::GuestSocket> socket;
  std::vector<std::string> addresses;  ///< inner ones of this node, and the machine's
  guest::Mac mac{};                    ///< of its network device
  size_t mtu = 1400;
};

struct EngineSettings {
  Key32 private_key{};
  uint16_t port = 0;
  uint32_t fwmark = 0;  ///< SO_MARK of the sockets
  std::string bind;
  size_t workers = 1;
  size_t max_legs = 65536;
  size_t max_peers = 16384;
  relay::Accounts::Capacity accounts;         ///< accounts and classes of limits legs may name
  size_t wireguard_sessions = 0;              ///< sessions of stock clients relayed at most; 0 relays none
  uint64_t control_frames_per_second = 1000;  ///< of strangers, outside a session
  /// Of each peer, inside its session; twice as many at once (docs/protocol.md, "Control frames").
  uint64_t peer_control_frames_per_second = session::kControlFramesPerSecond;
  uint64_t stun_per_second = 20;  ///< and source prefix; 0 answers none
  std::optional<tun::TunSettings> tun;
  std::optional<StackSettings> stack;  ///< in place of `tun`; with one worker
  std::optional<GuestSettings> guest;  ///< likewise
  bool ipsec_mb = true;
  udp::IoWanted io = udp::IoWanted::mmsg;
  bool aes_256_gcm = true;  ///< agreed on inside sessions with peers that can do it too
  bool wide_window = true;  ///< likewise a replay window of 65,472 packets
  bool gro = true;
  bool gso = true;
  bool tun_checksum_offload = true;
  bool tun_tcp_offload = true;
  bool tun_udp_offload = true;
  bool steering = true;
  /// The port is bound only between open_port and close_port, which the control plane calls as the
  /// interface goes up and down. Needs `tun`.
  bool port_follows_interface = false;
  /// A changed preshared key counts from the next handshake on, as in the kernel's WireGuard;
  /// otherwise the running session ends with the old one.
  bool keep_session_on_new_psk = false;
};

}  // namespace omerta::engine
