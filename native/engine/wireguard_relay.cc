// SPDX-License-Identifier: Apache-2.0
#include "engine/wireguard_relay.h"

namespace omerta::engine {

bool WireguardRelay::handshake(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn,
                               Nanoseconds now) {
  const auto own = [this](uint32_t index) { return shared_.sessions->find(index) != nullptr; };
  session::CookieReply reply;
  const relay::WireguardTable::Result result =
      shared_.wireguard.handshake(Bytes(data, size), from, now, own, reply);
  if (result.verdict == relay::WireguardTable::Verdict::cookie) {
    counters_.add(Counter::wireguard_cookies_sent);
    out_.send(from, Bytes(reinterpret_cast<const uint8_t*>(&reply), sizeof reply), 0);
    return true;
  }
  if (result.verdict == relay::WireguardTable::Verdict::forward)
    counters_.add(Counter::wireguard_relayed_handshakes);
  return carry_out(result, data, size, ecn);
}

bool WireguardRelay::transport(uint8_t* data, size_t size, const session::Endpoint& from, uint8_t ecn,
                               Nanoseconds now) {
  const auto index = load<uint32_t>(data + 4);
  return carry_out(shared_.wireguard.transport(index, size, from, now, shared_.legs.accounts()), data, size,
                   ecn);
}

bool WireguardRelay::carry_out(const relay::WireguardTable::Result& result, uint8_t* data, size_t size,
                               uint8_t ecn) {
  using Verdict = relay::WireguardTable::Verdict;
  switch (result.verdict) {
    case Verdict::not_ours:
    case Verdict::cookie:
      return false;
    case Verdict::forward:
      counters_.add(Counter::wireguard_relayed_packets);
      counters_.add(Counter::wireguard_relayed_bytes, size);
      out_.append(result.to.remote, result.to.local, data, size, size, ecn);
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

}  // namespace omerta::engine
