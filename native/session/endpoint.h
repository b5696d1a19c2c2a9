// SPDX-License-Identifier: Apache-2.0
// Where a peer is reached: a UDP address with the local address it was last heard on (sticky source),
// or a leg of a circuit, whose frames go to a relay.
#pragma once

#include <omerta/wire.h>

#include <cstring>

#include "common/local_address.h"

namespace omerta::session {

struct Endpoint {
  omerta_address remote{};   ///< where the datagram is sent: the peer's, or the relay's
  LocalAddress local;        ///< source to send from
  uint32_t receive_leg = 0;  ///< our `deliver` leg, 0 = direct
  uint32_t send_leg = 0;     ///< the relay's leg that leads to the peer
  uint32_t send_epoch = 0;
  __u64 send_key[2]{};

  bool relayed() const { return receive_leg != 0; }
  bool known() const { return remote.port != 0; }

  /// What cookies are bound to and limits of strangers are counted for: the sender's address; of what came by
  /// a leg, the leg, because all who are behind a relay share its address. No datagram comes from the address
  /// that stands for a leg: 0100::/8 is reserved (RFC 4291), and there is no port 0.
  omerta_address source() const {
    if (!relayed()) return remote;
    omerta_address leg{};
    leg.ip[0] = 0x01;
    std::memcpy(leg.ip + 4, &receive_leg, sizeof receive_leg);
    return leg;
  }

  /// Whether it is the same place, whichever address of this host it is reached from.
  bool same_place(const Endpoint& other) const {
    return receive_leg == other.receive_leg && send_leg == other.send_leg &&
           remote.port == other.remote.port && std::memcmp(remote.ip, other.remote.ip, 16) == 0;
  }
  /// Whether the peer would be reached the same way.
  bool same_path(const Endpoint& other) const {
    return same_place(other) && local.port == other.local.port &&
           std::memcmp(local.ip, other.local.ip, 16) == 0;
  }
};

}  // namespace omerta::session
