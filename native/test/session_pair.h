// SPDX-License-Identifier: Apache-2.0
// Two session tables over a wire that the test holds, under a clock that the test moves.
#pragma once

#include <sodium.h>

#include <deque>
#include <memory>
#include <string>

#include "check.h"
#include "common/clock.h"
#include "crypto/aead.h"
#include "session/session_table.h"

namespace omerta::session_test {

using namespace omerta::session;

inline omerta_address address(uint8_t last, uint16_t port) {
  omerta_address a{};
  a.ip[10] = a.ip[11] = 0xff;
  a.ip[12] = 192;
  a.ip[14] = 2;
  a.ip[15] = last;
  a.port = __builtin_bswap16(port);
  return a;
}

inline Endpoint endpoint(uint8_t last, uint16_t port = 51820) {
  Endpoint e;
  e.remote = address(last, port);
  return e;
}

inline bool starts_with(const std::string& text, std::string_view prefix) {
  return text.compare(0, prefix.size(), prefix) == 0;
}

inline std::vector<Prefix> prefixes_of(const Peer& peer) {
  std::vector<Prefix> found;
  AllowedIps::for_each(peer.allowed_ips, [&](const Prefix& prefix) { found.push_back(prefix); });
  return found;
}

struct Sent {
  Endpoint to;
  std::vector<uint8_t> bytes;
  uint8_t traffic_class;
  bool unfragmented = false;
};

/// One node: a table, its output, and the means to open what it is sent.
class Node final : public SessionOutput {
 public:
  /// `suites` 0: it knows nothing of suites.
  Node(uint8_t seed, uint8_t host, uint8_t suites = 0, size_t window = kStandardWindow)
      : self(endpoint(host)), clock_stamp_(1), table(key(seed), 64, 1, environment(suites, window)) {
    table.qsbr().quiescent(0);
  }

  static Key32 key(uint8_t seed) {
    Key32 k;
    k.fill(seed);
    return k;
  }
  SessionEnvironment environment(uint8_t suites = 0, size_t window = kStandardWindow) {
    return {[](std::span<uint8_t> out) { randombytes_buf(out.data(), out.size()); },
            [this] {
              Timestamp t{};
              store(t.data() + 4, __builtin_bswap64(++clock_stamp_));
              return t;
            },
            {},
            suites,
            window};
  }

  void send(const Endpoint& to, Bytes message, uint8_t traffic_class) override {
    sent.push_back({to, {message.begin(), message.end()}, traffic_class, false});
  }
  size_t inner_mtu() const override { return mtu; }
  void send_unfragmented(const Endpoint& to, Bytes message) override {
    send(to, message, 0);
    sent.back().unfragmented = true;
  }
  void session_established(Peer&, const Endpoint& at) override {
    established++;
    established_at = at;
  }
  void endpoint_changed(Peer&) override { moved++; }
  void path_needed(Peer&) override { paths_needed++; }
  void session_lost(Peer&) override { lost++; }
  void suite_step(SuiteStep step) override { steps[static_cast<size_t>(step)]++; }
  void path_event(Peer&, const PathEvent& event) override { path_events.push_back(event); }
  void path_duplicate() override { duplicates++; }
  int count(SuiteStep step) const { return steps[static_cast<size_t>(step)]; }

  void add(const Node& other, std::optional<Key32> psk = std::nullopt, bool with_endpoint = true,
           Nanoseconds keepalive = 0) {
    PeerSettings settings;
    settings.public_key = other.table.local().public_key;
    settings.preshared_key = psk;
    settings.allowed_ips = {*Prefix::parse("10.0.0.0/8")};
    if (with_endpoint) settings.endpoint = other.self;
    settings.persistent_keepalive = keepalive;
    CHECK(table.set_peers({settings}, now, *this));
  }
  bool write(const Node& other, std::string_view text) {
    return table.send_inside(other.table.local().public_key,
                             Bytes(reinterpret_cast<const uint8_t*>(text.data()), text.size()), now, *this);
  }

  /// Takes a message as a worker would; plaintexts of transport packets go to `inbox`.
  Outcome receive(std::vector<uint8_t> bytes, const Endpoint& from) {
    switch (bytes[0]) {
      case 1:
        return table.handle_initiation(load<Initiation>(bytes.data()), from, now, *this);
      case 2:
        return table.handle_response(load<Response>(bytes.data()), from, now, *this);
      case 3:
        return table.handle_cookie_reply(load<CookieReply>(bytes.data()), now);
      default:
        break;
    }
    Keypair* keypair = table.find(load<uint32_t>(bytes.data() + 4));
    if (keypair == nullptr || keypair->expired(now)) return Outcome::unknown_index;
    crypto::AeadJob job{&keypair->receive_key, load<uint64_t>(bytes.data() + 8),
                        bytes.data() + kTransportHeaderSize, bytes.size() - kTransportOverhead, false};
    aead.open(std::span(&job, 1));
    if (!job.ok) return Outcome::bad_handshake;
    if (!keypair->accept(job.counter)) return Outcome::replayed_initiation;
    Peer& peer = keypair->peer;
    const Bytes text(job.text, job.size);
    if (is_path_frame(text)) {
      path_frames[static_cast<size_t>(table.handle_path_frame(*keypair, text, from, now, aead, *this))]++;
      return Outcome::accepted;
    }
    table.authenticated(*keypair, from, now, *this);
    const PathSet* set = peer.paths.load();
    const PathSet::Path* path = set == nullptr ? nullptr : SessionTable::heard_by_path(*set, from, now);
    const bool data = !text.empty() && !is_suite_frame(text);
    if (set != nullptr && data) SessionTable::data_by_path(peer, *set, path, from, now, *this);
    if (path != nullptr) table.received_by_path(peer, *set, *path, 1, bytes.size(), data, now, aead, *this);
    if (knows_suites && is_suite_frame(text)) {
      malformed += table.handle_suite_frame(*keypair, text, now, *this) ? 0 : 1;
      return Outcome::accepted;
    }
    if (job.size != 0) {
      SessionTable::data_received(keypair->peer, now);
      inbox.emplace_back(reinterpret_cast<const char*>(job.text), job.size);
    } else {
      keepalives++;
    }
    return Outcome::accepted;
  }

  Peer& peer() {
    Peer* found = nullptr;
    table.for_each([&](Peer& p) { found = &p; });
    return *found;
  }
  void tick() { table.handle_timers(now, *this); }

  Endpoint self;
  Nanoseconds now = 1000 * kSecond;

 private:
  uint64_t clock_stamp_;

 public:
  SessionTable table;
  crypto::Aead aead{crypto::AeadChoice{}};
  std::deque<Sent> sent;
  size_t mtu = SIZE_MAX;
  std::vector<std::string> inbox;
  std::vector<PathEvent> path_events;
  std::array<int, 4> path_frames{};  ///< by PathFrameOutcome
  Endpoint established_at;
  int duplicates = 0;
  int established = 0, moved = 0, paths_needed = 0, lost = 0, keepalives = 0, malformed = 0;
  bool knows_suites = true;  ///< false: takes a suite frame for data, as a stock peer does
  std::array<int, 4> steps{};
};

struct Pair {
  explicit Pair(uint8_t suites_of_a = 0, uint8_t suites_of_b = 0, size_t window = kStandardWindow)
      : a(1, 1, suites_of_a, window), b(2, 2, suites_of_b, window) {}
  Node a;
  Node b;
  /// Whether a message gets lost on its way.
  std::function<bool(const Node& from, const std::vector<uint8_t>& bytes)> loses;

  void deliver() {
    for (bool any = true; any;) {
      any = false;
      for (auto [from, to] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
        while (!from->sent.empty()) {
          any = true;
          const Sent message = from->sent.front();
          from->sent.pop_front();
          if (!loses || !loses(*from, message.bytes)) to->receive(message.bytes, from->self);
        }
      }
    }
  }
  void advance(Nanoseconds by) {
    a.now += by;
    b.now += by;
  }
  /// Passes time in timer ticks, delivering whatever is sent.
  void pass(Nanoseconds time) {
    for (Nanoseconds t = 0; t < time; t += 100 * kMillisecond) {
      advance(100 * kMillisecond);
      a.tick();
      b.tick();
      deliver();
    }
  }
  void connect(std::optional<Key32> psk = std::nullopt) {
    a.add(b, psk);
    b.add(a, psk, false);
    a.write(b, "hello");
    deliver();
  }
};

}  // namespace omerta::session_test
