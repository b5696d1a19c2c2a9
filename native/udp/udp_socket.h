// SPDX-License-Identifier: Apache-2.0
// The mesh's UDP socket: dual stack, receives and sends in batches, coalesced by the kernel where it
// can (UDP GRO and GSO, udp(7)).
//
// Terms
//   datagram  what the peer sent or will get
//   message   one entry of recvmmsg/sendmmsg: one datagram, or several of one size (the last may be
//             shorter) from or to one address, back to back: its segments
#pragma once

#include <netinet/in.h>
#include <omerta/wire.h>
#include <sys/socket.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <shared_mutex>
#include <string>

#include "common/counters.h"
#include "common/local_address.h"
#include "udp/send_batch.h"
#include "udp/send_lanes.h"

namespace omerta::udp {

class UdpSocket;

/// A socket that stays open for as long as this lives; nullptr: there is none.
struct HeldSocket {
  std::shared_lock<std::shared_mutex> open;
  UdpSocket* socket = nullptr;
};

/// Sockets of other ports than the engine's own (udp/extra_ports.h). Any thread.
class PortSockets {
 public:
  virtual ~PortSockets() = default;
  /// port: network order.
  virtual HeldSocket find(uint32_t port) const = 0;
};

struct Message {
  uint8_t* data;
  size_t size;
  size_t segment;  ///< size of each datagram in it; equal to `size` when there is only one
  omerta_address from;
  LocalAddress local;
  /// When the kernel received it, ns of CLOCK_REALTIME; 0 unless timestamps are on.
  uint64_t received_at;
  uint8_t ecn;  ///< of its IP header; every datagram of a message has the same
};

struct SocketOptions {
  uint16_t port = 0;
  std::string bind;          ///< empty: every address of both families
  bool shared_port = false;  ///< SO_REUSEPORT: one of several workers' sockets
  size_t receivers = 1;      ///< how many they are
  bool steered = false;      ///< a filter chooses among them (udp/steering.h)
  bool gro = true;
  bool gso = true;
  uint32_t fwmark = 0;  ///< SO_MARK; needs CAP_NET_ADMIN
  int buffer_bytes = 7 << 20;
};

/// Room for everything asked for at once. A control message that does not fit is cut off silently,
/// and a lost segment size would turn a coalesced buffer into one bad datagram.
struct ReceiveControl {
  alignas(cmsghdr) uint8_t bytes[CMSG_SPACE(sizeof(in6_pktinfo)) + CMSG_SPACE(sizeof(in_pktinfo)) +
                                 2 * CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(timespec))];
};

/// What waits in a socket, in bytes of kernel memory, and what may (SO_MEMINFO).
struct Queues {
  uint32_t receive = 0;
  uint32_t receive_limit = 0;
  uint32_t send = 0;
  uint32_t send_limit = 0;
  uint32_t dropped = 0;  ///< datagrams the receive queue had no room for, ever, modulo 2^32
};

/// Counts a datagram the kernel refused, by the reason; error 0 counts nothing.
void count_refused_datagram(int error, CounterRow& counters);

class UdpSocket {
 public:
  /// @throws std::system_error with the failed step named.
  explicit UdpSocket(const SocketOptions& options);
  ~UdpSocket();
  UdpSocket(const UdpSocket&) = delete;
  UdpSocket& operator=(const UdpSocket&) = delete;

  int fd() const { return fd_; }
  /// Lets sockets of `shared_port` have the port too, from now on. @throws std::system_error
  void share_port();
  uint16_t port() const { return port_; }
  /// Whether they are used. GSO is given up when the kernel refuses segmented messages and takes their
  /// datagrams; it belongs to the thread that sends.
  bool gro() const { return gro_; }
  bool gso() const { return gso_ && !gso_paused_; }
  bool gso_refused() const { return !gso_; }
  /// Any thread. What arrived coalesced and still waits loses its sizes when GRO is turned off.
  void set_gro(bool on);
  void pause_gso(bool paused) { gso_paused_ = paused; }
  /// What the kernel granted of SocketOptions::buffer_bytes.
  int receive_buffer_bytes() const { return receive_buffer_; }
  int send_buffer_bytes() const { return send_buffer_; }

  Queues queues() const;
  /// The same, for the thread that receives: counts what was dropped since it last asked. Asked for now and
  /// then, because the kernel would tell it with every message (SO_RXQ_OVFL) for 40 ns each.
  Queues sample_queues(CounterRow& counters);
  /// Whether received messages carry the time the kernel received them; costs 130 ns a message.
  void set_timestamps(bool on);

  /// What is to be sent from one of these is, and what names one that is not there is refused with
  /// ENETUNREACH. They have to outlive the socket. Before it is used.
  void use_extra_ports(const PortSockets& ports) { extra_ports_ = &ports; }

  /// SO_MARK of what is sent from now on (0: none). @throws std::system_error
  void set_fwmark(uint32_t fwmark);

  // --- for the implementations of SocketIo ---------------------------------------------------------
  /// Fills in and counts a received message whose data and size are set from its name and control data.
  void read_header(msghdr& header, Message& message, CounterRow& counters);
  /// Whether the send buffer was full a moment ago: messages are sent one by one then, by send_message.
  bool is_full() const { return lanes_.in_use(); }
  void set_full() { lanes_.use(); }
  /// Sends a message of a prepared batch, past a buffer that is full, and from its own port. What finds no
  /// room is a counted drop.
  void send_message(SendBatch& batch, size_t index, CounterRow& counters);
  /// Writes the batch's message headers, batch.size() of them, and counts what they hold.
  mmsghdr* prepare(SendBatch& batch, CounterRow& counters) const;
  /// The kernel refused this message with `error`: sends it datagram by datagram. What it refuses again
  /// is a counted drop.
  void send_refused(SendBatch& batch, size_t index, int error, CounterRow& counters);
  /// Empties the batch.
  void finish(SendBatch& batch) const;

  /// One datagram, from any thread; never waits. 0, or the errno with which the kernel refused it.
  int send_one(const omerta_address& to, const LocalAddress& local, const uint8_t* data, size_t size,
               uint8_t traffic_class);
  /// The same, for one that is to be lost rather than fragmented, and comes from nowhere else. One thread at
  /// a time.
  int send_unfragmented(const omerta_address& to, const LocalAddress& local, const uint8_t* data,
                        size_t size);

 private:
  socklen_t to_sockaddr(const omerta_address& address, sockaddr_storage& out) const;
  size_t fill_control(void* buffer, const omerta_address& to, const LocalAddress& local, size_t segment,
                      uint8_t traffic_class) const;
  /// by_lane: when the send buffer is full.
  int send_one_from(const omerta_address& to, const LocalAddress& local, const uint8_t* data, size_t size,
                    uint8_t traffic_class, bool by_lane = true);
  int transmit(const msghdr& header, const omerta_address& to, uint32_t port);
  bool send_segments(const SendBatch::Entry& entry, CounterRow& counters);

  int fd_ = -1;
  int family_ = AF_INET6;
  uint16_t port_ = 0;
  std::atomic<bool> gro_ = false;
  bool gso_ = false;
  bool gso_paused_ = false;
  int gso_refused_ = 0;
  size_t max_segments_ = SendBatch::kMaxSegments;
  int receive_buffer_ = 0;
  int send_buffer_ = 0;
  uint32_t drops_seen_ = 0;
  std::atomic<uint32_t> fwmark_{0};
  SendLanes lanes_;
  const PortSockets* extra_ports_ = nullptr;
};

}  // namespace omerta::udp
