// SPDX-License-Identifier: Apache-2.0
// What a leg lets through: its window of messages that came by (omerta/leg_window.h), against sets of
// counters, and its limits (omerta/limits.h), against what they promise:
//   - a frame that is let through is charged to every bucket that stood against it, once, and to no other
//   - one that is refused is charged to none, and counted where its reason says
//   - a bucket is never further ahead of the clock than its burst and one charge
//
// Two of the buckets may be one, chosen by the input: then a charge that was looked at and found to fit is
// gone when it is taken, as when another worker took it in between, and what was taken so far goes back.
//
// input: operations, each an opcode u8 and its operands
#include <omerta/leg_window.h>
#include <omerta/limits.h>

#include <deque>
#include <set>

#include "fuzz/fuzz_input.h"

using omerta::fuzz::Input;
using omerta::fuzz::require;

namespace {

// ---- the window -----------------------------------------------------------------------------------

/// What a leg knows of one session, said in sets; a counter is taken modulo 2^32.
struct Session {
  uint32_t index;
  uint32_t greatest;
  std::set<uint32_t> came;  ///< of the last OMERTA_WINDOW_SEEN
  uint64_t missed = 0;

  Session(uint32_t index_, uint32_t counter) : index(index_), greatest(counter) {
    came.insert(counter);
    // There are no counters below 0.
    for (uint32_t i = counter + 1; i < OMERTA_WINDOW_SEEN; i++) came.insert(counter - i);
  }
  bool takes(uint32_t counter) {
    if (static_cast<int32_t>(counter - greatest) > 0) {
      for (uint32_t i = 0; i < OMERTA_WINDOW_SEEN; i++) {
        const uint32_t old = greatest - i;
        if (counter - old < OMERTA_WINDOW_SEEN) continue;
        missed += came.erase(old) == 0 ? 1 : 0;
      }
      const uint32_t ahead = counter - greatest;
      if (ahead > OMERTA_WINDOW_SEEN) missed += ahead - OMERTA_WINDOW_SEEN;
      missed = std::min<uint64_t>(missed, OMERTA_WINDOW_REACH);
      greatest = counter;
      return came.insert(counter).second;
    }
    if (greatest - counter < OMERTA_WINDOW_SEEN) return came.insert(counter).second;
    if (greatest - counter >= OMERTA_WINDOW_REACH || missed == 0) return false;
    missed--;
    return true;
  }
};

struct WindowModel {
  std::deque<Session> sessions;              ///< the latest first
  std::deque<uint32_t> handshakes{0, 0, 0};  ///< the latest first; 0: none

  bool takes(uint64_t first, uint64_t second, uint64_t tag) {
    const auto type = static_cast<uint32_t>(first);
    const auto index = static_cast<uint32_t>(first >> 32);
    if (type == 0 || type > 4) return true;
    if (type == 4) {
      for (Session& session : sessions)
        if (session.index == index) return session.takes(static_cast<uint32_t>(second));
      sessions.emplace_front(index, static_cast<uint32_t>(second));
      if (sessions.size() > OMERTA_WINDOW_SESSIONS) sessions.pop_back();
      return true;
    }
    const auto short_tag = static_cast<uint32_t>(tag);
    if (short_tag != 0 && std::ranges::count(handshakes, short_tag) != 0) return false;
    handshakes.push_front(short_tag);
    handshakes.pop_back();
    return true;
  }
};

/// A counter near one that was named before, or far from all.
uint64_t counter_from(Input& input, uint64_t& last) {
  const uint8_t what = input.byte();
  const uint16_t distance = input.word();
  switch (what % 6) {
    case 0:
      last += distance % 4;
      break;
    case 1:
      last += distance;
      break;
    case 2:
      last -= std::min<uint64_t>(last, distance % 64);
      break;
    case 3:
      last -= std::min<uint64_t>(last, distance);
      break;
    case 4:
      last += uint64_t{distance} << 16;
      break;
    default:
      return last;
  }
  return last;
}

// ---- the limits -----------------------------------------------------------------------------------

struct Books {
  omerta_policy policy{};
  omerta_limits limits{};
  omerta_account identity{};
  omerta_account network{};
  omerta_account host{};
  __u64 prefix = 0;
  omerta_leg leg{};
};

omerta_rate rate_from(Input& input) {
  const uint8_t what = input.byte();
  // 1 ns to 16 ms a byte or packet, or nothing.
  const __u32 bytes = what & 1 ? 65536u << (what >> 4) : 0;
  const __u32 packets = what & 2 ? 1u << (what >> 3) : 0;
  return {bytes, packets, 1u << input.byte() % 31};
}

uint64_t cost_of(const omerta_rate& rate, uint32_t size) {
  return std::max<uint64_t>(uint64_t{size} * rate.byte_interval / 65536, rate.packet_interval);
}

bool limited(const omerta_rate& rate) { return rate.byte_interval != 0 || rate.packet_interval != 0; }

/// A bucket, and what a frame is charged in it.
struct Charged {
  __u64* arrival;
  uint64_t cost;
  uint64_t burst;
  uint8_t reason;
};

/// Where it stands at `now`: in the past is as good as now.
uint64_t level(uint64_t arrival, uint64_t now) { return std::max(arrival, now) - now; }

void admit(Books& b, uint32_t size, bool forward, bool shared, uint8_t alias, uint64_t now) {
  omerta_books books{&b.policy, &b.limits, &b.identity, &b.network, &b.host, &b.prefix};
  // Two that are one.
  if (alias == 1) books.prefix = &b.host.theoretical_arrival;
  if (alias == 2) books.prefix = &b.identity.fair_arrival;
  if (alias == 3) books.network = &b.identity;
  if (alias == 4) books.prefix = &b.network.theoretical_arrival;
  if (alias == 5) books.prefix = &b.leg.theoretical_arrival;
  std::vector<Charged> charged;
  const auto add = [&](const omerta_rate& rate, __u64* arrival, uint8_t reason) {
    if (limited(rate)) charged.push_back({arrival, cost_of(rate, size), rate.burst, reason});
  };
  add(b.limits.rate, &b.leg.theoretical_arrival, OMERTA_DROP_RATE_LIMITED);
  if (forward) {
    add(books.identity->rate, &books.identity->theoretical_arrival, OMERTA_DROP_IDENTITY_RATE);
    add(books.network->rate, &books.network->theoretical_arrival, OMERTA_DROP_NETWORK_RATE);
    add(b.policy.prefix, books.prefix, OMERTA_DROP_PREFIX_RATE);
    if (b.policy.fair_factor != 0)
      charged.push_back({&books.identity->fair_arrival,
                         (cost_of(b.policy.host, size) * b.policy.fair_factor) >> 16, b.policy.fair_burst,
                         OMERTA_DROP_FAIR_SHARE});
    add(b.policy.host, &books.host->theoretical_arrival, OMERTA_DROP_HOST_RATE);
  }
  std::vector<uint64_t> before;
  for (const Charged& each : charged) before.push_back(level(*each.arrival, now));
  const Books was = b;
  const uint64_t refused_before = b.identity.refused + b.network.refused + b.host.refused;

  const uint8_t reason = omerta_admit(&b.leg, forward ? OMERTA_LEG_FORWARD : OMERTA_LEG_DELIVER, &books, size,
                                      now, shared ? 1 : 0);

  const uint64_t refused = b.identity.refused + b.network.refused + b.host.refused - refused_before;
  if (reason == OMERTA_DROP_NONE) {
    require(b.leg.bytes == was.leg.bytes + size && b.leg.packets == was.leg.packets + 1);
    require(b.leg.last_used == now && refused == 0);
    require(b.limits.byte_cap == 0 || b.leg.bytes <= b.limits.byte_cap);
    for (size_t i = 0; i < charged.size(); i++) {
      uint64_t due = 0;  // all that is charged in this bucket
      for (const Charged& each : charged) due += each.arrival == charged[i].arrival ? each.cost : 0;
      require(level(*charged[i].arrival, now) == before[i] + due);
      require(before[i] + charged[i].cost <= charged[i].burst);
    }
    return;
  }
  require(b.leg.bytes == was.leg.bytes && b.leg.packets == was.leg.packets &&
          b.leg.last_used == was.leg.last_used && refused <= 1);
  for (size_t i = 0; i < charged.size(); i++) require(level(*charged[i].arrival, now) == before[i]);
  if (reason == OMERTA_DROP_BYTE_CAP) {
    require(b.limits.byte_cap != 0 && was.leg.bytes + size > b.limits.byte_cap);
    return;
  }
  // The limit that is named is there, and is full: by what it was, or by what another one took of it.
  bool full = false;
  for (size_t i = 0; i < charged.size(); i++) {
    if (charged[i].reason != reason) continue;
    uint64_t due = 0;
    for (const Charged& each : charged) due += each.arrival == charged[i].arrival ? each.cost : 0;
    full = full || before[i] + due > charged[i].burst;
  }
  require(full);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  omerta_leg_window window{};
  WindowModel model;
  uint64_t counters[4] = {};
  Books books;
  books.policy.prefix_key = 1;
  uint64_t now = 1;
  for (int steps = 0; !input.empty() && steps < 400; steps++) {
    const uint8_t what = input.byte();
    switch (what % 8) {
      case 0:
      case 1: {  // a transport message of one of four sessions
        const uint64_t first = 4 | static_cast<uint64_t>(what >> 6) << 32;
        const uint64_t second = counter_from(input, counters[what >> 6]);
        const int shared = what >> 4 & 1;
        require((omerta_window_takes(&window, first, second, 0, shared) != 0) ==
                model.takes(first, second, 0));
        break;
      }
      case 2: {  // a message of another type, of five tags
        const uint64_t first = what >> 4 & 7;
        const uint64_t tag = input.byte() % 5;
        require((omerta_window_takes(&window, first, 0, tag, what >> 3 & 1) != 0) ==
                model.takes(first, 0, tag));
        break;
      }
      case 3:
        if (input.byte() != 0) break;
        omerta_window_clear(&window);
        model = {};
        break;
      case 4: {  // a limit changes
        const omerta_rate rate = rate_from(input);
        switch (what >> 3) {
          case 0:
            books.limits.rate = rate;
            break;
          case 1:
            books.identity.rate = rate;
            break;
          case 2:
            books.network.rate = rate;
            break;
          case 3:
            books.policy.prefix = rate;
            break;
          case 4:
            books.policy.host = rate;
            break;
          case 5:
            books.policy.fair_factor = rate.packet_interval;
            books.policy.fair_burst = rate.burst;
            break;
          case 6:
            books.limits.byte_cap = rate.burst;
            break;
          default:
            books = {};
        }
        break;
      }
      case 5:
        now += uint64_t{1} << input.byte() % 30;
        break;
      default: {
        const uint8_t how = input.byte();
        admit(books, input.word(), (how & 1) != 0, (how & 2) != 0, static_cast<uint8_t>(how >> 2) % 8, now);
      }
    }
    require(window.lock == 0);
  }
  return 0;
}
