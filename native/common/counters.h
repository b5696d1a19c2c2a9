// SPDX-License-Identifier: Apache-2.0
// Every counter of the engine, registered here once. Each worker owns a row and is its only writer,
// so counting is a plain add; readers (TypeScript, over shared memory) sum the rows.
#pragma once

#include <omerta/wire.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace omerta {

#define OMERTA_COUNTERS(X)          \
  X(rx_datagrams)                   \
  X(rx_bytes)                       \
  X(rx_batches)                     \
  X(tx_datagrams)                   \
  X(tx_bytes)                       \
  X(tx_batches)                     \
  X(tx_errors)                      \
  X(tx_over_path_mtu)               \
  X(tx_zero_copy)                   \
  X(tx_zero_copy_copied)            \
  X(forwarded_packets)              \
  X(forwarded_bytes)                \
  X(delivered_packets)              \
  X(control_frames)                 \
  X(control_messages)               \
  X(pings_answered)                 \
  X(stun_answered)                  \
  X(handshake_initiations_received) \
  X(handshake_initiations_sent)     \
  X(handshake_responses_received)   \
  X(handshake_responses_sent)       \
  X(cookie_replies_received)        \
  X(cookie_replies_sent)            \
  X(handshakes_completed)           \
  X(handshakes_crossed)             \
  X(transport_received)             \
  X(transport_sent)                 \
  X(keepalives_received)            \
  X(keepalives_sent)                \
  X(endpoint_changes)               \
  X(tun_rx_packets)                 \
  X(tun_rx_bytes)                   \
  X(tun_rx_reads)                   \
  X(tun_tx_packets)                 \
  X(tun_tx_bytes)                   \
  X(tun_tx_writes)                  \
  X(guest_passed)                   \
  X(guest_answered)                 \
  X(guest_noise)                    \
  X(staged_packets)                 \
  X(suite_offers_sent)              \
  X(suite_offers_received)          \
  X(suites_settled)                 \
  X(suites_given_up)                \
  X(unreachable_sent)               \
  X(too_big_sent)                   \
  X(inner_packets_fragmented)       \
  X(accelerators_demoted)           \
  X(accelerators_restored)          \
  X(gso_demoted_for_peers)          \
  X(path_probes_sent)               \
  X(path_probes_answered)           \
  X(path_duplicates_sent)           \
  X(padding_over_budget)            \
  X(queued_packets)                 \
  X(queue_marked)                   \
  X(covers_sent)                    \
  X(covers_received)                \
  X(events_queued)                  \
  X(drop_receive_queue)             \
  X(drop_send_queue)                \
  X(drop_send_too_big)              \
  X(drop_send_no_route)             \
  X(drop_send_failed)               \
  X(drop_control_rate)              \
  X(drop_peer_control_rate)         \
  X(drop_stun_rate)                 \
  X(drop_handshake_rate)            \
  X(drop_bad_mac1)                  \
  X(drop_unknown_peer)              \
  X(drop_unknown_index)             \
  X(drop_bad_handshake)             \
  X(drop_replayed_initiation)       \
  X(drop_decrypt_failed)            \
  X(drop_replayed)                  \
  X(drop_key_expired)               \
  X(drop_inner_malformed)           \
  X(drop_inner_source)              \
  X(drop_inner_ecn)                 \
  X(drop_no_exit_right)             \
  X(drop_exit_denied)               \
  X(drop_no_route)                  \
  X(drop_too_big)                   \
  X(drop_routing_loop)              \
  X(drop_no_tun)                    \
  X(drop_seal_failed)               \
  X(drop_staging_overflow)          \
  X(drop_tun_write)                 \
  X(drop_guest_malformed)           \
  X(drop_guest_oversized)           \
  X(drop_guest_fragment)            \
  X(drop_guest_spoofed_mac)         \
  X(drop_guest_spoofed_ip)          \
  X(drop_guest_other_station)       \
  X(drop_guest_other_type)          \
  X(drop_guest_arp_scan)            \
  X(drop_guest_neighbour_scan)      \
  X(drop_guest_dhcp)                \
  X(drop_guest_router)              \
  X(drop_guest_gateway)             \
  X(drop_guest_multicast)           \
  X(drop_guest_not_its_own)         \
  X(drop_event_ring_full)           \
  X(drop_path_frame)                \
  X(drop_path_rate)                 \
  X(drop_probe_unsent)              \
  X(drop_queue_full)                \
  X(drop_queue_late)                \
  X(wireguard_relayed_packets)      \
  X(wireguard_relayed_bytes)        \
  X(wireguard_relayed_handshakes)   \
  X(wireguard_cookies_sent)         \
  X(drop_wireguard_rate)            \
  X(drop_wireguard_half_open)       \
  X(drop_wireguard_sessions)        \
  X(drop_wireguard_unproven)        \
  X(drop_wireguard_index)

enum class Counter : size_t {
#define OMERTA_X(name) name,
  OMERTA_COUNTERS(OMERTA_X)
#undef OMERTA_X
      kDropReasons,
};

inline constexpr size_t kCounterCount = static_cast<size_t>(Counter::kDropReasons) + OMERTA_DROP_REASON_COUNT;

/// Names in row order; the verdict table's drop reasons follow as `drop_<reason>`.
inline constexpr std::array<std::string_view, kCounterCount> kCounterNames = {
#define OMERTA_X(name) #name,
    OMERTA_COUNTERS(OMERTA_X)
#undef OMERTA_X
#define OMERTA_X(upper, lower) "drop_" #lower,
        OMERTA_DROP_REASONS(OMERTA_X)
#undef OMERTA_X
};

class alignas(64) CounterRow {
 public:
  void add(Counter counter, uint64_t n = 1) { add(static_cast<size_t>(counter), n); }
  void drop(uint8_t reason) { add(static_cast<size_t>(Counter::kDropReasons) + reason, 1); }
  uint64_t get(Counter counter) const {
    return values_[static_cast<size_t>(counter)].load(std::memory_order_relaxed);
  }
  const void* data() const { return values_.data(); }

 private:
  // One writer: a relaxed load and store compile to a plain add, without the lock prefix.
  void add(size_t index, uint64_t n) {
    values_[index].store(values_[index].load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  std::array<std::atomic<uint64_t>, kCounterCount> values_{};
};

}  // namespace omerta
