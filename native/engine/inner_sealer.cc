// SPDX-License-Identifier: Apache-2.0
#include "engine/inner_sealer.h"

#include "common/ecn.h"
#include "inner/fragmentation.h"
#include "inner/icmp_error.h"
#include "session/transport_message.h"

namespace omerta::engine {
namespace {

/// Super-packets taken before what they became is sent.
constexpr size_t kSuperPackets = 16;
/// A 64 KiB super-packet of small segments grows by less than this when sealed and framed.
constexpr size_t kArenaReserve = 192 * 1024;
static_assert(kArenaReserve > inner::kMaxPacketBytes + 64 * (inner::Segmentation::kMaxHeaders + 64));
static_assert(kArenaReserve > 64 * (session::kMaxPaddedSize + 64));
/// ICMP errors a worker sends inside, as Linux limits its own (icmp_msgs_per_sec, icmp_msgs_burst).
constexpr uint64_t kErrorsPerSecond = 1000;
constexpr uint64_t kErrorBurst = 50;
constexpr size_t kSplitBurst = size_t{64} << 10;
/// What every link has to carry of IPv6 (RFC 8200 5).
constexpr size_t kLeastMtu6 = 1280;

}  // namespace

InnerSealer::InnerSealer(Sender& out, crypto::Aead& aead, AcceleratorWatch& watch, inner::Port& port,
                         uint16_t own_port)
    : out_(out),
      shared_(out.shared()),
      counters_(out.counters()),
      aead_(aead),
      watch_(watch),
      port_(port),
      own_port_(own_port),
      error_budget_(kErrorsPerSecond, kErrorBurst) {
  random_bytes(std::span(reinterpret_cast<uint8_t*>(&fragmented_), sizeof fragmented_));
}

bool InnerSealer::receive(Nanoseconds now) {
  now_ = now;
  burst_ = {};
  size_t taken = 0, bytes = 0, packets = 0;
  while (taken < kSuperPackets) {
    const std::span<const inner::Received> received = port_.receive();
    if (received.empty()) break;
    taken += received.size();
    for (const inner::Received& super : received) {
      bytes += super.size;
      inner::Segmentation segments(*super.header, super.data, super.size);
      packets += segments.count();
      if (!segments.valid())
        watch_.malformed(*super.header);
      else if (own_datagrams_.contain(segments.ip(), super.data, own_port_, now)) [[unlikely]]
        end_loop(segments);
      else
        seal(segments);
    }
  }
  counters_.add(Counter::tun_rx_reads, taken);
  counters_.add(Counter::tun_rx_bytes, bytes);
  counters_.add(Counter::tun_rx_packets, packets);
  out_.flush();
  return taken >= kSuperPackets;
}

/// This engine's own datagrams, routed into its tunnel. Told once: whoever set the routes has to change them.
void InnerSealer::end_loop(const inner::Segmentation& segments) {
  counters_.add(Counter::drop_routing_loop, segments.count());
  if (shared_.routing_loop_told.exchange(true, std::memory_order_relaxed)) return;
  const inner::IpView& ip = segments.ip();
  const size_t transport = ip.family == 4 ? static_cast<size_t>(segments.packet()[0] & 15) * 4
                           : segments.packet()[6] == inner::kUdp ? 40
                                                                 : 48;
  uint8_t where[24] = {};
  if (ip.family == 4) where[10] = where[11] = 0xff;
  std::memcpy(where + 16 - ip.address_size, ip.destination, ip.address_size);
  store(where + 16, __builtin_bswap16(load<uint16_t>(segments.packet() + transport + 2)));
  out_.emit(EventType::routing_loop, {where});
}

void InnerSealer::seal(inner::Segmentation& segments) {
  const inner::IpView& ip = segments.ip();
  session::Peer* peer = shared_.sessions->routes().lookup(ip.family, ip.destination);
  if (peer == nullptr) {
    counters_.add(Counter::drop_no_route, segments.count());
    if (error_budget_.take(now_))
      answer(inner::icmp_unreachable(ip, segments.packet()), Counter::unreachable_sent);
    return;
  }
  session::Keypair* keypair = peer->sending();
  const session::Endpoint endpoint = peer->endpoint();
  if (keypair == nullptr || keypair->expired(now_) || !endpoint.known()) return stage(*peer, segments);
  const session::PathSet* paths = peer->paths.load(std::memory_order_acquire);
  if (paths != nullptr && segments.size(0) > paths->inner_limit() &&
      !shortened(segments, paths->inner_limit())) [[unlikely]]
    return;
  if (paths != nullptr && paths->splits() && keypair->window() > session::kStandardWindow) [[unlikely]]
    return seal_split(*keypair, endpoint, *paths, segments);
  for (size_t first = 0; first < segments.count(); first += kJobs)
    seal_segments(*keypair, endpoint, paths, segments, first);
}

/// Several paths at once. What is read from the inside together goes by one of them, up to kSplitBurst bytes:
/// it stays in its order, and shares messages to the kernel. What has waited goes by the path whose ceiling
/// it waited for.
void InnerSealer::seal_split(session::Keypair& keypair, const session::Endpoint& endpoint,
                             const session::PathSet& paths, const inner::Segmentation& segments) {
  for (size_t first = 0; first < segments.count(); first += kJobs) {
    if (releasing_) {
      seal_segments(keypair, endpoint, &paths, segments, first);
      continue;
    }
    const size_t bytes = std::min(kJobs, segments.count() - first) * segments.size(first);
    if (burst_.paths != &paths || burst_.bytes >= kSplitBurst)
      burst_ = {&paths, &paths.split(bytes), 0};
    else
      burst_.path->use->split.fetch_add((static_cast<uint64_t>(bytes) << 10) / burst_.path->share,
                                        std::memory_order_relaxed);
    burst_.bytes += bytes;
    seal_segments(keypair, burst_.path->ends, &paths, segments, first);
  }
}

/// Packets longer than the peer's path has room for. A TCP super-packet is split into shorter segments, an
/// IPv4 packet that may be is fragmented, and so is what IPv6 sends without asking (RFC 8200 5); of all else
/// the sender is told how long it may be.
/// @returns whether `segments` are to be sealed; if not, they have been dealt with.
bool InnerSealer::shortened(inner::Segmentation& segments, size_t limit) {
  const bool v6 = segments.ip().family == 6;
  const size_t mtu = v6 ? std::max(limit, kLeastMtu6) : limit;
  if (segments.limit(limit)) return true;
  std::vector<uint8_t> packet;
  const auto write = [&](size_t index) {
    packet.resize(segments.size(index));
    segments.write(index, packet.data());
    return inner::parse_ip(packet.data(), packet.size());
  };
  if (v6 ? segments.size(0) > mtu : inner::dont_fragment(segments.ip(), segments.packet())) {
    counters_.add(Counter::drop_too_big, segments.count());
    if (!error_budget_.take(now_)) return false;
    const inner::IpView first = write(0);
    answer(inner::icmp_too_big(first, packet.data(), mtu), Counter::too_big_sent);
    return false;
  }
  counters_.add(Counter::inner_packets_fragmented, segments.count());
  for (size_t i = 0; i < segments.count(); i++) {
    const inner::IpView ip = write(i);
    for (std::vector<uint8_t>& fragment : v6 ? inner::fragment6(ip, packet.data(), limit, fragmented_++)
                                             : inner::fragment4(ip, packet.data(), limit)) {
      inner::Segmentation piece(inner::VirtioNetHeader{}, fragment.data(), fragment.size());
      seal(piece);
    }
  }
  return false;
}

/// They wait for a session.
void InnerSealer::stage(session::Peer& peer, const inner::Segmentation& segments) {
  std::vector<uint8_t> packet;
  for (size_t i = 0; i < segments.count(); i++) {
    packet.resize(segments.size(i));
    segments.write(i, packet.data());
    counters_.add(Counter::staged_packets);
    counters_.add(Counter::drop_staging_overflow, shared_.sessions->stage(peer, packet, now_, out_));
  }
}

/// Tells the inner host what became of its packet.
void InnerSealer::answer(const std::vector<uint8_t>& error, Counter counter) {
  if (error.empty()) return;
  counters_.add(port_.send_one(error.data(), error.size()) ? counter : Counter::drop_tun_write);
}

/// Lets an initiation ride with the message begun for a suspicious peer, if that is wanted and possible.
void InnerSealer::probe_gso(session::Peer& peer, const session::Endpoint& endpoint, size_t prefix,
                            uint8_t ecn) {
  if (!out_.would_join(endpoint, prefix + sizeof(session::Initiation), ecn) ||
      !shared_.gso_probe.take(peer.remote.public_key, now_))
    return;
  out_.override_traffic_class(ecn);
  const uint64_t joined = out_.joined();
  shared_.sessions->start_handshake(peer.remote.public_key, now_, out_);
  if (out_.joined() != joined) shared_.gso_probe.rode(now_);
  out_.override_traffic_class(std::nullopt);
}

/// While the peer's active path is silent, the same messages go by its standby. They are copied: the two may
/// be framed differently.
void InnerSealer::duplicate(const session::PathSet& paths, uint8_t* const* starts, size_t count,
                            size_t prefix, uint8_t ecn) {
  const session::PathSet::Path* standby = paths.duplicates_by();
  if (standby == nullptr) return;
  for (size_t i = 0; i < count; i++) {
    const Bytes message(starts[i] + prefix, starts[i + 1]);
    out_.send(standby->ends, message, ecn);
    standby->use->sent(1, message.size());
  }
  counters_.add(Counter::path_duplicates_sent, count);
}

void InnerSealer::release(std::vector<uint8_t>& packet, Nanoseconds now) {
  now_ = now;
  inner::Segmentation segments(inner::VirtioNetHeader{}, packet.data(), packet.size());
  releasing_ = true;
  seal(segments);
  releasing_ = false;
}

/// Whether segments have to wait for their turn; they are kept then.
bool InnerSealer::waits(const session::Shaping& shaping, const session::Endpoint& endpoint,
                        const inner::Segmentation& segments, size_t first, size_t count, size_t inner_mtu) {
  if (releasing_ || !shaping.settings.queued) return false;
  const size_t framing = session::kTransportOverhead + session::framing_of(endpoint);
  const auto cost_of = [&](size_t i) {
    return Egress::cost_of(endpoint, framing + shaping.text_size(segments.size(i), inner_mtu));
  };
  size_t cost = 0;
  for (size_t i = first; i < first + count; i++) cost += cost_of(i);
  if (shared_.egress.pass(shaping.settings.peer, endpoint, cost, now_)) return false;
  std::vector<Waiting> packets(count);
  for (size_t i = 0; i < count; i++) {
    packets[i] = {std::vector<uint8_t>(segments.size(first + i)), cost_of(first + i), now_};
    segments.write(first + i, packets[i].packet.data());
  }
  counters_.add(Counter::queued_packets, count);
  counters_.add(Counter::drop_queue_full,
                shared_.egress.push(shaping.settings.peer, endpoint, std::move(packets), now_));
  return true;
}

/// Whether segments are to be padded, and there is budget for it.
bool InnerSealer::pays(const session::Shaping& shaping, const inner::Segmentation& segments, size_t first,
                       size_t count, size_t longest) {
  size_t data = 0, padding = 0;
  for (size_t i = first; i < first + count; i++) {
    const size_t standard = session::padded_size(segments.size(i), longest);
    data += standard;
    padding += shaping.text_size(segments.size(i), longest) - standard;
  }
  const bool enough = shaping.afford(count, data, padding);
  if (!enough) counters_.add(Counter::padding_over_budget, count);
  return enough;
}

void InnerSealer::seal_segments(session::Keypair& keypair, const session::Endpoint& endpoint,
                                const session::PathSet* paths, const inner::Segmentation& segments,
                                size_t first) {
  const size_t wanted = std::min(kJobs, segments.count() - first);
  size_t inner_mtu = shared_.inner_mtu.load(std::memory_order_relaxed);
  if (paths != nullptr) [[unlikely]]
    inner_mtu = std::min(inner_mtu, paths->inner_limit());
  const session::Shaping* padding = nullptr;
  size_t longest = inner_mtu;  // that padding makes a packet
  uint8_t shown = kEcnMask;    // of its ECN field
  if (const session::Shaping* shaping = keypair.peer.shaping.load(std::memory_order_acquire);
      shaping != nullptr) [[unlikely]] {
    if (waits(*shaping, endpoint, segments, first, wanted, inner_mtu)) return;
    if (paths != nullptr) longest = std::min(longest, paths->padding_limit());
    if (pays(*shaping, segments, first, wanted, longest)) padding = shaping;
    // Covers do not take part in ECN, so what they cover does not show it.
    if (shaping->settings.covered) shown = kNotEct;
  }
  const session::CounterRange taken = keypair.take_counters(wanted, now_);
  if (taken.count == 0) return;
  const size_t prefix = endpoint.relayed() ? OMERTA_FRAME_HEADER_SIZE : 0;
  // Datagrams lie back to back in the arena: that is what makes them one GSO message.
  crypto::AeadJob jobs[kJobs];
  uint8_t* starts[kJobs + 1];
  starts[0] = out_.arena(kArenaReserve);
  const auto write = [&](const auto& lengthen) {
    for (size_t i = 0; i < taken.count; i++) {
      jobs[i] =
          session::write_transport(starts[i] + prefix, keypair, taken.first + i, segments.size(first + i),
                                   inner_mtu, [&](uint8_t* text) { segments.write(first + i, text); });
      lengthen(jobs[i], i);
      starts[i + 1] = jobs[i].text + jobs[i].size + crypto::kAeadTagSize;
    }
  };
  if (padding == nullptr) [[likely]]
    write([](const crypto::AeadJob&, size_t) {});
  else
    write([&](crypto::AeadJob& job, size_t i) {
      session::pad_to(job, padding->text_size(segments.size(first + i), longest));
    });
  out_.arena_used_to(starts[taken.count]);
  aead_.seal(std::span(jobs, taken.count));
  bool sealed = true;
  for (size_t i = 0; i < taken.count; i++) sealed &= jobs[i].ok;
  if (endpoint.relayed())
    for (size_t i = 0; i < taken.count; i++)
      write_frame_header(starts[i], static_cast<size_t>(starts[i + 1] - starts[i]), endpoint);
  if (!sealed) return counters_.add(Counter::drop_seal_failed, taken.count);
  const auto bytes = static_cast<size_t>(starts[taken.count] - starts[0]);
  const size_t segment = static_cast<size_t>(starts[1] - starts[0]);
  const uint8_t ecn = ecn_of(segments.packet()) & shown;
  const uint64_t joined = out_.joined();
  session::BurstWatch& bursts = keypair.peer.bursts;
  const bool alone = bursts.alone(now_);
  // A probe rides before the last datagram, which may be shorter and close the message.
  const size_t head = bursts.suspicious() && !alone
                          ? bytes - static_cast<size_t>(starts[taken.count] - starts[taken.count - 1])
                          : bytes;
  if (alone) [[unlikely]]
    out_.append_alone(endpoint.remote, endpoint.local, starts[0], bytes, segment, ecn);
  else if (head != 0)
    out_.append(endpoint.remote, endpoint.local, starts[0], head, segment, ecn);
  if (head != bytes) {
    probe_gso(keypair.peer, endpoint, prefix, ecn);
    out_.append(endpoint.remote, endpoint.local, starts[taken.count - 1], bytes - head, bytes - head, ecn);
  }
  if (out_.joined() != joined) bursts.sent(now_);
  counters_.add(Counter::transport_sent, taken.count);
  out_.count_sent(endpoint, taken.count, bytes);
  bool by_active = true;
  if (paths != nullptr) [[unlikely]] {
    if (paths->splits())
      by_active = paths->sent_by(endpoint, taken.count, bytes - taken.count * prefix);
    else
      paths->sent(taken.count, bytes - taken.count * prefix);
    if (by_active) duplicate(*paths, starts, taken.count, prefix, ecn);
  }
  shared_.sessions->data_sent(keypair, bytes - taken.count * prefix, now_, out_, by_active);
}

}  // namespace omerta::engine
