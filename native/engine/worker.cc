// SPDX-License-Identifier: Apache-2.0
#include "engine/worker.h"

#include <sys/prctl.h>
#include <time.h>

#include <system_error>

#include "session/witness.h"
#include "udp/stun.h"

namespace omerta::engine {
namespace {

constexpr uint32_t kStopBit = 1;
constexpr uint32_t kPortBit = 2;
constexpr uint32_t kPathAlarmBit = 4;
constexpr uint32_t kEgressAlarmBit = 8;
constexpr uint32_t kExtraPortsBit = 16;
constexpr int kHousekeepingMs = static_cast<int>(Housekeeping::kInterval / kMillisecond);
/// Batches of one source handled before the other gets its turn.
constexpr int kBudget = 8;
/// How late the kernel may end a sleep, ns. It may by 50 µs if not told otherwise: as long as a whole pause.
constexpr unsigned long kTimerSlack = 1000;

void pause() {
  const timespec time{0, static_cast<long>(udp::Gathering::kPause)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

std::optional<inner::Coalescing> coalescing_for(inner::Port* port, const Accelerators& accelerators) {
  if (port == nullptr) return std::nullopt;
  return std::optional<inner::Coalescing>(std::in_place, *port, accelerators.on(Accelerator::tun_tcp),
                                          accelerators.on(Accelerator::tun_udp));
}

template <class T>
T* pointer_to(std::optional<T>& value) {
  return value.has_value() ? &*value : nullptr;
}

}  // namespace

Worker::Worker(Shared& shared, size_t index, udp::UdpSocket& socket, std::unique_ptr<inner::Port> port,
               int stop_event)
    : shared_(shared),
      counters_(shared.counters[index]),
      index_(index),
      socket_(socket),
      stop_event_(stop_event),
      port_(std::move(port)),
      inside_(port_ != nullptr),
      io_(udp::make_io(
          shared.accelerators.on(Accelerator::io_uring) ? udp::IoKind::io_uring : udp::IoKind::mmsg, socket)),
      io_name_(io_->name()),
      aead_(shared.aead),
      out_(shared, counters_, socket.gso()),
      coalescing_(coalescing_for(port_.get(), shared.accelerators)),
      watch_(out_, socket, aead_, pointer_to(coalescing_), port_.get()),
      opener_(out_, aead_, watch_, pointer_to(coalescing_)),
      relay_(out_),
      handshakes_(out_, relay_),
      housekeeping_(out_, watch_),
      addresses_(shared.proven_remotes),
      queue_(socket, shared.instruments[index]),
      latency_(socket, shared.instruments[index]) {
  if (port_ != nullptr) sealer_.emplace(out_, aead_, watch_, *port_, socket.port());
  watch_descriptors();
}

void Worker::watch_descriptors() {
  out_.use(*io_);
  io_->watch(stop_event_, kStopBit);
  if (inside_) io_->watch(port_->descriptor(), kPortBit);
  if (index_ != 0) return;
  io_->watch(shared_.path_alarm.fd(), kPathAlarmBit);
  if (inside_) io_->watch(shared_.egress_alarm.fd(), kEgressAlarmBit);
  io_->watch(shared_.extra_ports.fd(), kExtraPortsBit);
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
      watch_.demote(Accelerator::io_uring, Fault::broken);
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
  if (!udp_left_ && !inside_ && gathering_.worth(now_)) pause();
  const udp::SocketIo::Ready ready = io_->wait(index_ == 0 || queue_.due() ? kHousekeepingMs : -1);
  qsbr.quiescent(index_);
  now_ = boot_clock();
  const Nanoseconds woken = now_;
  watch_.check_aead(now_);
  if ((ready.failed & kPortBit) != 0) forget_port();
  if ((ready.readable & kPathAlarmBit) != 0) serve_paths();
  if ((ready.readable & kEgressAlarmBit) != 0) serve_egress();
  bool udp = ready.socket;
  bool inside = (ready.readable & kPortBit & ~ready.failed) != 0;
  bool extra = (ready.readable & kExtraPortsBit) != 0;
  // All sides take turns until they are dry or the budget is spent; then the wait and timers again.
  for (int i = 0; (udp || inside || extra) && i < kBudget; i++) {
    if (udp) udp = receive_from_udp();
    if (extra) extra = receive_from_extra_ports();
    if (inside) inside = sealer_->receive(now_);
    qsbr.quiescent(index_);
    now_ = boot_clock();
  }
  udp_left_ = udp;
  gathering_.worked(now_ - woken);
  if (io_name() == std::string_view("io_uring") && !shared_.accelerators.on(Accelerator::io_uring))
    use_mmsg();
  watch_.check(now_);
  if (queue_.due()) queue_.sample(now_, counters_);  // what was lost is told, even when nothing follows
  if (index_ == 0) housekeeping_.tick(now_);
  return (ready.readable & kStopBit) == 0;
}

void Worker::serve_paths() {
  shared_.path_alarm.take();
  shared_.sessions->handle_path_timers(now_, out_);
  out_.flush();
}

/// Sends what may leave now of the packets that waited for their turn.
void Worker::serve_egress() {
  shared_.egress_alarm.take();
  QueueCounts lost;
  shared_.egress.take(due_, now_, lost);
  counters_.add(Counter::queue_marked, lost.marked);
  counters_.add(Counter::drop_queue_late, lost.dropped_late);
  for (Egress::Due& due : due_)
    if (!due.packet.empty())
      sealer_->release(due.packet, now_);
    else if (shared_.sessions->send_cover(due.peer, now_, out_))
      counters_.add(Counter::covers_sent);
  out_.flush();
  now_ = boot_clock();
  shared_.egress.taken(now_);
}

/// Another socket engine in place of io_uring. What was under way is lost: it may lie in memory of the ring.
void Worker::use_mmsg() {
  opener_.clear();
  latency_.clear();
  addresses_.begin();
  if (coalescing_) coalescing_->clear();
  out_.clear(socket_);
  io_->stop();
  io_ = udp::make_io(udp::IoKind::mmsg, socket_);
  watch_descriptors();
  io_->start();
  io_name_.store(io_->name(), std::memory_order_relaxed);
}

/// The inside is gone: a TUN interface was deleted.
void Worker::forget_port() {
  io_->forget(port_->descriptor());
  inside_ = false;
  watch_.forget_port();
}

bool Worker::receive_from_udp() {
  queue_.sample(now_, counters_);
  queue_.received();
  const std::span<const udp::Message> messages = io_->receive(counters_);
  gathering_.count(messages.size());
  handle(messages);
  latency_.sent();
  latency_.turn(now_);
  return io_->release();
}

bool Worker::receive_from_extra_ports() {
  const std::span<const udp::Message> messages = shared_.extra_ports.receive(counters_);
  handle(messages);
  return !messages.empty();
}

void Worker::handle(std::span<const udp::Message> messages) {
  addresses_.begin();
  opener_.begin(now_);
  // Judged many at a time, so that the legs of the next ones are on their way from memory meanwhile.
  relay::Datagram datagrams[kJudged];
  const udp::Message* message_of[kJudged];
  size_t count = 0;
  const auto judge_gathered = [&] {
    relay::Decision decisions[kJudged];
    shared_.legs.judge_all(datagrams, count, now_, decisions);
    for (size_t i = 0, end; i < count; i = end) {
      const relay::Decision& decision = decisions[i];
      const auto alike = [&](size_t j) {
        return message_of[j] == message_of[i] && decisions[j].verdict == OMERTA_FORWARD &&
               std::memcmp(&decisions[j].next, &decision.next, sizeof decision.next) == 0;
      };
      // Datagrams of a message that go one way lie back to back, and are sent on so.
      for (end = i + 1; decision.verdict == OMERTA_FORWARD && end < count && alike(end);) end++;
      const relay::Datagram& last = datagrams[end - 1];
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
  opener_.finish();
  if (coalescing_) coalescing_->flush(counters_);
  out_.flush();  // before the next receive: forwarded datagrams lie in the receive buffers
}

/// Of those that are forwarded, `size` may be that of several datagrams of the message.
void Worker::act_on(const relay::Decision& decision, uint8_t* data, size_t size,
                    const udp::Message& message) {
  switch (decision.verdict) {
    case OMERTA_FORWARD: {
      const size_t count = (size + message.segment - 1) / message.segment;
      watch_.received_good(message.segment < message.size, count);
      counters_.add(Counter::forwarded_packets, count);
      counters_.add(Counter::forwarded_bytes, size);
      if (!addresses_.has_learned(message)) latency_.forwarded(message, now_);
      addresses_.learn(message);
      // Congestion met so far is told on; the priority a stranger asked for is not.
      out_.append(decision.next, addresses_.towards(decision.next), data, size, message.segment, message.ecn);
      return;
    }
    case OMERTA_DELIVER:
      counters_.add(Counter::delivered_packets);
      addresses_.learn(message);
      return deliver(decision.leg_id, data + OMERTA_FRAME_HEADER_SIZE, size - OMERTA_FRAME_HEADER_SIZE,
                     message);
    case OMERTA_CONTROL:
      return handle_control(decision.leg_id, data, size, message);
    case OMERTA_WIREGUARD:
      return handle_wireguard(data, size, opener_.source(message), message);
    case OMERTA_STUN:
      return answer_stun(data, size, message);
    case OMERTA_DROP:
      // A bad tag on a leg that is there, from the address the leg has: of a sender this node knows, the
      // kernel may have spoiled the frame. On the contact leg, whose key everybody has, a stranger made it.
      if (decision.reason == OMERTA_DROP_BAD_TAG && load<uint32_t>(data + 4) != OMERTA_CONTACT_LEG)
        watch_.received_bad(message.segment < message.size, session::witness_of(message.from));
      counters_.drop(static_cast<uint8_t>(decision.reason));
      // Reasons after this one are told by a leg (docs/protocol.md, Verdict).
      if (decision.reason > OMERTA_DROP_UNKNOWN_LEG) shared_.refusals.add(load<uint32_t>(data + 4));
      return;
  }
}

/// The payload of an authentic frame that ends here: a WireGuard message by way of a leg.
void Worker::deliver(uint32_t leg_id, uint8_t* payload, size_t size, const udp::Message& message) {
  const omerta_classification inner = omerta_classify(payload, static_cast<__u32>(size));
  if (inner.verdict != OMERTA_WIREGUARD) {
    // A frame within a frame would let one leg speak for another.
    counters_.drop(inner.verdict == OMERTA_DROP ? inner.reason
                                                : static_cast<uint8_t>(OMERTA_DROP_WRONG_KIND));
    return;
  }
  const session::Endpoint* from = opener_.source(leg_id);
  if (from == nullptr) return counters_.drop(OMERTA_DROP_UNKNOWN_LEG);
  handle_wireguard(payload, size, *from, message);
}

void Worker::handle_wireguard(uint8_t* data, size_t size, const session::Endpoint& from,
                              const udp::Message& message) {
  if (data[0] != session::kTransportType) return handshakes_.receive(data, size, from, message.ecn, now_);
  if (!opener_.open(data, size, from, message) && !relay_.transport(data, size, from, message.ecn, now_))
    counters_.add(Counter::drop_unknown_index);
}

/// A control frame, for the control plane.
void Worker::handle_control(uint32_t leg_id, const uint8_t* frame, size_t size, const udp::Message& message) {
  if (leg_id != OMERTA_CONTACT_LEG)
    addresses_.learn(message);
  else if (shared_.stranger_budgets.take_control(message.from, now_))
    shared_.strangers.learn(message.from, message.local);
  else
    return counters_.add(Counter::drop_control_rate);
  counters_.add(Counter::control_frames);
  uint8_t where[24] = {};
  std::memcpy(where, message.from.ip, 16);
  store(where + 16, __builtin_bswap16(message.from.port));
  store(where + 20, leg_id);
  const auto length = static_cast<uint32_t>(size);
  out_.emit(EventType::frame,
            {where, Bytes(reinterpret_cast<const uint8_t*>(&length), 4), Bytes(frame, size)});
}

void Worker::answer_stun(const uint8_t* request, size_t size, const udp::Message& message) {
  if (!shared_.stranger_budgets.take_stun(message.from, now_)) return counters_.add(Counter::drop_stun_rate);
  const udp::StunResponse response(Bytes(request, size), message.from);
  if (response.bytes().empty()) return counters_.drop(OMERTA_DROP_MALFORMED_STUN);
  session::Endpoint to;
  to.remote = message.from;
  to.local = message.local;
  out_.send(to, response.bytes(), 0);
  counters_.add(Counter::stun_answered);
}

}  // namespace omerta::engine
