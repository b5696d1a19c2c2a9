// SPDX-License-Identifier: Apache-2.0
#include "engine/shared.h"

#include <sodium.h>
#include <time.h>

#include <algorithm>

#include "common/bytes.h"
#include "common/clock.h"
#include "udp/sole_addresses.h"

namespace omerta::engine {
namespace {

/// Strangers whose requests may wait for their answers at one time.
constexpr size_t kStrangers = 4096;

/// TAI64N (cr.yp.to/libtai/tai64.html) with the low 24 bits of the nanoseconds cleared, so that a
/// handshake does not tell the exact clock: steps of 16.8 ms.
session::Timestamp tai64n_now() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  session::Timestamp stamp;
  store(stamp.data(), __builtin_bswap64(0x400000000000000aULL + static_cast<uint64_t>(t.tv_sec)));
  store(stamp.data() + 8, __builtin_bswap32(static_cast<uint32_t>(t.tv_nsec) & ~uint32_t{0xffffff}));
  return stamp;
}

uint64_t random_word() {
  uint64_t word = 0;
  random_bytes(std::span(reinterpret_cast<uint8_t*>(&word), sizeof word));
  return word;
}

/// A node's own circuits, on whose legs it counts what it sends. A relay has many more legs, but of others.
constexpr size_t kMaxCountedWaysBack = 8192;
/// Remotes of peers that are given room, beside those of the legs. It is for frames outside a session, which
/// keeps its own source address.
constexpr size_t kMaxPeersRemembered = 16384;

/// Suites to offer peers inside a session; 0: neither AES-256-GCM nor a wide window is to be had, and every
/// session has ChaCha20-Poly1305 from its handshake.
uint8_t offered_suites(const EngineSettings& settings, const crypto::AeadChoice& aead) {
  const bool gcm = aead.of(crypto::Suite::aes_256_gcm).available;
  if (!gcm && !settings.wide_window) return 0;
  return static_cast<uint8_t>(session::suite_bit(crypto::Suite::chacha20_poly1305) |
                              (gcm ? session::suite_bit(crypto::Suite::aes_256_gcm) : 0));
}

Nanoseconds wall_clock() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<Nanoseconds>(t.tv_sec) * kSecond + static_cast<Nanoseconds>(t.tv_nsec);
}
}  // namespace

void random_bytes(std::span<uint8_t> out) { randombytes_buf(out.data(), out.size()); }

Shared::Shared(const EngineSettings& settings, size_t workers)
    : counters(new CounterRow[workers + 1]),
      instruments(new Instruments[workers]),
      aead(crypto::choose_aead({settings.ipsec_mb, settings.aes_256_gcm})),
      interfaces(settings.fwmark),
      egress([this](Nanoseconds moment) { egress_alarm.set(moment); },
             [this](const session::Endpoint& to) { return interfaces.of(to); }),
      sessions(std::make_unique<session::SessionTable>(
          settings.private_key, settings.max_peers, workers,
          session::SessionEnvironment{random_bytes, tai64n_now, aead, offered_suites(settings, aead),
                                      settings.wide_window ? session::kWideWindow : session::kStandardWindow,
                                      wall_clock, [this](Nanoseconds moment) { path_alarm.set(moment); },
                                      settings.peer_control_frames_per_second})),
      legs(settings.max_legs, settings.accounts,
           workers == 1 ? relay::ForwardingTable::Workers::one : relay::ForwardingTable::Workers::several),
      sent(std::min(std::max<size_t>(settings.max_legs, 1), kMaxCountedWaysBack)),
      wireguard(settings.wireguard_sessions, random_bytes, {{random_word(), random_word()}}),
      refusals(settings.max_legs),
      stranger_budgets(settings.control_frames_per_second, settings.stun_per_second),
      host_shares(legs.accounts()),
      inner_mtu(settings.tun.has_value()     ? static_cast<size_t>(settings.tun->mtu)
                : settings.stack.has_value() ? settings.stack->mtu
                : settings.guest.has_value() ? settings.guest->mtu
                                             : 65535),
      io(udp::choose_io(settings.io)),
      accelerators({settings.gro, settings.gso, settings.tun_checksum_offload, settings.tun_tcp_offload,
                    settings.tun_udp_offload},
                   settings.tun.has_value()),
      proven_remotes(settings.max_legs + std::min(settings.max_peers, kMaxPeersRemembered),
                     {random_word(), random_word()}),
      strangers(kStrangers, {random_word(), random_word()}) {
  if (io.kind == udp::IoKind::io_uring) accelerators.set_on(Accelerator::io_uring, io.reason);
  // What is joined for our own stack, no kernel has to know.
  if (settings.stack.has_value())
    for (const Accelerator each : {Accelerator::tun_tcp, Accelerator::tun_udp})
      accelerators.set_on(each, {"our-own-stack", {}});
  if (aead.ipsec_mb()) accelerators.set_on(Accelerator::ipsec_mb, aead.ipsec_mb_reason);
  legs.accounts().set_prefix_key(random_word());
  proven_remotes.set_sole(udp::sole_addresses());
  proven_remotes.prepare();
  strangers.prepare();
}

}  // namespace omerta::engine
