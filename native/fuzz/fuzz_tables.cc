// SPDX-License-Identifier: Apache-2.0
// Operations on the forwarding table and its accounts, as the control plane and datagrams cause them, against
// a model of maps and sums that knows nothing of slots, homes and sequence words.
//
// input: operations, each an opcode u8 and its operands; ids are of 16 values that share homes
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "fuzz/fuzz_input.h"
#include "relay/forwarding_table.h"

using namespace omerta;
using omerta::fuzz::require;

namespace {

constexpr size_t kCapacity = 6;
constexpr size_t kIdentities = 3, kNetworks = 2, kClasses = 3;

/// Ids whose homes collide: the table has six slots, and half of the ids lie in one of them.
uint32_t id_of(uint8_t operand) {
  const uint32_t n = operand & 15;
  return n < 8 ? 1 + n : 0x10000000u * n + n;
}

omerta_address source_of(uint8_t operand) {
  omerta_address address{};
  if (operand & 1) address.ip[10] = address.ip[11] = 0xff;
  address.ip[15] = static_cast<uint8_t>(operand & 3);
  address.port = 7;
  return address;
}

/// What a leg is in the model.
struct Leg {
  omerta_leg settings{};
  uint64_t packets = 0;
  uint64_t bytes = 0;
  std::set<uint64_t> seen{};  ///< counters of transport messages; all are of one session
};
struct Sum {
  uint64_t packets = 0;
  uint64_t bytes = 0;
};

/// Everything that can be told by counting.
struct Model {
  std::map<uint32_t, Leg> legs;
  std::array<Sum, kIdentities> identities{};
  std::array<Sum, kNetworks> networks{};
  std::array<uint64_t, kClasses> byte_caps{};
  /// What legs the kernel has too let through, by either of the two.
  std::map<uint32_t, std::set<uint64_t>> shared_windows;

  std::set<uint64_t>& seen_by(uint32_t id) {
    const auto shared = shared_windows.find(id);
    return shared == shared_windows.end() ? legs[id].seen : shared->second;
  }
  void settle(const Leg& leg) {
    identities[leg.settings.identity].packets += leg.packets;
    identities[leg.settings.identity].bytes += leg.bytes;
    networks[leg.settings.network].packets += leg.packets;
    networks[leg.settings.network].bytes += leg.bytes;
  }
  void unsettle(const Leg& leg) {
    identities[leg.settings.identity].packets -= leg.packets;
    identities[leg.settings.identity].bytes -= leg.bytes;
    networks[leg.settings.network].packets -= leg.packets;
    networks[leg.settings.network].bytes -= leg.bytes;
  }
};

omerta_leg leg_from(fuzz::Input& input) {
  omerta_leg leg{};
  const uint8_t what = input.byte();
  leg.leg_id = id_of(input.byte());
  leg.action = static_cast<uint8_t>(1 + what % 3);
  leg.flags = what & 0x08 ? OMERTA_LEG_ANY_SOURCE : 0;
  leg.key_epoch = what >> 4;
  leg.next_key_epoch = static_cast<uint8_t>(15 - (what >> 4));
  const omerta_address from = source_of(what);
  std::memcpy(leg.source_ip, from.ip, 16);
  leg.source_port = from.port;
  leg.next_leg_id = ~leg.leg_id;
  leg.key[0] = what;
  leg.key[1] = leg.leg_id;
  leg.next_key[0] = ~leg.key[0];
  leg.expires_at = what & 0x04 ? 1000 : 0;
  const uint8_t books = input.byte();
  leg.identity = books % kIdentities;
  leg.network = static_cast<uint16_t>((books >> 2) % kNetworks);
  leg.limits = static_cast<uint16_t>((books >> 4) % kClasses);
  // Of no say: an engine's own.
  leg.packets = leg.bytes = 99;
  return leg;
}

void install(relay::ForwardingTable& table, Model& model, const omerta_leg& leg) {
  const auto present = model.legs.find(leg.leg_id);
  const bool room = present != model.legs.end() || model.legs.size() < kCapacity;
  require(table.install(leg) == room);
  if (!room) return;
  Leg& kept = model.legs[leg.leg_id];
  if (present != model.legs.end() &&
      (kept.settings.identity != leg.identity || kept.settings.network != leg.network)) {
    // What it carried was the former accounts'; what it goes on counting is counted from there.
    model.settle(kept);
    kept.settings = leg;
    model.unsettle(kept);
    return;
  }
  kept.settings = leg;
}

/// A WireGuard transport message, whose counter a leg takes once. These have one receiver index and counters
/// so close together that a leg tells each of them apart.
constexpr uint64_t kTransport = 0x0000000700000004;
bool is_transport(const std::vector<uint8_t>& frame) { return omerta_load64(&frame[16]) == kTransport; }

/// The plain reading of docs/protocol.md: what becomes of a frame whose tag is right or not.
relay::Decision judged(Model& model, const omerta_address& from, const std::vector<uint8_t>& frame,
                       uint64_t now, bool good_tag) {
  relay::Decision d;
  const auto found = model.legs.find(omerta_load32(&frame[4]));
  const auto drop = [&d](omerta_drop_reason reason) {
    d.reason = reason;
    return d;
  };
  if (found == model.legs.end()) return drop(OMERTA_DROP_UNKNOWN_LEG);
  const omerta_leg& leg = found->second.settings;
  if ((leg.action == OMERTA_LEG_CONTROL) == (frame[1] == OMERTA_KIND_FORWARD))
    return drop(OMERTA_DROP_WRONG_KIND);
  if (frame[3] != leg.key_epoch) return drop(OMERTA_DROP_WRONG_KEY_EPOCH);
  if (!(leg.flags & OMERTA_LEG_ANY_SOURCE) &&
      (std::memcmp(leg.source_ip, from.ip, 16) != 0 || leg.source_port != from.port))
    return drop(OMERTA_DROP_WRONG_SOURCE);
  if (!good_tag) return drop(OMERTA_DROP_BAD_TAG);
  if (leg.expires_at != 0 && now >= leg.expires_at) return drop(OMERTA_DROP_EXPIRED);
  if (leg.action == OMERTA_LEG_FORWARD && frame[2] < 2) return drop(OMERTA_DROP_HOP_LIMIT);
  if (leg.action != OMERTA_LEG_CONTROL && is_transport(frame) &&
      !model.seen_by(leg.leg_id).insert(omerta_load64(&frame[24])).second)
    return drop(OMERTA_DROP_REPEATED);
  const uint64_t cap = model.byte_caps[leg.limits];
  if (cap != 0 && found->second.bytes + frame.size() > cap) return drop(OMERTA_DROP_BYTE_CAP);
  d.leg_id = leg.leg_id;
  d.verdict = leg.action == OMERTA_LEG_FORWARD   ? OMERTA_FORWARD
              : leg.action == OMERTA_LEG_DELIVER ? OMERTA_DELIVER
                                                 : OMERTA_CONTROL;
  return d;
}

struct Sent {
  std::vector<uint8_t> frame;
  omerta_address from;
  bool good_tag;
  bool kernel_first;  ///< its message came by the kernel path already, if that has the leg
};

Sent frame_from(const Model& model, fuzz::Input& input) {
  Sent sent;
  const uint8_t what = input.byte();
  const uint32_t id = id_of(input.byte());
  const uint8_t length = input.byte();
  sent.frame.resize(32 + length % 64);
  sent.frame[0] = OMERTA_FRAME_MAGIC;
  sent.frame[1] = what & 1 ? OMERTA_KIND_PROBE : OMERTA_KIND_FORWARD;
  sent.frame[2] = static_cast<uint8_t>(what >> 5);
  const uint8_t source = input.byte();
  sent.from = source_of(source);
  omerta_store32(&sent.frame[4], id);
  for (size_t i = 16; i < sent.frame.size(); i++) sent.frame[i] = static_cast<uint8_t>(i * what);
  if (length & 64) {
    omerta_store64(&sent.frame[16], kTransport);
    omerta_store64(&sent.frame[24], source >> 4);
  }
  sent.kernel_first = (length & 128) != 0;
  const auto found = model.legs.find(id);
  sent.good_tag = found != model.legs.end() && (what & 2) != 0;
  if (found != model.legs.end()) {
    const omerta_leg& leg = found->second.settings;
    if ((what & 4) == 0) sent.frame[3] = leg.key_epoch;
    if ((what & 8) == 0) {
      std::memcpy(sent.from.ip, leg.source_ip, 16);
      sent.from.port = leg.source_port;
    }
    if ((what & 16) == 0)
      sent.frame[1] = leg.action == OMERTA_LEG_CONTROL ? OMERTA_KIND_PROBE : OMERTA_KIND_FORWARD;
    uint64_t tag = omerta_frame_tag(leg.key, sent.frame.data(), static_cast<uint32_t>(sent.frame.size()));
    if (!sent.good_tag) tag ^= 1;
    omerta_store64(&sent.frame[8], tag);
  }
  return sent;
}

/// The functions of omerta/wire.h that the XDP program calls say the same, and write the same.
void agrees_with_kernel(const Model& model, const Sent& sent, const std::vector<uint8_t>& after, uint64_t now,
                        const relay::Decision& decision) {
  const auto found = model.legs.find(omerta_load32(&sent.frame[4]));
  if (found == model.legs.end() || decision.reason == OMERTA_DROP_BYTE_CAP ||
      decision.reason == OMERTA_DROP_REPEATED)
    return;
  const omerta_leg& leg = found->second.settings;
  std::vector<uint8_t> frame = sent.frame;
  const auto size = static_cast<uint32_t>(frame.size());
  require(omerta_leg_judge(&leg, frame.data(), size, &sent.from, now) == decision.reason);
  if (decision.verdict != OMERTA_FORWARD) return;
  omerta_leg_rewrite(&leg, frame.data(), size);
  require(frame == after);
}

/// The maps of the kernel path, as far as a table shares them: legs and what they let through.
class KernelLegs {
 public:
  /// Of the legs there are, those with an even id: the kernel does not have all of them.
  explicit KernelLegs(Model& model) {
    auto* legs = static_cast<omerta_leg*>(
        mmap(nullptr, kSlots * sizeof(omerta_leg), PROT_READ | PROT_WRITE, MAP_SHARED, legs_, 0));
    require(legs != MAP_FAILED);
    for (const auto& [id, leg] : model.legs) {
      if (id % 2 != 0) continue;
      uint32_t slot = omerta_leg_home(id, kSlots);
      while (legs[slot].action != 0) slot = omerta_leg_slot_after(slot, kSlots);
      relay::publish_leg(legs[slot], leg.settings, relay::kLegPolicyWords);
      model.shared_windows[id];
    }
    munmap(legs, kSlots * sizeof(omerta_leg));
    windows_.emplace(relay::WindowFiles{legs_, window_file_, kSlots});
  }
  ~KernelLegs() {
    close(legs_);
    close(window_file_);
  }
  const relay::SharedWindows& windows() const { return *windows_; }

  /// The kernel path judges a message first.
  void take(Model& model, const std::vector<uint8_t>& frame) const {
    const uint32_t id = omerta_load32(&frame[4]);
    omerta_leg_window* window = windows_->of(id);
    require((window != nullptr) == model.shared_windows.contains(id));
    if (window == nullptr || !is_transport(frame)) return;
    const uint64_t counter = omerta_load64(&frame[24]);
    const bool fresh = omerta_window_takes(window, kTransport, counter, 1, 1) != 0;
    require(fresh == model.shared_windows[id].insert(counter).second);
  }

 private:
  static constexpr uint32_t kSlots = 16;
  static int file(const char* name, size_t size) {
    const int fd = memfd_create(name, MFD_CLOEXEC);
    require(fd >= 0 && ftruncate(fd, static_cast<off_t>(size)) == 0);
    return fd;
  }

  int legs_ = file("legs", kSlots * sizeof(omerta_leg));
  int window_file_ = file("windows", kSlots * sizeof(omerta_leg_window));
  std::optional<relay::SharedWindows> windows_;
};

void judge(relay::ForwardingTable& table, Model& model, const KernelLegs* kernel, fuzz::Input& input,
           uint64_t now) {
  // A batch, as a worker has it: up to ten at a time.
  std::vector<Sent> batch(1 + input.byte() % 10);
  std::vector<relay::Datagram> datagrams;
  for (Sent& sent : batch) {
    sent = frame_from(model, input);
    if (sent.kernel_first && kernel != nullptr) kernel->take(model, sent.frame);
  }
  for (Sent& sent : batch)
    datagrams.push_back({sent.frame.data(), static_cast<uint32_t>(sent.frame.size()), &sent.from});
  std::vector<relay::Decision> decisions(batch.size());
  const std::vector<Sent> before = batch;
  if (batch.size() == 1)
    decisions[0] = table.judge_datagram(batch[0].from, batch[0].frame.data(), datagrams[0].size, now);
  else
    table.judge_all(datagrams.data(), datagrams.size(), now, decisions.data());
  for (size_t i = 0; i < batch.size(); i++) {
    const relay::Decision expected = judged(model, before[i].from, before[i].frame, now, before[i].good_tag);
    require(decisions[i].verdict == expected.verdict && decisions[i].reason == expected.reason);
    if (expected.verdict != OMERTA_FORWARD) require(batch[i].frame == before[i].frame);
    agrees_with_kernel(model, before[i], batch[i].frame, now, expected);
    if (expected.verdict == OMERTA_DROP) continue;
    require(decisions[i].leg_id == expected.leg_id);
    Leg& leg = model.legs[expected.leg_id];
    leg.packets++;
    leg.bytes += batch[i].frame.size();
  }
}

void compare(relay::ForwardingTable& table, const Model& model) {
  require(table.size() == model.legs.size() && table.reach() <= kCapacity);
  for (uint8_t n = 0; n < 16; n++) {
    omerta_leg found{};
    const auto expected = model.legs.find(id_of(n));
    require(table.find(id_of(n), found) == (expected != model.legs.end()));
    if (expected == model.legs.end()) continue;
    const omerta_leg& leg = expected->second.settings;
    // All that the control plane writes, then what was counted.
    require(std::memcmp(&found, &leg, offsetof(omerta_leg, theoretical_arrival)) == 0);
    require(found.packets == expected->second.packets && found.bytes == expected->second.bytes);
  }
  size_t seen = 0;
  table.for_each([&](const omerta_leg& leg) {
    seen++;
    require(model.legs.contains(leg.leg_id));
  });
  require(seen == model.legs.size());
  for (size_t i = 0; i < kIdentities; i++) {
    const omerta_account account = table.accounts().read(relay::AccountKind::identity, i);
    require(account.packets == model.identities[i].packets && account.bytes == model.identities[i].bytes);
  }
  for (size_t i = 0; i < kNetworks; i++) {
    const omerta_account account = table.accounts().read(relay::AccountKind::network, i);
    require(account.packets == model.networks[i].packets && account.bytes == model.networks[i].bytes);
  }
}

/// An account or class there is none of is refused, and changes nothing.
void refused(relay::ForwardingTable& table, omerta_leg leg, uint8_t which) {
  if (which % 3 == 0) leg.identity = kIdentities;
  if (which % 3 == 1) leg.network = kNetworks;
  if (which % 3 == 2) leg.limits = kClasses;
  bool threw = false;
  try {
    table.install(leg);
  } catch (const std::out_of_range&) {
    threw = true;
  }
  require(threw);
  for (const size_t capacity : {size_t{0}, (size_t{1} << 28) + 1}) {
    threw = false;
    try {
      const relay::ForwardingTable impossible(capacity, {kIdentities, kNetworks, kClasses});
    } catch (const std::invalid_argument&) {
      threw = true;
    }
    require(threw);
  }
}

/// Rates so high that they refuse nothing: they are kept as they are set, and nothing else changes.
void books(relay::Accounts& accounts, fuzz::Input& input) {
  const uint8_t what = input.byte();
  const omerta_rate rate{1, 1, 1u << 30};
  const relay::AccountKind kind = what & 1 ? relay::AccountKind::identity : relay::AccountKind::network;
  accounts.set_rate(kind, 1, rate);
  require(accounts.read(kind, 1).rate.burst == rate.burst);
  accounts.set_host_rate(rate);
  require(accounts.host_rate().byte_interval == 1);
  accounts.set_prefix_rate(rate, {what % 33u, what % 65u});
  accounts.set_prefix_key(what);
  accounts.set_fair_share(0, what);
  std::array<uint64_t, kIdentities> demands{};
  accounts.demands(demands);
  require(accounts.host().packets == 0);
  for (const relay::Accounts::PrefixBits bits :
       {relay::Accounts::PrefixBits{33, 0}, relay::Accounts::PrefixBits{0, 65}}) {
    bool threw = false;
    try {
      accounts.set_prefix_rate(rate, bits);
    } catch (const std::out_of_range&) {
      threw = true;
    }
    require(threw);
  }
}

/// Memory that a kernel path charges, too.
struct Shared {
  omerta_policy policy{};
  std::array<omerta_limits, kClasses> limits{};
  std::array<omerta_account, kIdentities> identities{};
  std::array<omerta_account, kNetworks> networks{};
  omerta_account host{};
  std::vector<__u64> prefixes = std::vector<__u64>(OMERTA_PREFIX_BUCKETS);
};

/// Goes on there, with all that was set and counted; once for a table.
void share(relay::ForwardingTable& table, std::unique_ptr<Shared>& memory) {
  if (memory) return;
  memory = std::make_unique<Shared>();
  table.share_accounts({&memory->policy, memory->limits.data(), memory->identities.data(),
                        memory->networks.data(), &memory->host, memory->prefixes.data()});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  const auto workers =
      input.byte() & 1 ? relay::ForwardingTable::Workers::one : relay::ForwardingTable::Workers::several;
  std::unique_ptr<Shared> memory;  // these outlive the table
  std::unique_ptr<KernelLegs> kernel;
  relay::ForwardingTable table(kCapacity, {kIdentities, kNetworks, kClasses}, workers);
  Model model;
  uint64_t now = 1;
  for (int steps = 0; !input.empty() && steps < 200; steps++) {
    switch (input.byte() % 11) {
      case 0:
      case 1:
        install(table, model, leg_from(input));
        break;
      case 2: {
        const uint32_t id = id_of(input.byte());
        const auto found = model.legs.find(id);
        require(table.remove(id) == (found != model.legs.end()));
        if (found == model.legs.end()) break;
        model.settle(found->second);
        model.legs.erase(found);
        break;
      }
      case 3: {
        const uint8_t what = input.byte();
        const size_t limits = what % kClasses;
        model.byte_caps[limits] = what & 0x80 ? uint64_t{what} * 4 : 0;
        table.accounts().set_limits(limits, {{}, 0, model.byte_caps[limits]});
        break;
      }
      case 4: {
        const uint8_t what = input.byte();
        if (what & 1) {
          table.accounts().reset(relay::AccountKind::identity, (what >> 1) % kIdentities);
          model.identities[(what >> 1) % kIdentities] = {};
        } else {
          table.accounts().reset(relay::AccountKind::network, (what >> 1) % kNetworks);
          model.networks[(what >> 1) % kNetworks] = {};
        }
        break;
      }
      case 5:
        now += uint64_t{input.byte()} * 8;
        break;
      case 7:
        books(table.accounts(), input);
        break;
      case 8:
        share(table, memory);
        break;
      case 9:
        if (kernel) break;
        kernel = std::make_unique<KernelLegs>(model);
        table.share_windows(kernel->windows());
        break;
      case 6:
        refused(table, leg_from(input), input.byte());
        break;
      default:
        judge(table, model, kernel.get(), input, now);
    }
    compare(table, model);
  }
  return 0;
}
