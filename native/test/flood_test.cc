// SPDX-License-Identifier: Apache-2.0
// A TCP transfer through two engines, direct and over a relay, while attackers send whatever they can
// think of at full rate: no crash, no state, no byte lost, and the transfer goes on.
//
//   flood_test [SECONDS]   how long each of the two floods lasts (default 2.5); from 10 on the two engines
//                          also shake hands in the middle of a flood of initiations, which takes a cookie
//
// Needs root: network namespaces and TUN.
#include <sodium.h>
#include <sys/resource.h>

#include <chrono>
#include <fstream>
#include <memory>

#include "check.h"
#include "engine/engine.h"
#include "engine_fixture.h"
#include "flood_attacker.h"
#include "flood_network.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
extern "C" size_t __sanitizer_get_current_allocated_bytes();  // gcc has it without its header
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

namespace {

using namespace omerta;
using namespace omerta::engine;
using namespace omerta::flood;
using Clock = std::chrono::steady_clock;
using omerta::check::loopback;
using omerta::check::public_key;
using omerta::check::total;

constexpr int kSkipped = 77;
constexpr size_t kAttackers = 2;
constexpr int kAttackerNice = 5;
/// A transfer that stalls for longer has been stopped.
constexpr auto kStall = std::chrono::seconds(kSanitized ? 60 : 15);

EngineSettings settings(uint8_t seed, size_t workers, const char* tun) {
  EngineSettings s;
  s.private_key.fill(seed);
  s.bind = "127.0.0.1";
  s.max_legs = 64;
  s.max_peers = 64;
  s.control_frames_per_second = 100;
  s.workers = workers;
  if (tun != nullptr) {
    s.tun.emplace();
    s.tun->name = tun;
    s.tun->mtu = 1420;
    s.tun->up = false;
  }
  return s;
}

session::PeerSettings peer(uint8_t seed, const char* inside, std::optional<session::Endpoint> endpoint) {
  session::PeerSettings p = check::peer(seed, endpoint);
  p.allowed_ips = {*session::Prefix::parse(inside)};
  return p;
}

/// The key of a leg is made of its id.
omerta_leg leg(uint32_t id, uint8_t action, const omerta_address& source, const omerta_address& next,
               uint32_t next_id) {
  return check::leg(id, action, static_cast<uint8_t>(id), source, next, next_id,
                    static_cast<uint8_t>(next_id));
}

uint64_t malformed(Engine& engine) {
  uint64_t sum = 0;
  for (size_t i = 0; i < OMERTA_DROP_REASON_COUNT; i++)
    sum += total(engine, static_cast<Counter>(static_cast<size_t>(Counter::kDropReasons) + i));
  return sum;
}

/// Memory in use. Under a sanitizer what is allocated: it keeps freed memory for a while.
size_t megabytes_in_use() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return __sanitizer_get_current_allocated_bytes() >> 20;
#else
  size_t total_pages = 0, resident_pages = 0;
  std::ifstream("/proc/self/statm") >> total_pages >> resident_pages;
  return resident_pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) >> 20;
#endif
}

template <class Condition>
bool wait_for(Condition condition, Clock::duration limit) {
  const auto deadline = Clock::now() + limit;
  while (!condition()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

/// Everything there is to keep about a peer, as far as a stranger might have changed it.
struct PeerState {
  omerta_address endpoint;
  size_t staged;
  bool half_open;
  uint64_t handshakes;
};

PeerState state_of(Engine& engine) {
  PeerState state{};
  engine.sessions().for_each([&](session::Peer& p) {
    state.endpoint = p.endpoint().remote;
    state.staged = p.staged.size();
    state.half_open = p.initiation_pending || p.next.load() != nullptr;
  });
  state.handshakes = total(engine, Counter::handshakes_completed);
  return state;
}

/// Threads that attack until they are told to stop.
class Flood {
 public:
  Flood(const std::vector<Target>& targets, const Path& path) {
    for (size_t i = 0; i < kAttackers; i++)
      attackers_.push_back(std::make_unique<Attacker>(i + 1, targets, path));
    for (auto& attacker : attackers_)
      threads_.emplace_back([this, a = attacker.get()] {
        // The engines have no core of their own here: attackers take what they leave.
        setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), kAttackerNice);
        while (!stopping_) a->send(kind_);
      });
  }
  ~Flood() { stop(); }
  Flood(const Flood&) = delete;
  Flood& operator=(const Flood&) = delete;

  void change_to(Kind kind) { kind_ = kind; }
  void stop() {
    stopping_ = true;
    for (std::thread& thread : threads_)
      if (thread.joinable()) thread.join();
  }
  /// After stop(): a sum over the attackers.
  template <class Field>
  uint64_t sum(Field field) const {
    uint64_t all = 0;
    for (const auto& attacker : attackers_) all += field(*attacker);
    return all;
  }

 private:
  std::atomic<Kind> kind_{Kind::garbage};
  std::atomic<bool> stopping_{false};
  std::vector<std::unique_ptr<Attacker>> attackers_;
  std::vector<std::thread> threads_;
};

uint64_t received(Engine& a, Engine& b) {
  return total(a, Counter::rx_datagrams) + total(b, Counter::rx_datagrams);
}

void check_drops(Engine& a, Engine& b, Engine* relay) {
  const auto both = [&](Counter counter) { return total(a, counter) + total(b, counter); };
  CHECK(malformed(a) > 0 && malformed(b) > 0);
  CHECK(both(Counter::drop_bad_mac1) > 0);
  CHECK(both(Counter::drop_unknown_index) > 0);
  CHECK(both(Counter::drop_decrypt_failed) > 0);
  CHECK(both(Counter::drop_replayed) > 0);
  CHECK(both(Counter::drop_unknown_peer) + both(Counter::drop_bad_handshake) > 0);
  CHECK(both(Counter::cookie_replies_sent) > 0);
  CHECK(both(Counter::drop_handshake_rate) > 0);
  if (relay != nullptr) CHECK(malformed(*relay) > 0);
}

void flood(Engine& a, Engine& b, Engine* relay, Path& path, Transfer& transfer, double seconds) {
  const omerta_address near = loopback(path.near.port());
  const omerta_address far = relay == nullptr ? loopback(path.far.port()) : loopback(relay->port());
  const uint16_t b_port = b.port();
  std::vector<Target> targets = {{a.port(), public_key(1), true, &path.near}};
  if (relay == nullptr) {
    targets.push_back({b_port, public_key(2), false, &path.far});
  } else {
    // What goes to the relay is what the path saw on its way there; B itself is attacked, too.
    targets.push_back({relay->port(), public_key(3), false, &path.far});
    targets.push_back({b_port, public_key(2), false, &path.far});
  }
  CHECK(wait_for([&] { return transfer.verified() > 1'000'000; }, kStall));
  path.remember_no_more();
  CHECK(total(a, Counter::drop_receive_queue) + total(b, Counter::drop_receive_queue) == 0);
  const uint64_t a_moved = total(a, Counter::endpoint_changes);
  const uint64_t b_moved = total(b, Counter::endpoint_changes);

  Flood attack(targets, path);
  size_t megabytes = 0;
  for (size_t k = 0; k < kKinds; k++) {
    attack.change_to(static_cast<Kind>(k));
    const uint64_t before = transfer.verified();
    const uint64_t got = received(a, b);
    const uint64_t overflows = total(a, Counter::drop_receive_queue) + total(b, Counter::drop_receive_queue);
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds / kKinds));
    const auto was_sent = [&] {
      return k + 1 == kKinds ||
             attack.sum([k](const Attacker& at) { return at.sent(static_cast<Kind>(k)); }) > 0;
    };
    const bool goes_on = wait_for([&] { return transfer.verified() > before && was_sent(); }, kStall);
    const uint64_t lost = total(a, Counter::drop_receive_queue) + total(b, Counter::drop_receive_queue);
    std::printf("%-17s %8.1f kB of transfer, %7llu datagrams received, %6llu lost in the sockets%s\n",
                kKindNames[k], static_cast<double>(transfer.verified() - before) / 1e3,
                static_cast<unsigned long long>(received(a, b) - got),
                static_cast<unsigned long long>(lost - overflows), goes_on ? "" : ", STALLED");
    CHECK(goes_on);
    if (k == 0) megabytes = megabytes_in_use();  // buffers and corpus have their size by now
  }
  if (seconds >= 10) {
    attack.change_to(Kind::initiation);
    CHECK(a.start_handshake(public_key(2)));
    CHECK(wait_for([&] { return total(a, Counter::handshakes_completed) == 2; }, kStall));
  }
  // Where the machine is busy, too few came in their time to be more than one address may send.
  attack.change_to(Kind::cookie_bearing);
  CHECK(wait_for(
      [&] { return total(a, Counter::drop_handshake_rate) + total(b, Counter::drop_handshake_rate) > 0; },
      kStall));
  attack.change_to(Kind::bit_flipped);
  CHECK(wait_for(
      [&] { return total(a, Counter::drop_decrypt_failed) + total(b, Counter::drop_decrypt_failed) > 0; },
      kStall));
  const size_t megabytes_after = megabytes_in_use();
  const size_t grown = megabytes_after - std::min(megabytes, megabytes_after);
  attack.stop();

  const uint64_t begun =
      total(a, Counter::handshake_initiations_sent) + total(b, Counter::handshake_initiations_sent);
  for (Engine* engine : {&a, &b}) {
    const PeerState state = state_of(*engine);
    CHECK(engine->sessions().size() == 1);
    CHECK(std::memcmp(&state.endpoint, engine == &a ? &near : &far, sizeof near) == 0);
    // Where the machine is busy an end may have begun one more by itself, since nothing came for so long. No
    // other than those the two began was completed.
    CHECK(wait_for([&] { return !state_of(*engine).half_open; }, kStall));
    CHECK(state.handshakes >= (seconds >= 10 ? 2 : 1));
    CHECK(state.handshakes <= begun);
  }
  CHECK(total(a, Counter::endpoint_changes) == a_moved && total(b, Counter::endpoint_changes) == b_moved);
  CHECK(grown <= 3);
  check_drops(a, b, relay);

  const uint64_t sent = attack.sum([](const Attacker& at) { return at.sent_bytes(); });
  CHECK(attack.sum([](const Attacker& at) { return at.answered_bytes(); }) < sent);
  CHECK(attack.sum([](const Attacker& at) { return at.strange_answers(); }) == 0);
  CHECK(attack.sum([](const Attacker& at) { return at.cookies(); }) > 0);
  uint64_t datagrams = 0;
  for (size_t k = 0; k + 1 < kKinds; k++) {
    const uint64_t of_kind = attack.sum([k](const Attacker& at) { return at.sent(static_cast<Kind>(k)); });
    CHECK(of_kind > 0);
    datagrams += of_kind;
  }

  transfer.finish();
  CHECK(!transfer.corrupt());
  CHECK(transfer.verified() == transfer.sent());
  // Both ends still shake hands with each other; no sooner, because a second after the flood they would
  // ask for a cookie first.
  std::this_thread::sleep_for(std::chrono::milliseconds(1500));
  const uint64_t handshakes = total(a, Counter::handshakes_completed);
  CHECK(a.start_handshake(public_key(2)));
  CHECK(wait_for([&] { return total(a, Counter::handshakes_completed) > handshakes; }, kStall));
  std::printf("%llu datagrams in %.1f s against %llu bytes of transfer, %zu MB grown\n",
              static_cast<unsigned long long>(datagrams), seconds,
              static_cast<unsigned long long>(transfer.verified()), grown);
}

double flood_seconds = 2.5;

void a_transfer_survives_every_kind_of_flood() {
  const NetworkNamespace client, server;
  Engine a(settings(1, 2, "floodA"));
  Engine b(settings(2, 2, "floodB"));
  client.adopt("floodA", "10.77.0.1/24");
  server.adopt("floodB", "10.77.0.2/24");
  Path path;
  session::Endpoint endpoint;
  endpoint.remote = loopback(path.near.port());
  b.set_peers({peer(1, "10.77.0.1/32", std::nullopt)});
  a.set_peers({peer(2, "10.77.0.2/32", endpoint)});
  path.start(a.port(), b.port());
  Transfer transfer(client, server, "10.77.0.2");
  flood(a, b, nullptr, path, transfer, flood_seconds);
}

void a_relayed_transfer_survives_every_kind_of_flood() {
  const NetworkNamespace client, server;
  Engine a(settings(1, 2, "floodA"));
  Engine b(settings(2, 1, "floodB"));
  Engine relay(settings(3, 2, nullptr));
  client.adopt("floodA", "10.77.0.1/24");
  server.adopt("floodB", "10.77.0.2/24");
  Path path;
  const omerta_address near = loopback(path.near.port());
  const omerta_address far = loopback(path.far.port());
  const omerta_address at_b = loopback(b.port());
  const omerta_address at_relay = loopback(relay.port());
  CHECK(relay.install_legs(
      {leg(11, OMERTA_LEG_FORWARD, far, at_b, 22), leg(33, OMERTA_LEG_FORWARD, at_b, far, 44)}));
  CHECK(a.install_legs({leg(44, OMERTA_LEG_DELIVER, near, near, 11)}));
  CHECK(b.install_legs({leg(22, OMERTA_LEG_DELIVER, at_relay, at_relay, 33)}));
  b.set_peers({peer(1, "10.77.0.1/32", std::nullopt)});
  a.set_peers({peer(2, "10.77.0.2/32", a.endpoint_of_leg(44))});
  path.start(a.port(), relay.port());
  Transfer transfer(client, server, "10.77.0.2");
  flood(a, b, &relay, path, transfer, flood_seconds);
  CHECK(relay.legs().size() == 2 && a.legs().size() == 1 && b.legs().size() == 1);
  CHECK(relay.sessions().size() == 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) flood_seconds = std::strtod(argv[1], nullptr);
  if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
    std::puts("SKIP: needs root and /dev/net/tun, for network namespaces and interfaces");
    return kSkipped;
  }
  if (sodium_init() < 0) return 1;
  if (unshare(CLONE_NEWNET) != 0) fail("network namespace");
  NetworkNamespace::command("ip link set lo up");
  RUN(a_transfer_survives_every_kind_of_flood);
  RUN(a_relayed_transfer_survives_every_kind_of_flood);
  return omerta::check::finish();
}
