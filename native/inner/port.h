// SPDX-License-Identifier: Apache-2.0
// The seam for inner packets: where a worker gets the packets it seals and puts those it opened. What is
// behind it may be a TUN device (native/tun), a TCP/IP stack in this process or a virtual machine's network
// device. Packets cross in batches of super-packets, so that no call is made for each packet of a stream.
//
//   inside ── receive ──► worker    a batch in memory of the port's, which the worker reads (and may change)
//                                   until it calls the port again
//   inside ◄── send ───── worker    a batch in memory of the worker's, gathered from where it was opened;
//                                   the port reads it, changes nothing and keeps nothing when send returns
//
// Nothing is copied on the way: who has to keep a packet longer copies it. Neither side ever waits for the
// other. A worker that is busy does not call receive, and the port's own queue fills; a port that is full
// says so (Stop::full), and the worker drops and counts the packet, as a network does.
//
// A port belongs to one worker; all but set_offloads is called on its thread. An inside with something to
// do later has a timerfd(2) behind its descriptor.
#pragma once

#include <sys/uio.h>

#include <span>

#include "inner/ip.h"
#include "inner/virtio_net_header.h"

namespace omerta::inner {

/// The largest IP packet, super-packets included.
inline constexpr size_t kMaxPacketBytes = 65536;

/// An IP packet or super-packet from inside.
struct Received {
  const VirtioNetHeader* header;
  uint8_t* data;
  size_t size;
};

/// An IP packet or super-packet for inside: its VirtioNetHeader is the first part, the packet the others in
/// their order. It never has more than kMaxParts.
using Gathered = std::span<const iovec>;
inline constexpr size_t kMaxParts = 2 + 64;

/// What super-packets, and packets without a transport checksum, may be handed over.
struct Offloads {
  bool checksum = true;  ///< the others need it
  bool tcp = true;
  bool udp = true;
};

class Port {
 public:
  virtual ~Port() = default;
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  /// Readable when receive has something; in error (POLLERR) when the inside is gone for good.
  virtual int descriptor() const = 0;
  /// The next of what waits; nothing: there is no more for now.
  virtual std::span<const Received> receive() = 0;

  enum class Stop : uint8_t {
    none,     ///< everything was taken
    refused,  ///< the next is a super-packet of a kind the inside does not know: its packets may do
    full,     ///< there is no room for the next, or the inside is down
  };
  struct Taken {
    size_t count;  ///< packets taken, from the first on
    Stop stop;     ///< why not the next one
  };
  /// Takes packets in their order until one cannot be.
  virtual Taken send(std::span<const Gathered> packets) = 0;

  /// One packet that is no super-packet, of which nothing is claimed. false: not taken.
  bool send_one(const uint8_t* packet, size_t size) {
    static constexpr VirtioNetHeader kPlain{};
    const iovec parts[2] = {{const_cast<VirtioNetHeader*>(&kPlain), sizeof kPlain},
                            {const_cast<uint8_t*>(packet), size}};
    const Gathered gathered = parts;
    return send({&gathered, 1}).count == 1;
  }

  /// What receive may give from now on; what is under way is not taken back. Any thread.
  virtual void set_offloads(const Offloads& offloads) = 0;

 protected:
  Port() = default;
};

}  // namespace omerta::inner
