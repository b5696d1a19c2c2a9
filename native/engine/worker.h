// SPDX-License-Identifier: Apache-2.0
// One worker thread: run to completion. A datagram is received, judged, opened or relayed, and handed
// on by the same thread without a queue in between:
//
//   UDP  GRO buffer → judge → forward: rewritten in place → one GSO send from the same memory
//                           → session: opened in place → joined → one write to TUN
//   TUN  super-packet → split into the send arena → sealed there → one GSO send
#pragma once

#include <atomic>

#include "crypto/aead.h"
#include "engine/output.h"
#include "engine/own_datagrams.h"
#include "tun/coalescing.h"
#include "tun/segmentation.h"
#include "udp/gathering.h"
#include "udp/gro_watch.h"
#include "udp/socket_io.h"

namespace omerta::engine {

class Worker final : public EventOutput {
 public:
  Worker(Shared& shared, size_t index, udp::UdpSocket& socket, const tun::TunDevice* tun, int stop_event);
  ~Worker() override = default;

  /// Runs until the stop event is signalled.
  void run();
  /// Any thread.
  const char* io_name() const { return io_name_.load(std::memory_order_relaxed); }
  void send(const session::Endpoint& to, Bytes message, uint8_t traffic_class) override;

 private:
  static constexpr size_t kArenaBytes = size_t{1} << 20;
  /// A 64 KiB super-packet of small segments grows by less than this when sealed and framed.
  static constexpr size_t kArenaReserve = 192 * 1024;
  static_assert(kArenaReserve > 65536 + 64 * (tun::Segmentation::kMaxHeaders + 64));
  static constexpr size_t kJobs = 64;
  /// Datagrams judged together: a coalesced buffer's worth.
  static constexpr size_t kJudged = 64;

  /// A transport packet between its look-up and its delivery.
  struct Opening {
    session::Keypair* keypair;
    const session::Endpoint* from;  ///< in sources_
    size_t message_size;
    uint8_t ecn;
    bool coalesced;  ///< arrived in one message with others
  };

  /// Opened packets of one session from one place, one after the other.
  struct Run {
    session::Keypair* keypair = nullptr;
    const session::Endpoint* from = nullptr;
    size_t bytes = 0;
  };

  bool turn();
  void use_mmsg();
  bool receive_from_udp();
  bool receive_from_tun();
  void forget_tun();
  void end_loop(const tun::Segmentation& segments);
  void check_offloads();
  void check_aead();
  void demote(Offload offload, Fault fault);
  void set_gro(bool on);
  void malformed(const tun::VirtioNetHeader& header);
  void act_on(const Decision& decision, uint8_t* data, size_t size, const udp::Message& message);
  void deliver(uint32_t leg_id, uint8_t* payload, size_t size, uint8_t ecn);
  void handle_wireguard(uint8_t* data, size_t size, uint8_t ecn);
  void handle_handshake(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn);
  bool relay_handshake(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn);
  void relay_transport(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn);
  bool relay_wireguard(const WireguardTable::Result& result, uint8_t* data, size_t size, uint8_t ecn);
  void open_transport(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn);
  void finish_opening();
  void handle_opened(Opening& opening, const crypto::AeadJob& job);
  void end_run();
  void answer_unreachable(const tun::IpView& ip, const uint8_t* packet);
  void answer_stun(const uint8_t* request, size_t size, const udp::Message& message);
  void seal_from_tun(const tun::Segmentation& segments);
  void seal_segments(session::Keypair& keypair, const session::Endpoint& endpoint,
                     const tun::Segmentation& segments, size_t first, size_t count);
  void probe_gso(session::Peer& peer, const session::Endpoint& endpoint, size_t prefix, uint8_t ecn);
  void append(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size, size_t segment,
              uint8_t traffic_class);
  session::Endpoint& new_source();
  uint8_t* arena(size_t size);
  void flush();

  void sample_queue();
  void pause();
  void turn_latency_window();
  void record_latencies();

  size_t index_;
  udp::UdpSocket& socket_;
  const tun::TunDevice* tun_ = nullptr;
  int tun_queue_ = -1;  ///< -1: none, or the interface was deleted
  Nanoseconds now_ = 0;
  Nanoseconds next_timers_ = 0;
  Nanoseconds next_address_check_ = 0;
  crypto::Aead aead_;
  bool ipsec_mb_;
  Nanoseconds next_aead_check_ = 0;
  std::unique_ptr<udp::SocketIo> io_;
  std::atomic<const char*> io_name_;
  const int stop_event_;
  bool udp_left_ = false;  ///< the turns of the last wake-up did not receive all there was
  udp::SendBatch send_;
  std::unique_ptr<uint8_t[]> arena_;
  size_t arena_used_ = 0;
  std::unique_ptr<uint8_t[]> tun_buffer_;
  std::unique_ptr<tun::Coalescing> coalescing_;
  udp::GroWatch gro_watch_;
  udp::Gathering gathering_;
  bool coalesced_ = false;  ///< the message being judged holds several datagrams
  size_t wrong_super_packets_ = 0;
  std::optional<uint8_t> probe_class_;  ///< traffic class an initiation has to have to ride with a burst
  TokenBucket unreachable_budget_;
  OwnDatagrams own_datagrams_;
  Instruments& instruments_;
  Run run_;
  size_t openings_count_ = 0;
  std::unique_ptr<Opening[]> openings_;
  std::unique_ptr<crypto::AeadJob[]> jobs_;
  /// Where packets waiting to be opened came from; a burst of one message or leg has one.
  std::unique_ptr<session::Endpoint[]> sources_;
  size_t sources_count_ = 0;
  const udp::Message* source_message_ = nullptr;  ///< whose the last of them is, or
  uint32_t source_leg_ = 0;                       ///< of which leg it is the way back
  void learn(const udp::Message& message);
  const LocalAddress& return_address(const omerta_address& to);

  unsigned receives_ = 0;  ///< since the queue was looked at
  Nanoseconds queue_sampled_ = 0;
  /// Latency is measured a moment each second: timestamps are on until `closes`, and looked at from
  /// `counts` on, when nothing waits any more that was received without.
  struct LatencyWindow {
    bool open = false;
    Nanoseconds opens = 0, counts = 0, closes = 0;
  } window_;
  uint64_t forwarded_at_[udp::SocketIo::kMessages]{};  ///< when the messages forwarded now were received
  size_t forwarded_count_ = 0;

  // What a burst looks up once: the message last learned from, the destination last forwarded to and
  // what it is sent from.
  const udp::Message* learned_ = nullptr;
  omerta_address last_next_{};
  LocalAddress last_source_;
};

}  // namespace omerta::engine
