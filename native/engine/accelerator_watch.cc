// SPDX-License-Identifier: Apache-2.0
#include "engine/accelerator_watch.h"

#include <utility>

#include "inner/segmentation.h"

namespace omerta::engine {
namespace {

/// How often what seals and opens has to produce known answers.
constexpr Nanoseconds kAeadCheckInterval = kSecond;
/// Super-packets with impossible headers until no more are asked for.
constexpr size_t kWrongSuperPackets = 8;
/// Good datagrams that wait until the watch of all workers is told, when nothing is bad.
constexpr uint64_t kGoodToldAtOnce = 256;

Bytes bytes_of(const std::string& text) {
  return Bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size());
}

/// Name, and for one that was demoted why.
void tell(EventOutput& out, EventType type, Accelerator accelerator, std::string_view why = {}) {
  std::string text(Accelerators::name(accelerator));
  if (!why.empty()) text.append("\n").append(why);
  const auto length = static_cast<uint32_t>(text.size());
  out.emit(type, {Bytes(reinterpret_cast<const uint8_t*>(&length), 4), bytes_of(text)});
}

}  // namespace

void AcceleratorWatch::check(Nanoseconds now) {
  const Accelerators& accelerators = shared_.accelerators;
  if (socket_.gso_refused() && accelerators.on(Accelerator::udp_gso))
    demote(Accelerator::udp_gso, Fault::refused);
  socket_.pause_gso(!accelerators.on(Accelerator::udp_gso));
  check_gro(now);
  if (coalescing_ == nullptr) return;
  if (!coalescing_->tcp() && accelerators.on(Accelerator::tun_tcp))
    demote(Accelerator::tun_tcp, Fault::refused);
  if (!coalescing_->udp() && accelerators.on(Accelerator::tun_udp))
    demote(Accelerator::tun_udp, Fault::refused);
  if (!accelerators.on(Accelerator::tun_tcp)) coalescing_->give_up_tcp();
  if (!accelerators.on(Accelerator::tun_udp)) coalescing_->give_up_udp();
}

void AcceleratorWatch::check_gro(Nanoseconds now) {
  udp::GroWatch& watch = shared_.gro_watch;
  const bool due = watch.due(now);
  if (due || good_together_ + good_alone_ >= kGoodToldAtOnce) {
    if (good_together_ != 0) watch.good(true, std::exchange(good_together_, 0));
    if (good_alone_ != 0) watch.good(false, std::exchange(good_alone_, 0));
  }
  if (!due) return;
  switch (watch.tick(now, shared_.sessions->size())) {
    case udp::GroWatch::Action::none:
      break;
    case udp::GroWatch::Action::turn_off:
      set_gro(false);
      break;
    case udp::GroWatch::Action::turn_on:
      set_gro(shared_.accelerators.on(Accelerator::udp_gro));
      break;
    case udp::GroWatch::Action::give_up:
      demote(Accelerator::udp_gro, Fault::corrupted);
      break;
    case udp::GroWatch::Action::restore:
      restore(Accelerator::udp_gro, Fault::corrupted);
      set_gro(shared_.accelerators.on(Accelerator::udp_gro));
      break;
  }
}

void AcceleratorWatch::check_aead(Nanoseconds now) {
  if (!ipsec_mb_) return;
  if (now >= next_aead_check_) {
    next_aead_check_ = now + kAeadCheckInterval;
    if (!aead_.passes_spot_check()) {
      demote(Accelerator::ipsec_mb, Fault::corrupted);
      shared_.sessions->use_aead(shared_.aead.without_ipsec_mb());
    }
  }
  if (shared_.accelerators.on(Accelerator::ipsec_mb)) return;
  aead_ = crypto::Aead(shared_.aead.without_ipsec_mb());
  ipsec_mb_ = false;
}

/// For every worker: the kernel coalesces before it knows which of the sockets of a port gets a datagram.
void AcceleratorWatch::set_gro(bool on) {
  for (udp::UdpSocket* socket : shared_.sockets) socket->set_gro(on);
}

void AcceleratorWatch::demote(Accelerator accelerator, Fault fault) {
  Accelerators& accelerators = shared_.accelerators;
  if (!accelerators.demote(accelerator, fault)) return;
  out_.counters().add(Counter::accelerators_demoted);
  tell(out_, EventType::accelerator_demoted, accelerator, Accelerators::name(fault));
  if (port_ != nullptr)
    port_->set_offloads({accelerators.on(Accelerator::tun_checksum), accelerators.on(Accelerator::tun_tcp),
                         accelerators.on(Accelerator::tun_udp)});
}

void AcceleratorWatch::restore(Accelerator accelerator, Fault fault) {
  if (!shared_.accelerators.restore(accelerator, fault)) return;
  out_.counters().add(Counter::accelerators_restored);
  tell(out_, EventType::accelerator_restored, accelerator);
}

void AcceleratorWatch::demoted_for_peer() {
  out_.counters().add(Counter::gso_demoted_for_peers);
  tell(out_, EventType::accelerator_demoted, Accelerator::udp_gso, "lost-to-peer");
}

void AcceleratorWatch::malformed(const inner::VirtioNetHeader& header) {
  out_.counters().add(Counter::drop_inner_malformed);
  const uint8_t protocol = inner::Segmentation::super_packet_protocol(header);
  if (protocol != 0 && ++wrong_super_packets_ >= kWrongSuperPackets)
    demote(protocol == inner::kTcp ? Accelerator::tun_tcp : Accelerator::tun_udp, Fault::wrong_header);
}

}  // namespace omerta::engine
