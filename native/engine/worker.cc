// SPDX-License-Identifier: Apache-2.0
#include "engine/worker.h"

#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "common/ecn.h"
#include "session/transport_message.h"
#include "tun/icmp_unreachable.h"
#include "udp/stun.h"

namespace omerta::engine {
namespace {

constexpr uint32_t kStopBit = 1;
constexpr uint32_t kTunBit = 2;
constexpr Nanoseconds kTimerInterval = 100 * kMillisecond;
constexpr int kTimerIntervalMs = 100;
/// How often what seals and opens has to produce known answers.
constexpr Nanoseconds kAeadCheckInterval = kSecond;
/// How soon a further address of the host is noticed.
constexpr Nanoseconds kAddressCheckInterval = 10 * kSecond;
/// Batches of one source handled before the other gets its turn.
constexpr int kBudget = 8;
/// ICMP errors a worker writes to TUN, as Linux limits its own (icmp_msgs_per_sec, icmp_msgs_burst).
constexpr uint64_t kUnreachablePerSecond = 1000;
constexpr uint64_t kUnreachableBurst = 50;
/// Super-packets with impossible headers until no more are asked for.
constexpr size_t kWrongSuperPackets = 8;
/// After this many receives, or this long, the kernel is asked how full the queue is and what it lost.
constexpr unsigned kQueueSampling = 64;
constexpr Nanoseconds kQueueSamplingInterval = 100 * kMillisecond;
/// So that a pause of microseconds is not one of a hundred.
constexpr unsigned long kTimerSlack = 1000;
/// Timestamps are on for 30 ms of each second in which something is received, and looked at for 10: what
/// waited before carries the time of its reading.
constexpr Nanoseconds kLatencyInterval = kSecond;
constexpr Nanoseconds kLatencyWindow = 30 * kMillisecond;
constexpr Nanoseconds kLatencyLeadIn = 20 * kMillisecond;
constexpr size_t kTunPacketBytes = sizeof(tun::VirtioNetHeader) + 65536;
/// A transport payload is an IP packet by its first nibble, or else a control frame (docs/protocol.md).
bool is_ip(const uint8_t* payload) { return payload[0] >> 4 == 4 || payload[0] >> 4 == 6; }

}  // namespace

Worker::Worker(Shared& shared, size_t index, udp::UdpSocket& socket, const tun::TunDevice* tun,
               int stop_event)
    : EventOutput(shared, shared.counters[index]),
      index_(index),
      socket_(socket),
      aead_(shared.aead),
      ipsec_mb_(shared.aead.ipsec_mb()),
      io_(udp::make_io(shared.offloads.on(Offload::io_uring) ? udp::IoKind::io_uring : udp::IoKind::mmsg,
                       socket)),
      io_name_(io_->name()),
      stop_event_(stop_event),
      send_(socket.gso()),
      arena_(new uint8_t[kArenaBytes]()),
      tun_buffer_(new uint8_t[kTunPacketBytes]()),
      unreachable_budget_(kUnreachablePerSecond, kUnreachableBurst),
      instruments_(shared.instruments[index]),
      openings_(new Opening[kJobs]),
      jobs_(new crypto::AeadJob[kJobs]),
      sources_(new session::Endpoint[kJobs + 1]) {
  io_->watch(stop_event, kStopBit);
  if (tun != nullptr) {
    tun_ = tun;
    tun_queue_ = tun->queue(index);
    io_->watch(tun_queue_, kTunBit);
    coalescing_ = std::make_unique<tun::Coalescing>(tun_queue_, shared.offloads.on(Offload::tun_tcp),
                                                    shared.offloads.on(Offload::tun_udp));
  }
}

void Worker::run() {
  prctl(PR_SET_TIMERSLACK, kTimerSlack);
  for (bool started = false, running = true; running;) {
    try {
      if (!started) io_->start();
      started = true;
      running = turn();
    } catch (const std::system_error&) {
      // A ring that worked fails: the kernel is short of memory, or somebody took it away.
      if (io_name() != std::string_view("io_uring")) throw;
      demote(Offload::io_uring, Fault::broken);
      use_mmsg();
    }
  }
  shared_.sessions->qsbr().offline(index_);
  io_->stop();
}

/// Waits once and handles what is there. false: the stop event came.
bool Worker::turn() {
  Qsbr& qsbr = shared_.sessions->qsbr();
  qsbr.offline(index_);
  // Sealing must not wait, so only a relay pauses.
  if (!udp_left_ && tun_queue_ < 0 && gathering_.worth(now_)) pause();
  const udp::SocketIo::Ready ready = io_->wait(index_ == 0 || receives_ != 0 ? kTimerIntervalMs : -1);
  qsbr.quiescent(index_);
  now_ = boot_clock();
  const Nanoseconds woken = now_;
  if ((ready.failed & kTunBit) != 0) forget_tun();
  bool udp = ready.socket;
  bool tun = (ready.readable & kTunBit & ~ready.failed) != 0;
  // Both sides take turns until both are dry or the budget is spent; then the wait and timers again.
  for (int i = 0; (udp || tun) && i < kBudget; i++) {
    if (udp) udp = receive_from_udp();
    if (tun) tun = receive_from_tun();
    qsbr.quiescent(index_);
    now_ = boot_clock();
  }
  udp_left_ = udp;
  gathering_.worked(now_ - woken);
  check_offloads();
  if (receives_ != 0) sample_queue();  // what was lost is told, even when nothing follows
  if (index_ == 0 && now_ >= next_timers_) {
    next_timers_ = now_ + kTimerInterval;
    shared_.sessions->handle_timers(now_, *this);
    shared_.host_shares.deal(now_);
    shared_.wireguard.sweep(now_);
    flush();
    if (shared_.gso_probe.tick(*shared_.sessions, now_, *this)) demote(Offload::udp_gso, Fault::lost);
    flush();
    if (now_ >= next_address_check_) {
      next_address_check_ = now_ + kAddressCheckInterval;
      shared_.proven_remotes.set_sole(udp::sole_addresses());
    }
    shared_.proven_remotes.prepare();
  }
  return (ready.readable & kStopBit) == 0;
}

/// Another socket engine in place of io_uring. What was under way is lost: it may lie in memory of the ring.
void Worker::use_mmsg() {
  openings_count_ = sources_count_ = forwarded_count_ = 0;
  source_message_ = learned_ = nullptr;
  source_leg_ = 0;
  run_ = {};
  if (coalescing_) coalescing_->clear();
  socket_.finish(send_);
  arena_used_ = 0;
  io_->stop();
  io_ = udp::make_io(udp::IoKind::mmsg, socket_);
  io_->watch(stop_event_, kStopBit);
  if (tun_ != nullptr) io_->watch(tun_queue_, kTunBit);
  io_->start();
  io_name_.store(io_->name(), std::memory_order_relaxed);
}

/// The interface was deleted (tun's poll says POLLERR then, for good).
void Worker::forget_tun() {
  io_->forget(tun_queue_);
  tun_queue_ = -1;
  tun_ = nullptr;
}

// ---- offloads -------------------------------------------------------------------------------------

/// What this worker's socket and interface showed counts for all, and what others found for this one.
void Worker::check_offloads() {
  const Offloads& offloads = shared_.offloads;
  if (io_name() == std::string_view("io_uring") && !offloads.on(Offload::io_uring)) use_mmsg();
  check_aead();
  if (socket_.gso() && !offloads.on(Offload::udp_gso)) socket_.give_up_gso();
  if (!socket_.gso() && offloads.on(Offload::udp_gso)) demote(Offload::udp_gso, Fault::refused);
  switch (gro_watch_.tick(now_)) {
    case udp::GroWatch::Action::none:
      break;
    case udp::GroWatch::Action::turn_off:
      set_gro(false);
      break;
    case udp::GroWatch::Action::turn_on:
      set_gro(offloads.on(Offload::udp_gro));
      break;
    case udp::GroWatch::Action::give_up:
      demote(Offload::udp_gro, Fault::corrupted);
      set_gro(false);  // another worker's trial may have ended meanwhile
      break;
  }
  if (!coalescing_) return;
  if (!coalescing_->tcp() && offloads.on(Offload::tun_tcp)) demote(Offload::tun_tcp, Fault::refused);
  if (!coalescing_->udp() && offloads.on(Offload::tun_udp)) demote(Offload::tun_udp, Fault::refused);
  if (!offloads.on(Offload::tun_tcp)) coalescing_->give_up_tcp();
  if (!offloads.on(Offload::tun_udp)) coalescing_->give_up_udp();
}

void Worker::check_aead() {
  if (!ipsec_mb_) return;
  if (now_ >= next_aead_check_) {
    next_aead_check_ = now_ + kAeadCheckInterval;
    if (!aead_.passes_spot_check()) {
      demote(Offload::ipsec_mb, Fault::corrupted);
      shared_.sessions->use_aead(shared_.aead.without_ipsec_mb());
    }
  }
  if (shared_.offloads.on(Offload::ipsec_mb)) return;
  aead_ = crypto::Aead(shared_.aead.without_ipsec_mb());
  ipsec_mb_ = false;
}

/// For every worker: the kernel coalesces before it knows which of the sockets of a port gets a datagram.
void Worker::set_gro(bool on) {
  for (udp::UdpSocket* socket : shared_.sockets) socket->set_gro(on);
}

void Worker::demote(Offload offload, Fault fault) {
  Offloads& offloads = shared_.offloads;
  if (!offloads.demote(offload, fault)) return;
  counters_.add(Counter::offloads_demoted);
  const std::string text = std::string(Offloads::name(offload)) + '\n' + offloads.reason(offload);
  const auto length = static_cast<uint32_t>(text.size());
  emit(EventType::offload_demoted, {Bytes(reinterpret_cast<const uint8_t*>(&length), 4),
                                    Bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size())});
  if (tun_ != nullptr)
    tun_->set_offloads(offloads.on(Offload::tun_checksum), offloads.on(Offload::tun_tcp),
                       offloads.on(Offload::tun_udp));
}

/// The interface handed over a packet that its header does not fit.
void Worker::malformed(const tun::VirtioNetHeader& header) {
  counters_.add(Counter::drop_inner_malformed);
  const uint8_t protocol = tun::Segmentation::super_packet_protocol(header);
  if (protocol != 0 && ++wrong_super_packets_ >= kWrongSuperPackets)
    demote(protocol == tun::kTcp ? Offload::tun_tcp : Offload::tun_udp, Fault::wrong_header);
}

// ---- sending --------------------------------------------------------------------------------------

void Worker::flush() {
  if (!send_.empty()) io_->flush(send_, counters_);
  arena_used_ = 0;
}

/// Adds datagrams that lie back to back to what is to be sent (SendBatch::append). When there is no room
/// the batch is sent, but the arena is not handed out anew: what waits in it may not have been added yet.
void Worker::append(const omerta_address& to, const LocalAddress& local, uint8_t* data, size_t size,
                    size_t segment, uint8_t traffic_class) {
  size_t added = send_.append(to, local, data, size, segment, traffic_class);
  while (added < size) {
    io_->flush(send_, counters_);
    added += send_.append(to, local, data + added, size - added, segment, traffic_class);
  }
}

/// Memory in the send arena that lives until the next flush.
uint8_t* Worker::arena(size_t size) {
  if (arena_used_ + size > kArenaBytes) flush();
  uint8_t* memory = arena_.get() + arena_used_;
  arena_used_ += size;
  return memory;
}

void Worker::send(const session::Endpoint& to, Bytes message, uint8_t traffic_class) {
  const size_t prefix = to.relayed() ? OMERTA_FRAME_HEADER_SIZE : 0;
  const size_t size = prefix + message.size();
  uint8_t* out = arena(size);
  std::memcpy(out + prefix, message.data(), message.size());
  if (to.relayed()) write_frame_header(out, size, to);
  count_sent(to, 1, size);
  append(to.remote, to.local, out, size, size, probe_class_.value_or(traffic_class));
}

// ---- from UDP -------------------------------------------------------------------------------------

/// How full the worker finds its queue, and what was lost of it.
void Worker::sample_queue() {
  if (receives_ < kQueueSampling && now_ - queue_sampled_ < kQueueSamplingInterval) return;
  instruments_.receive_queue(socket_.sample_queues(counters_).receive);
  queue_sampled_ = now_;
  receives_ = 0;
}

void Worker::pause() {
  const timespec time{0, static_cast<long>(udp::Gathering::kPause)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

void Worker::turn_latency_window() {
  if (now_ < (window_.open ? window_.closes : window_.opens)) return;
  window_.open = !window_.open;
  socket_.set_timestamps(window_.open);
  if (window_.open) window_ = {true, now_ + kLatencyInterval, now_ + kLatencyLeadIn, now_ + kLatencyWindow};
}

/// The frames of this batch have left.
void Worker::record_latencies() {
  if (forwarded_count_ == 0) return;
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  const uint64_t sent_at = static_cast<uint64_t>(t.tv_sec) * kSecond + static_cast<uint64_t>(t.tv_nsec);
  for (size_t i = 0; i < forwarded_count_; i++)
    if (sent_at >= forwarded_at_[i])
      instruments_.latency(sent_at - forwarded_at_[i]);  // else the clock was set
  forwarded_count_ = 0;
}

bool Worker::receive_from_udp() {
  sample_queue();
  receives_++;
  const std::span<const udp::Message> messages = io_->receive(counters_);
  gathering_.count(messages.size());
  learned_ = nullptr;
  last_next_ = {};
  // Judged many at a time, so that the legs of the next ones are on their way from memory meanwhile.
  Datagram datagrams[kJudged];
  const udp::Message* message_of[kJudged];
  size_t count = 0;
  const auto judge_gathered = [&] {
    Decision decisions[kJudged];
    shared_.legs.judge_all(datagrams, count, now_, decisions);
    for (size_t i = 0, end; i < count; i = end) {
      const Decision& decision = decisions[i];
      const auto alike = [&](size_t j) {
        return message_of[j] == message_of[i] && decisions[j].verdict == OMERTA_FORWARD &&
               std::memcmp(&decisions[j].next, &decision.next, sizeof decision.next) == 0;
      };
      // Datagrams of a message that go one way lie back to back, and are sent on so.
      for (end = i + 1; decision.verdict == OMERTA_FORWARD && end < count && alike(end);) end++;
      const Datagram& last = datagrams[end - 1];
      act_on(decision, datagrams[i].data, static_cast<size_t>(last.data + last.size - datagrams[i].data),
             *message_of[i]);
    }
    count = 0;
  };
  for (const udp::Message& message : messages) {
    if (message.size == 0) counters_.drop(OMERTA_DROP_EMPTY);
    for (size_t at = 0; at < message.size; at += message.segment) {
      message_of[count] = &message;
      // The kernel's copy of a long message leaves the frames' heads further away than the first cache.
      __builtin_prefetch(message.data + at);
      __builtin_prefetch(message.data + at + OMERTA_FRAME_MIN_SIZE - 1);
      datagrams[count++] = {message.data + at,
                            static_cast<uint32_t>(std::min(message.segment, message.size - at)),
                            &message.from};
      if (count == kJudged) judge_gathered();
    }
  }
  judge_gathered();
  finish_opening();
  if (coalescing_) coalescing_->flush(counters_);
  flush();  // before the next receive: forwarded datagrams lie in the receive buffers
  record_latencies();
  turn_latency_window();
  return io_->release();
}

/// The sender of a message is who it says: what it sent to is what it is to be sent from.
void Worker::learn(const udp::Message& message) {
  if (learned_ == &message) return;
  learned_ = &message;
  shared_.proven_remotes.learn(message.from, message.local);
}

const LocalAddress& Worker::return_address(const omerta_address& to) {
  if (std::memcmp(&to, &last_next_, sizeof to) != 0) {
    last_next_ = to;
    last_source_ = shared_.proven_remotes.find(to);
  }
  return last_source_;
}

/// Of those that are forwarded, `size` may be that of several datagrams of the message.
void Worker::act_on(const Decision& decision, uint8_t* data, size_t size, const udp::Message& message) {
  coalesced_ = message.segment < message.size;
  switch (decision.verdict) {
    case OMERTA_FORWARD: {
      const size_t count = (size + message.segment - 1) / message.segment;
      gro_watch_.count(coalesced_, true, count);
      counters_.add(Counter::forwarded_packets, count);
      counters_.add(Counter::forwarded_bytes, size);
      // Congestion met so far is told on; the priority a stranger asked for is not.
      if (learned_ != &message && message.received_at != 0 && now_ >= window_.counts)
        forwarded_at_[forwarded_count_++] = message.received_at;
      learn(message);
      append(decision.next, return_address(decision.next), data, size, message.segment, message.ecn);
      return;
    }
    case OMERTA_DELIVER:
      counters_.add(Counter::delivered_packets);
      learn(message);
      deliver(decision.leg_id, data + OMERTA_FRAME_HEADER_SIZE, size - OMERTA_FRAME_HEADER_SIZE, message.ecn);
      return;
    case OMERTA_CONTROL: {
      if (decision.leg_id == OMERTA_CONTACT_LEG &&
          !(shared_.control_budget_of_prefix.take(message.from, now_) && shared_.control_budget.take(now_))) {
        counters_.add(Counter::drop_control_rate);
        return;
      }
      counters_.add(Counter::control_frames);
      if (decision.leg_id == OMERTA_CONTACT_LEG)
        shared_.strangers.learn(message.from, message.local);
      else
        learn(message);
      uint8_t where[24] = {};
      std::memcpy(where, message.from.ip, 16);
      store(where + 16, __builtin_bswap16(message.from.port));
      store(where + 20, decision.leg_id);
      const auto length = static_cast<uint32_t>(size);
      emit(EventType::frame, {where, Bytes(reinterpret_cast<const uint8_t*>(&length), 4), Bytes(data, size)});
      return;
    }
    case OMERTA_WIREGUARD: {
      if (source_message_ != &message) {
        session::Endpoint& from = new_source();
        from.remote = message.from;
        if (!shared_.proven_remotes.avoids(message.local)) from.local = message.local;
        source_message_ = &message;
      }
      handle_wireguard(data, size, message.ecn);
      return;
    }
    case OMERTA_STUN:
      answer_stun(data, size, message);
      return;
    case OMERTA_DROP:
      // The sender is known by its address: whom nobody knows is no witness of what the kernel spoils.
      if (decision.reason == OMERTA_DROP_BAD_TAG && load<uint32_t>(data + 4) != OMERTA_CONTACT_LEG)
        gro_watch_.count(coalesced_, false);
      counters_.drop(static_cast<uint8_t>(decision.reason));
      // Reasons after this one are told by a leg (docs/protocol.md, Verdict).
      if (decision.reason > OMERTA_DROP_UNKNOWN_LEG) shared_.refusals.add(load<uint32_t>(data + 4));
      return;
  }
}

/// The payload of an authentic frame that ends here: a WireGuard message by way of a leg.
void Worker::deliver(uint32_t leg_id, uint8_t* payload, size_t size, uint8_t ecn) {
  const omerta_classification inner = omerta_classify(payload, static_cast<__u32>(size));
  if (inner.verdict != OMERTA_WIREGUARD) {
    // A frame within a frame would let one leg speak for another.
    counters_.drop(inner.verdict == OMERTA_DROP ? inner.reason
                                                : static_cast<uint8_t>(OMERTA_DROP_WRONG_KIND));
    return;
  }
  if (source_leg_ != leg_id) {
    omerta_leg leg;
    if (!shared_.legs.find(leg_id, leg)) return counters_.drop(OMERTA_DROP_UNKNOWN_LEG);
    new_source() = endpoint_of(leg);
    source_leg_ = leg_id;
  }
  handle_wireguard(payload, size, ecn);
}

/// A place for where the next packets come from.
session::Endpoint& Worker::new_source() {
  if (sources_count_ > kJobs) finish_opening();
  source_message_ = nullptr;
  source_leg_ = 0;
  return sources_[sources_count_++] = {};
}

/// A WireGuard message from the last of sources_.
void Worker::handle_wireguard(uint8_t* data, size_t size, uint8_t ecn) {
  const session::Endpoint& from = sources_[sources_count_ - 1];
  if (data[0] == session::kTransportType)
    open_transport(data, size, from, ecn);
  else
    handle_handshake(data, size, from, ecn);
}

void Worker::handle_handshake(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn) {
  session::SessionTable& sessions = *shared_.sessions;
  session::Outcome outcome = session::Outcome::accepted;
  // Sizes were enforced by omerta_classify.
  if (data[0] == session::kInitiationType) {
    counters_.add(Counter::handshake_initiations_received);
    outcome = sessions.handle_initiation(load<session::Initiation>(data), from, now_, *this);
    if (outcome == session::Outcome::accepted) counters_.add(Counter::handshake_responses_sent);
  } else if (data[0] == session::kResponseType) {
    counters_.add(Counter::handshake_responses_received);
    outcome = sessions.handle_response(load<session::Response>(data), from, now_, *this);
  } else {
    counters_.add(Counter::cookie_replies_received);
    outcome = sessions.handle_cookie_reply(load<session::CookieReply>(data), now_);
  }
  // Not ours: somebody's whose clients are relayed?
  if ((outcome == session::Outcome::bad_mac1 || outcome == session::Outcome::unknown_index) &&
      relay_handshake(data, size, from, ecn))
    return;
  switch (outcome) {
    case session::Outcome::accepted:
      return;
    case session::Outcome::crossed:
      return counters_.add(Counter::handshakes_crossed);
    case session::Outcome::bad_mac1:
      return counters_.add(Counter::drop_bad_mac1);
    case session::Outcome::cookie_sent:
      return counters_.add(Counter::cookie_replies_sent);
    case session::Outcome::over_rate:
      return counters_.add(Counter::drop_handshake_rate);
    case session::Outcome::unknown_peer:
      return counters_.add(Counter::drop_unknown_peer);
    case session::Outcome::unknown_index:
      return counters_.add(Counter::drop_unknown_index);
    case session::Outcome::bad_handshake:
      return counters_.add(Counter::drop_bad_handshake);
    case session::Outcome::replayed_initiation:
      return counters_.add(Counter::drop_replayed_initiation);
  }
}

/// Order of WIREGUARD checklist 10: index → expiry → AEAD → replay → endpoint → keepalive? → length,
/// padding → source → deliver. The AEAD is done for up to kJobs packets at once.
void Worker::open_transport(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn) {
  session::Keypair* keypair = shared_.sessions->find(load<uint32_t>(data + 4));
  if (keypair == nullptr) return relay_transport(data, size, from, ecn);
  if (keypair->expired(now_)) return counters_.add(Counter::drop_key_expired);
  openings_[openings_count_] = {keypair, &from, size, ecn, coalesced_};
  jobs_[openings_count_] = {&keypair->receive_key, load<uint64_t>(data + 8),
                            data + session::kTransportHeaderSize, size - session::kTransportOverhead, false};
  if (++openings_count_ == kJobs) finish_opening();
}

/// Messages of stock WireGuard sessions that are relayed. False: nobody's; the caller counts it.
bool Worker::relay_handshake(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn) {
  const auto own = [this](uint32_t index) { return shared_.sessions->find(index) != nullptr; };
  session::CookieReply reply;
  const WireguardTable::Result result =
      shared_.wireguard.handshake(Bytes(data, size), from, now_, own, reply);
  if (result.verdict == WireguardTable::Verdict::cookie) {
    counters_.add(Counter::wireguard_cookies_sent);
    send(from, Bytes(reinterpret_cast<const uint8_t*>(&reply), sizeof reply), 0);
    return true;
  }
  if (result.verdict == WireguardTable::Verdict::forward)
    counters_.add(Counter::wireguard_relayed_handshakes);
  return relay_wireguard(result, data, size, ecn);
}

void Worker::relay_transport(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn) {
  const auto index = load<uint32_t>(data + 4);
  if (!relay_wireguard(shared_.wireguard.transport(index, size, from, now_, shared_.legs.accounts()), data,
                       size, ecn))
    counters_.add(Counter::drop_unknown_index);
}

bool Worker::relay_wireguard(const WireguardTable::Result& result, uint8_t* data, size_t size, uint8_t ecn) {
  using Verdict = WireguardTable::Verdict;
  switch (result.verdict) {
    case Verdict::not_ours:
    case Verdict::cookie:
      return false;
    case Verdict::forward:
      counters_.add(Counter::wireguard_relayed_packets);
      counters_.add(Counter::wireguard_relayed_bytes, size);
      append(result.to.remote, result.to.local, data, size, size, ecn);
      return true;
    case Verdict::refused_by_limit:
      counters_.drop(static_cast<uint8_t>(result.limit));
      return true;
    case Verdict::over_rate:
      counters_.add(Counter::drop_wireguard_rate);
      return true;
    case Verdict::half_open_full:
      counters_.add(Counter::drop_wireguard_half_open);
      return true;
    case Verdict::sessions_full:
      counters_.add(Counter::drop_wireguard_sessions);
      return true;
    case Verdict::too_much:
      counters_.add(Counter::drop_wireguard_unproven);
      return true;
    case Verdict::self:
    case Verdict::index_taken:
      counters_.add(Counter::drop_wireguard_index);
      return true;
    case Verdict::repeated:
      counters_.add(Counter::drop_replayed_initiation);
      return true;
  }
  return false;
}

void Worker::finish_opening() {
  if (openings_count_ != 0) {
    aead_.open(std::span(jobs_.get(), openings_count_));
    for (size_t i = 0; i < openings_count_; i++) handle_opened(openings_[i], jobs_[i]);
    end_run();
    openings_count_ = 0;
  }
  sources_count_ = 0;
  source_message_ = nullptr;
  source_leg_ = 0;
}

/// Packets of one session from one place are counted in the peer, which workers share, together.
void Worker::end_run() {
  if (run_.keypair != nullptr) run_.keypair->peer.rx_bytes.fetch_add(run_.bytes, std::memory_order_relaxed);
  run_ = {};
}

void Worker::handle_opened(Opening& opening, const crypto::AeadJob& job) {
  if (job.ok || opening.keypair->peer.endpoint().same_path(*opening.from))
    gro_watch_.count(opening.coalesced, job.ok);
  if (!job.ok) return counters_.add(Counter::drop_decrypt_failed);
  session::Keypair& keypair = *opening.keypair;
  if (!keypair.accept(job.counter)) return counters_.add(Counter::drop_replayed);
  counters_.add(Counter::transport_received);
  if (run_.keypair != &keypair || (run_.from != opening.from && !run_.from->same_path(*opening.from))) {
    end_run();
    shared_.sessions->authenticated(keypair, *opening.from, now_, *this);
    if (!opening.from->relayed()) shared_.proven_remotes.learn(opening.from->remote, opening.from->local);
    keypair.peer.bursts.received(now_);
    run_ = {&keypair, opening.from, 0};
  }
  run_.bytes += opening.message_size;
  if (job.size == 0) return counters_.add(Counter::keepalives_received);
  if (session::is_suite_frame(Bytes(job.text, job.size))) {
    if (!shared_.sessions->handle_suite_frame(keypair, Bytes(job.text, job.size), now_, *this))
      counters_.add(Counter::drop_inner_malformed);
    return;
  }
  session::SessionTable::data_received(keypair.peer, now_);
  if (!is_ip(job.text)) {
    counters_.add(Counter::control_messages);
    const auto length = static_cast<uint32_t>(job.size);
    emit(EventType::control,
         {keypair.peer.remote.public_key, Bytes(reinterpret_cast<const uint8_t*>(&length), 4),
          Bytes(job.text, job.size)});
    return;
  }
  const tun::IpView ip = tun::parse_ip(job.text, job.size);
  if (ip.family == 0) return counters_.add(Counter::drop_inner_malformed);
  if (shared_.sessions->routes().lookup(ip.family, ip.source) != &keypair.peer)
    return counters_.add(Counter::drop_inner_source);
  if (!decapsulate_ecn(job.text, opening.ecn)) return counters_.add(Counter::drop_inner_ecn);
  if (!coalescing_) return counters_.add(Counter::drop_no_tun);
  coalescing_->add(job.text, ip, counters_);
}

void Worker::answer_stun(const uint8_t* request, size_t size, const udp::Message& message) {
  if (!shared_.stun_budget.take(message.from, now_)) return counters_.add(Counter::drop_stun_rate);
  const udp::StunResponse response(Bytes(request, size), message.from);
  if (response.bytes().empty()) return counters_.drop(OMERTA_DROP_MALFORMED_STUN);
  session::Endpoint to;
  to.remote = message.from;
  to.local = message.local;
  send(to, response.bytes(), 0);
  counters_.add(Counter::stun_answered);
}

/// Tells the inner host that no peer takes its packet.
void Worker::answer_unreachable(const tun::IpView& ip, const uint8_t* packet) {
  if (!unreachable_budget_.take(now_)) return;
  const std::vector<uint8_t> answer = tun::icmp_unreachable(ip, packet);
  if (answer.empty()) return;
  tun::VirtioNetHeader header{};
  const iovec parts[2] = {{&header, sizeof header}, {const_cast<uint8_t*>(answer.data()), answer.size()}};
  counters_.add(writev(tun_queue_, parts, 2) < 0 ? Counter::drop_tun_write : Counter::unreachable_sent);
}

// ---- from TUN -------------------------------------------------------------------------------------

bool Worker::receive_from_tun() {
  constexpr int kReads = 16;
  int reads = 0;
  for (; reads < kReads; reads++) {
    const ssize_t got = read(tun_queue_, tun_buffer_.get(), kTunPacketBytes);
    if (got <= static_cast<ssize_t>(sizeof(tun::VirtioNetHeader))) break;
    uint8_t* packet = tun_buffer_.get() + sizeof(tun::VirtioNetHeader);
    const size_t size = static_cast<size_t>(got) - sizeof(tun::VirtioNetHeader);
    counters_.add(Counter::tun_rx_reads);
    counters_.add(Counter::tun_rx_bytes, size);
    const tun::Segmentation segments(load<tun::VirtioNetHeader>(tun_buffer_.get()), packet, size);
    if (!segments.valid()) {
      malformed(load<tun::VirtioNetHeader>(tun_buffer_.get()));
      continue;
    }
    counters_.add(Counter::tun_rx_packets, segments.count());
    if (own_datagrams_.contain(segments.ip(), packet, socket_.port(), now_)) [[unlikely]]
      end_loop(segments);
    else
      seal_from_tun(segments);
  }
  flush();
  return reads == kReads;
}

/// This engine's own datagrams, routed into its tunnel. Told once: whoever set the routes has to change them.
void Worker::end_loop(const tun::Segmentation& segments) {
  counters_.add(Counter::drop_routing_loop, segments.count());
  if (shared_.routing_loop_told.exchange(true, std::memory_order_relaxed)) return;
  const tun::IpView& ip = segments.ip();
  const size_t transport = ip.family == 4 ? static_cast<size_t>(segments.packet()[0] & 15) * 4
                           : segments.packet()[6] == tun::kUdp ? 40
                                                               : 48;
  uint8_t where[24] = {};
  if (ip.family == 4) where[10] = where[11] = 0xff;
  std::memcpy(where + 16 - ip.address_size, ip.destination, ip.address_size);
  store(where + 16, __builtin_bswap16(load<uint16_t>(segments.packet() + transport + 2)));
  emit(EventType::routing_loop, {where});
}

void Worker::seal_from_tun(const tun::Segmentation& segments) {
  const tun::IpView& ip = segments.ip();
  session::Peer* peer = shared_.sessions->routes().lookup(ip.family, ip.destination);
  if (peer == nullptr) {
    answer_unreachable(ip, segments.packet());
    return counters_.add(Counter::drop_no_route, segments.count());
  }
  session::Keypair* keypair = peer->sending();
  const session::Endpoint endpoint = peer->endpoint();
  if (keypair == nullptr || keypair->expired(now_) || !endpoint.known()) {
    std::vector<uint8_t> packet;
    for (size_t i = 0; i < segments.count(); i++) {
      packet.resize(segments.size(i));
      segments.write(i, packet.data());
      counters_.add(Counter::staged_packets);
      counters_.add(Counter::drop_staging_overflow, shared_.sessions->stage(*peer, packet, now_, *this));
    }
    return;
  }
  for (size_t first = 0; first < segments.count(); first += kJobs)
    seal_segments(*keypair, endpoint, segments, first, std::min(kJobs, segments.count() - first));
}

/// Lets an initiation ride with the message begun for a suspicious peer, if that is wanted and possible.
void Worker::probe_gso(session::Peer& peer, const session::Endpoint& endpoint, size_t prefix, uint8_t ecn) {
  if (!send_.would_join(endpoint.remote, endpoint.local, prefix + sizeof(session::Initiation), ecn) ||
      !shared_.gso_probe.take(peer.remote.public_key, now_))
    return;
  probe_class_ = ecn;
  const uint64_t joined = send_.joined();
  shared_.sessions->start_handshake(peer.remote.public_key, now_, *this);
  if (send_.joined() != joined) shared_.gso_probe.rode(now_);
  probe_class_.reset();
}

void Worker::seal_segments(session::Keypair& keypair, const session::Endpoint& endpoint,
                           const tun::Segmentation& segments, size_t first, size_t count) {
  const session::CounterRange taken = keypair.take_counters(count, now_);
  if (taken.count == 0) return;
  if (arena_used_ + kArenaReserve > kArenaBytes) flush();
  const size_t prefix = endpoint.relayed() ? OMERTA_FRAME_HEADER_SIZE : 0;
  const size_t inner_mtu = shared_.inner_mtu.load(std::memory_order_relaxed);
  // Datagrams lie back to back in the arena: that is what makes them one GSO message.
  crypto::AeadJob jobs[kJobs];
  uint8_t* starts[kJobs + 1];
  starts[0] = arena_.get() + arena_used_;
  for (size_t i = 0; i < taken.count; i++) {
    jobs[i] = session::write_transport(starts[i] + prefix, keypair, taken.first + i, segments.size(first + i),
                                       inner_mtu, [&](uint8_t* text) { segments.write(first + i, text); });
    starts[i + 1] = jobs[i].text + jobs[i].size + crypto::kAeadTagSize;
  }
  arena_used_ = static_cast<size_t>(starts[taken.count] - arena_.get());
  aead_.seal(std::span(jobs, taken.count));
  bool sealed = true;
  for (size_t i = 0; i < taken.count; i++) {
    sealed &= jobs[i].ok;
    if (endpoint.relayed())
      write_frame_header(starts[i], static_cast<size_t>(starts[i + 1] - starts[i]), endpoint);
  }
  if (!sealed) return counters_.add(Counter::drop_seal_failed, taken.count);
  const auto bytes = static_cast<size_t>(starts[taken.count] - starts[0]);
  const size_t segment = static_cast<size_t>(starts[1] - starts[0]);
  const uint8_t ecn = ecn_of(segments.packet());
  const uint64_t joined = send_.joined();
  session::BurstWatch& bursts = keypair.peer.bursts;
  // A probe rides before the last datagram, which may be shorter and close the message.
  const size_t head = bursts.suspicious()
                          ? bytes - static_cast<size_t>(starts[taken.count] - starts[taken.count - 1])
                          : bytes;
  if (head != 0) append(endpoint.remote, endpoint.local, starts[0], head, segment, ecn);
  if (head != bytes) {
    probe_gso(keypair.peer, endpoint, prefix, ecn);
    append(endpoint.remote, endpoint.local, starts[taken.count - 1], bytes - head, bytes - head, ecn);
  }
  if (send_.joined() != joined) bursts.sent(now_);
  counters_.add(Counter::transport_sent, taken.count);
  count_sent(endpoint, taken.count, bytes);
  shared_.sessions->data_sent(keypair, bytes - taken.count * prefix, now_, *this);
}

}  // namespace omerta::engine
