// SPDX-License-Identifier: Apache-2.0
#include "engine/accelerator_watch.h"

#include "inner/segmentation.h"

namespace omerta::engine {
namespace {

/// How often what seals and opens has to produce known answers.
constexpr Nanoseconds kAeadCheckInterval = kSecond;
/// Super-packets with impossible headers until no more are asked for.
constexpr size_t kWrongSuperPackets = 8;

}  // namespace

void AcceleratorWatch::check(Nanoseconds now) {
  const Offloads& offloads = shared_.offloads;
  check_aead(now);
  if (socket_.gso() && !offloads.on(Offload::udp_gso)) socket_.give_up_gso();
  if (!socket_.gso() && offloads.on(Offload::udp_gso)) demote(Offload::udp_gso, Fault::refused);
  switch (gro_.tick(now)) {
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
  if (coalescing_ == nullptr) return;
  if (!coalescing_->tcp() && offloads.on(Offload::tun_tcp)) demote(Offload::tun_tcp, Fault::refused);
  if (!coalescing_->udp() && offloads.on(Offload::tun_udp)) demote(Offload::tun_udp, Fault::refused);
  if (!offloads.on(Offload::tun_tcp)) coalescing_->give_up_tcp();
  if (!offloads.on(Offload::tun_udp)) coalescing_->give_up_udp();
}

void AcceleratorWatch::check_aead(Nanoseconds now) {
  if (!ipsec_mb_) return;
  if (now >= next_aead_check_) {
    next_aead_check_ = now + kAeadCheckInterval;
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
void AcceleratorWatch::set_gro(bool on) {
  for (udp::UdpSocket* socket : shared_.sockets) socket->set_gro(on);
}

void AcceleratorWatch::demote(Offload offload, Fault fault) {
  Offloads& offloads = shared_.offloads;
  if (!offloads.demote(offload, fault)) return;
  out_.counters().add(Counter::offloads_demoted);
  const std::string text = std::string(Offloads::name(offload)) + '\n' + offloads.reason(offload);
  const auto length = static_cast<uint32_t>(text.size());
  out_.emit(EventType::offload_demoted, {Bytes(reinterpret_cast<const uint8_t*>(&length), 4),
                                         Bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size())});
  if (port_ != nullptr)
    port_->set_offloads(
        {offloads.on(Offload::tun_checksum), offloads.on(Offload::tun_tcp), offloads.on(Offload::tun_udp)});
}

void AcceleratorWatch::malformed(const inner::VirtioNetHeader& header) {
  out_.counters().add(Counter::drop_inner_malformed);
  const uint8_t protocol = inner::Segmentation::super_packet_protocol(header);
  if (protocol != 0 && ++wrong_super_packets_ >= kWrongSuperPackets)
    demote(protocol == inner::kTcp ? Offload::tun_tcp : Offload::tun_udp, Fault::wrong_header);
}

}  // namespace omerta::engine
