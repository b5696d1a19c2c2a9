// SPDX-License-Identifier: Apache-2.0
// judge_batch (native/test/judge_batch.cc) with the XDP relay in front of the forwarding table, as in
// the daemon: what XDP passes goes to the table. How test/wire/agreement.test.ts compares the two
// together with the engines that do it alone.
//
// Every datagram comes in a packet, and every packet XDP sends on has to be, byte for byte, the one
// built from scratch around the frame it carries: else the outcome is one that no engine gives.
#include <map>
#include <set>

#include "bpf_relay.h"
#include "relay/forwarding_table.h"
#include "test/batch.h"

using namespace omerta;
using namespace omerta::xdp;

namespace {

/// The kernel path and the socket engine behind it.
class Pair {
 public:
  Pair() { table_.share_accounts(kernel_.account_memory()); }

  relay::Accounts& accounts() { return table_.accounts(); }
  bool install(const omerta_leg& leg) {
    if (!table_.install(leg)) return false;
    missing_[leg.leg_id] = leg;
    install_missing();
    return true;
  }
  bool remove(uint32_t id) {
    if (!table_.remove(id)) return false;
    kernel_.remove(id);
    missing_.erase(id);
    judged_above_.erase(id);
    install_missing();
    return true;
  }

  relay::Decision judge_datagram(const omerta_address& from, std::vector<uint8_t>& datagram, uint64_t now) {
    omerta_leg leg;
    if (datagram.size() >= 8 && table_.find(omerta_load32(&datagram[4]), leg)) {
      kernel_.remember_way(leg);
      if (missing_.contains(leg.leg_id)) judged_above_.insert(leg.leg_id);
    }
    const Headers headers = arriving(from);
    const RunResult result = kernel_.program().run(packet_of(headers, datagram), now);
    if (result.action == XDP_PASS)
      return table_.judge_datagram(from, datagram.data(), static_cast<uint32_t>(datagram.size()), now);
    return result.action == XDP_TX ? forwarded(headers, result.packet, datagram) : dropped();
  }

  batch::Counters counters(uint32_t id) const {
    omerta_leg above;
    if (!table_.find(id, above)) return {};
    const omerta_leg below = kernel_.find(id).value_or(omerta_leg{});
    return {above.packets + below.packets, above.bytes + below.bytes,
            std::max(above.last_used, below.last_used)};
  }

 private:
  /// As XdpRelay does it: those without a place near their homes are the table's until there is one. Here one
  /// that was judged there stays: a leg's window (omerta/leg_window.h) is in one of the two.
  void install_missing() {
    std::erase_if(missing_, [this](const auto& each) {
      return !judged_above_.contains(each.first) && kernel_.try_install(each.second);
    });
    kernel_.program().settings().complete = missing_.empty() ? 1 : 0;
  }
  /// Dropped for no reason: no engine says that.
  static relay::Decision wrong() { return {}; }

  relay::Decision forwarded(const Headers& before, const Packet& packet, std::vector<uint8_t>& datagram) {
    relay::Decision decision;
    decision.verdict = OMERTA_FORWARD;
    decision.leg_id = omerta_load32(&datagram[4]);
    omerta_leg leg;
    if (!table_.find(decision.leg_id, leg)) return wrong();
    std::memcpy(decision.next.ip, leg.next_ip, 16);
    decision.next.port = leg.next_port;
    const size_t payload = udp_offset(decision.next) + kUdpSize;
    if (packet.size() != payload + datagram.size()) return wrong();
    std::memcpy(datagram.data(), &packet[payload], datagram.size());
    return packet == packet_of(leaving(before, decision.next), datagram) ? decision : wrong();
  }

  /// The reason is the counter that went up by one.
  relay::Decision dropped() {
    const omerta_xdp_counters now = kernel_.program().counters();
    relay::Decision decision = wrong();
    for (uint8_t reason = 0; reason < OMERTA_DROP_REASON_COUNT; reason++) {
      if (now.drops[reason] == seen_.drops[reason]) continue;
      if (decision.reason != OMERTA_DROP_NONE || now.drops[reason] != seen_.drops[reason] + 1) return wrong();
      decision.reason = static_cast<omerta_drop_reason>(reason);
    }
    seen_ = now;
    return decision;
  }

  BpfRelay kernel_;  // the table charges its accounts
  relay::ForwardingTable table_{batch::kLegs, batch::kAccounts};
  omerta_xdp_counters seen_{};
  std::map<uint32_t, omerta_leg> missing_;
  std::set<uint32_t> judged_above_;  ///< of those
};

}  // namespace

int main() {
  try {
    Pair pair;
    return batch::run(pair);
  } catch (const XdpError& error) {
    std::fprintf(stderr, "judge_bpf_batch: %s\n", error.what());
    return error.code() == XdpError::Code::load_refused ? kSkipped : 1;
  }
}
