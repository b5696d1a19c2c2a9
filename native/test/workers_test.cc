// SPDX-License-Identifier: Apache-2.0
// Several workers on one port: who gets what, and what happens while they all work at once. Sockets and
// threads are real; no TUN, no privilege.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sodium.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <deque>
#include <random>

#include "check.h"
#include "engine_fixture.h"
#include "udp/socket_io.h"

namespace {

using namespace omerta;
using namespace omerta::check;

constexpr size_t kWorkers = 4;

/// A UDP socket on loopback that the test reads itself.
class Wire {
 public:
  Wire()
      : socket_([] {
          udp::SocketOptions options;
          options.bind = "127.0.0.1";
          options.gro = false;
          return options;
        }()) {}
  uint16_t port() const { return socket_.port(); }
  void send(uint16_t port, Bytes datagram) {
    socket_.send_one(loopback(port), {}, datagram.data(), datagram.size(), 0);
  }
  /// The next datagram and the port it came from; nothing when none comes within 10 ms.
  std::optional<std::pair<uint16_t, std::vector<uint8_t>>> receive() {
    uint8_t bytes[2048];
    sockaddr_in6 from{};
    socklen_t size = sizeof from;
    const timeval patience{0, 10'000};
    setsockopt(socket_.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    const ssize_t got =
        recvfrom(socket_.fd(), bytes, sizeof bytes, 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 0) return std::nullopt;
    return std::pair{__builtin_bswap16(from.sin6_port), std::vector(bytes, bytes + got)};
  }

 private:
  udp::UdpSocket socket_;
};

std::vector<uint8_t> transport(uint32_t index) {
  std::vector<uint8_t> datagram(64);
  datagram[0] = session::kTransportType;
  store(datagram.data() + 4, index);
  return datagram;
}

std::vector<uint8_t> forward_frame(uint32_t leg_id) {
  std::vector<uint8_t> datagram(64);
  datagram[0] = OMERTA_FRAME_MAGIC;
  datagram[1] = OMERTA_KIND_FORWARD;
  datagram[2] = OMERTA_HOP_LIMIT_DEFAULT;
  store(datagram.data() + 4, leg_id);
  return datagram;
}

constexpr auto kUnknownLeg =
    static_cast<Counter>(static_cast<size_t>(Counter::kDropReasons) + size_t{OMERTA_DROP_UNKNOWN_LEG});

/// How often each worker counted something.
std::vector<uint64_t> by_worker(Engine& engine, Counter counter) {
  std::vector<uint64_t> counts;
  for (size_t i = 0; i < engine.workers(); i++) counts.push_back(engine.counters()[i].get(counter));
  return counts;
}

/// Sends each datagram from three addresses and returns how many each worker got.
std::vector<uint64_t> spread(Engine& engine, const std::vector<std::vector<uint8_t>>& datagrams,
                             Counter counter) {
  const std::vector<uint64_t> before = by_worker(engine, counter);
  uint64_t sum = 3 * datagrams.size();
  for (const uint64_t count : before) sum += count;
  Wire senders[3];
  for (Wire& sender : senders)
    for (const auto& datagram : datagrams) sender.send(engine.port(), datagram);
  CHECK(wait_for([&] { return total(engine, counter) == sum; }));
  std::vector<uint64_t> counts = by_worker(engine, counter);
  for (size_t i = 0; i < counts.size(); i++) counts[i] -= before[i];
  return counts;
}

/// The worker of an id by the rule in udp/steering.h: the four bytes as they lie, big-endian, modulo.
size_t worker_of(uint32_t id) { return __builtin_bswap32(id) % kWorkers; }

void a_session_or_leg_stays_with_one_worker_whoever_sends() {
  Engine engine(settings(1, kWorkers));
  CHECK(engine.steering().on);
  std::mt19937 random(1);
  for (int bindings = 0; bindings < 3; bindings++) {
    std::vector<std::vector<uint8_t>> packets, frames;
    std::vector<uint64_t> expected(kWorkers, 0);
    for (int i = 0; i < 60; i++) {
      const auto id = static_cast<uint32_t>(random() | 1);
      packets.push_back(transport(id));
      frames.push_back(forward_frame(id));
      expected[worker_of(id)] += 3;
    }
    CHECK(spread(engine, packets, Counter::drop_unknown_index) == expected);
    CHECK(spread(engine, frames, kUnknownLeg) == expected);
    // Every binding makes a group of sockets anew: their order must be the workers' again.
    if (bindings == 0) engine.rebind(0);
    if (bindings == 1) {
      engine.close_port();
      engine.open_port();
    }
  }
}

void what_belongs_to_no_session_goes_by_its_addresses() {
  Engine engine(settings(1, kWorkers));
  // Handshakes, and what is too short to hold an index: one sender, one worker, whatever they say.
  std::vector<std::vector<uint8_t>> handshakes, scraps;
  for (int i = 0; i < 40; i++) {
    std::vector<uint8_t> initiation(OMERTA_WIREGUARD_INITIATION_SIZE);
    randombytes_buf(initiation.data(), initiation.size());
    store(initiation.data(), session::kInitiationType);
    handshakes.push_back(initiation);
  }
  scraps.assign(40, {4, 0, 0, 0, 1});
  const auto used = [](const std::vector<uint64_t>& counts) {
    return std::ranges::count_if(counts, [](uint64_t count) { return count != 0; });
  };
  const auto whole = [](const std::vector<uint64_t>& counts) {
    return std::ranges::all_of(counts, [](uint64_t count) { return count % 40 == 0; });
  };
  const auto by_handshake = spread(engine, handshakes, Counter::drop_bad_mac1);
  const auto malformed = static_cast<Counter>(static_cast<size_t>(Counter::kDropReasons) +
                                              size_t{OMERTA_DROP_MALFORMED_WIREGUARD});
  const auto by_scrap = spread(engine, scraps, malformed);
  CHECK(whole(by_handshake) && whole(by_scrap) && used(by_handshake) <= 3 && used(by_scrap) <= 3);
}

void without_steering_packets_go_by_their_addresses() {
  EngineSettings plain = settings(1, kWorkers);
  plain.steering = false;
  Engine engine(plain);
  CHECK(!engine.steering().on && engine.steering().reason.code == "switched-off");
  std::vector<std::vector<uint8_t>> packets;
  for (uint32_t i = 1; i <= 40; i++) packets.push_back(transport(i * 0x01010101));
  for (const uint64_t count : spread(engine, packets, Counter::drop_unknown_index)) CHECK(count % 40 == 0);
  CHECK(!Engine(settings(1, 1)).steering().on);
}

void many_sessions_run_through_several_workers_at_once() {
  constexpr uint8_t kPeers = 6;
  constexpr int kMessages = 300;
  Engine hub(settings(1, kWorkers));
  std::deque<Engine> spokes;
  for (uint8_t i = 0; i < kPeers; i++) {
    const auto seed = static_cast<uint8_t>(10 + i);
    hub.set_peers({peer(seed, std::nullopt)});
    Engine& spoke = spokes.emplace_back(settings(seed));
    spoke.set_peers({peer(1, direct(hub))});
    CHECK(spoke.send_control(public_key(1), kMessage));
  }
  // Every session stands before the rush: of what is staged for one, only 128 would be kept.
  CHECK(wait_for([&] { return total(hub, Counter::control_messages) == kPeers; }));
  std::vector<std::thread> senders;
  std::atomic<int> accepted{0};
  for (Engine& spoke : spokes)
    senders.emplace_back([&spoke, &accepted] {
      for (int i = 0; i < kMessages; i++) {
        accepted += spoke.send_control(public_key(1), kMessage) ? 1 : 0;
        if (i % 20 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
    });
  // Meanwhile the hub is reconfigured.
  for (int i = 0; i < 50; i++) {
    hub.set_peers({peer(60, std::nullopt)});
    hub.remove_peers({public_key(60)});
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  for (std::thread& sender : senders) sender.join();
  CHECK(accepted == kPeers * kMessages);
  CHECK(wait_for([&] { return total(hub, Counter::control_messages) == kPeers * (kMessages + 1); }));
  CHECK(total(hub, Counter::drop_replayed) == 0 && total(hub, Counter::drop_unknown_index) == 0);
}

void the_port_is_remembered_while_it_is_closed_and_sessions_end() {
  Engine a(settings(1, 2));
  Engine b(settings(2));
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, direct(b))});
  CHECK(a.send_control(public_key(2), kMessage));
  CHECK(wait_for([&] { return total(b, Counter::control_messages) == 1; }));
  const uint16_t port = a.port();
  a.close_port();
  a.close_port();
  CHECK(a.socket() == nullptr && a.port() == port);
  {
    udp::SocketOptions taken;
    taken.bind = "127.0.0.1";
    taken.port = port;
    const udp::UdpSocket other(taken);  // it is free
    bool refused = false;
    try {
      a.open_port();
    } catch (const std::system_error& error) {
      refused = error.code().value() == EADDRINUSE;
    }
    CHECK(refused && a.socket() == nullptr);
  }
  a.sessions().for_each([](session::Peer& known) { CHECK(known.current.load() == nullptr); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the next timestamp has to be a later one
  a.open_port();
  CHECK(a.port() == port && a.socket() != nullptr);
  CHECK(a.send_control(public_key(2), kMessage));
  CHECK(wait_for([&] { return total(b, Counter::control_messages) == 2; }));
  CHECK(total(b, Counter::handshakes_completed) == 2);
  a.close_port();
  a.rebind(0);
  CHECK(a.port() == 0);
  a.open_port();
  CHECK(a.port() != 0);
}

/// The timestamp in the next initiation that public_key(1) sends to the wire of seed 2; nullopt: none came.
std::optional<session::Timestamp> next_timestamp(Wire& responder) {
  Key32 key;
  key.fill(2);
  const session::LocalIdentity self(key);
  const session::RemoteIdentity initiator(self, public_key(1));
  const auto datagram = responder.receive();
  if (!datagram.has_value() || datagram->second.size() != sizeof(session::Initiation)) return std::nullopt;
  const auto message = load<session::Initiation>(datagram->second.data());
  std::optional<session::ReceivedInitiation> opened = session::open_initiation_static(self, message);
  if (!opened.has_value() || opened->static_key != public_key(1)) return std::nullopt;
  return session::open_initiation_timestamp(initiator, *opened, message);
}

session::PeerSettings peer_at(const Wire& wire) {
  session::PeerSettings known = peer(2, session::Endpoint{});
  known.endpoint->remote = loopback(wire.port());
  return known;
}

void a_handshake_does_not_tell_the_exact_clock() {
  Engine engine(settings(1));
  Wire responder;
  engine.set_peers({peer_at(responder)});
  engine.start_handshake(public_key(2));
  const auto stamp = next_timestamp(responder);
  CHECK(stamp.has_value());
  if (!stamp.has_value()) return;
  // TAI64N: seconds since 1970 plus 2^62 + 10, then nanoseconds, both big-endian.
  const uint64_t seconds = __builtin_bswap64(load<uint64_t>(stamp->data())) - 0x400000000000000aULL;
  const uint32_t nanoseconds = __builtin_bswap32(load<uint32_t>(stamp->data() + 8));
  const auto now = static_cast<uint64_t>(time(nullptr));
  CHECK(seconds + 20 >= now && seconds <= now + 1);
  CHECK((nanoseconds & 0xffffff) == 0 && nanoseconds < 1'000'000'000);
}

/// 100 in less than 1.7 s, which is what 100 steps take; over the end of a second, too.
void the_timestamp_of_each_initiation_is_later_than_the_one_before() {
  Engine engine(settings(1));
  Wire responder;
  std::optional<session::Timestamp> before;
  for (int i = 0; i < 100; i++) {
    engine.remove_peers({public_key(2)});  // a new peer does not wait for REKEY_TIMEOUT
    engine.set_peers({peer_at(responder)});
    engine.start_handshake(public_key(2));
    const auto stamp = next_timestamp(responder);
    CHECK(stamp.has_value() && (!before.has_value() || *stamp > *before));
    if (stamp.has_value()) CHECK(__builtin_bswap32(load<uint32_t>(stamp->data() + 8)) < 1'000'000'000);
    before = stamp;
  }
}

void the_largest_datagrams_of_every_kind_are_dropped() {
  Engine engine(settings(1, 2));
  Wire wire;
  std::vector<uint8_t> datagram(65507);
  uint64_t sent = 0;
  for (const uint32_t first : {1u, 2u, 3u, 4u, 5u, 0x0801016fu, 0x0100u, 0xffffffffu})
    for (const size_t size : {datagram.size(), datagram.size() - 1, size_t{65000}}) {
      randombytes_buf(datagram.data(), size);
      store(datagram.data(), first);
      wire.send(engine.port(), Bytes(datagram.data(), size));
      sent++;
    }
  CHECK(wait_for([&] { return total(engine, Counter::rx_datagrams) == sent; }));
  uint64_t dropped_by_reason = total(engine, Counter::drop_unknown_index);
  CHECK(wait_for([&] {
    dropped_by_reason = total(engine, Counter::drop_unknown_index);
    for (size_t i = 0; i < OMERTA_DROP_REASON_COUNT; i++)
      dropped_by_reason += dropped(engine, static_cast<omerta_drop_reason>(i));
    return dropped_by_reason == sent;
  }));
  CHECK(total(engine, Counter::tx_datagrams) == 0);
}

/// Between a node and its relay: whatever one sends goes to the other, and what the node sends is kept.
class Tap {
 public:
  void between(uint16_t node, uint16_t relay) {
    node_ = node;
    relay_ = relay;
  }
  uint16_t port() const { return wire_.port(); }
  void pump() {
    while (auto datagram = wire_.receive()) {
      const bool from_node = datagram->first == node_;
      if (from_node) kept.push_back(datagram->second);
      wire_.send(from_node ? relay_ : node_, datagram->second);
    }
  }
  void replay() {
    for (const auto& datagram : kept) wire_.send(relay_, datagram);
  }
  /// The messages inside, without their frames.
  void replay_messages(uint16_t to) {
    for (const auto& datagram : kept)
      wire_.send(to, std::vector<uint8_t>(datagram.begin() + OMERTA_FRAME_HEADER_SIZE, datagram.end()));
  }
  std::vector<std::vector<uint8_t>> kept;

 private:
  Wire wire_;
  uint16_t node_ = 0;
  uint16_t relay_ = 0;
};

void relay_path_replays_are_neither_forwarded_nor_delivered_nor_followed() {
  Engine a(settings(1));
  Engine b(settings(2, 2));
  Engine r(settings(3, 2));
  Tap tap;
  tap.between(a.port(), r.port());
  const auto at = [](const auto& e) { return loopback(e.port()); };
  CHECK(r.install_legs({leg(11, OMERTA_LEG_FORWARD, 1, at(tap), at(b), 22, 2),
                        leg(33, OMERTA_LEG_FORWARD, 3, at(b), at(tap), 44, 4)}));
  CHECK(a.install_legs({leg(44, OMERTA_LEG_DELIVER, 4, at(tap), at(tap), 11, 1)}));
  CHECK(b.install_legs({leg(22, OMERTA_LEG_DELIVER, 2, at(r), at(r), 33, 3)}));
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, a.endpoint_of_leg(44))});
  for (int i = 0; i < 20; i++) CHECK(a.send_control(public_key(2), kMessage));
  CHECK(wait_for([&] {
    tap.pump();
    return total(b, Counter::control_messages) == 20;
  }));
  const auto endpoint = [&b] {
    session::Endpoint seen;
    b.sessions().for_each([&](session::Peer& known) { seen = known.endpoint(); });
    return seen;
  };
  CHECK(endpoint().receive_leg == 22);
  // The node is heard of directly: its endpoint moves.
  session::PeerSettings moving = peer(2, direct(b));
  moving.redirect = true;
  a.set_peers({moving});
  CHECK(a.send_control(public_key(2), kMessage));
  CHECK(wait_for([&] { return total(b, Counter::control_messages) == 21; }));
  CHECK(wait_for([&] { return !endpoint().relayed(); }));
  const session::Endpoint moved = endpoint();
  // Everything the relay was sent comes once more: its leg has let it through before.
  // Something else may still be on its way, so these are lower bounds; what must not happen is exact.
  const uint64_t forwarded = total(r, Counter::forwarded_packets);
  const uint32_t repeated = r.refused(11);
  tap.replay();
  CHECK(wait_for([&] { return r.refused(11) >= repeated + tap.kept.size(); }));
  CHECK(total(r, Counter::forwarded_packets) == forwarded);
  // And the messages inside go straight to the end, by way of no leg.
  const auto refused = [&b] {
    return total(b, Counter::drop_replayed) + total(b, Counter::drop_replayed_initiation) +
           total(b, Counter::drop_handshake_rate) + total(b, Counter::drop_unknown_index);
  };
  const uint64_t refused_before = refused();
  const uint64_t changes = total(b, Counter::endpoint_changes);
  tap.replay_messages(b.port());
  CHECK(wait_for([&] { return refused() >= refused_before + tap.kept.size(); }));
  CHECK(total(b, Counter::drop_replayed) >= 20);
  CHECK(total(b, Counter::control_messages) == 21 && total(b, Counter::endpoint_changes) == changes);
  CHECK(endpoint().same_path(moved));
}

/// From now on, in every thread of this process.
bool refuse_io_uring_enter() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_enter, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

/// Both engines' rings fail at once, while messages cross; whether everything is as it should be after.
bool survives_the_loss_of_its_rings() {
  Engine a(settings(1, 2)), b(settings(2, 2));
  b.set_peers({peer(1, std::nullopt)});
  a.set_peers({peer(2, direct(b))});
  const auto crosses = [&] {
    const uint64_t before = total(b, Counter::control_messages);
    return wait_for([&] {
      a.send_control(public_key(2), kMessage);
      return total(b, Counter::control_messages) >= before + 10;
    });
  };
  bool right = crosses() && std::string_view(a.io_name()) == "io_uring";
  right = right && refuse_io_uring_enter() && crosses();
  for (Engine* engine : {&a, &b}) {
    // A worker that has nothing to do notices when it has.
    right = right && wait_for([&] { return std::string_view(engine->io_name()) == "mmsg"; }) &&
            engine->accelerators().state(Accelerator::io_uring) == AcceleratorState::demoted &&
            total(*engine, Counter::accelerators_demoted) == 1;
  }
  return right && crosses() && total(b, Counter::handshakes_completed) == 1;
}

/// The process that is forked has the fault.
void a_ring_that_fails_is_given_up_and_the_sessions_go_on() {
  const pid_t child = fork();
  if (child == 0) _exit(survives_the_loss_of_its_rings() ? 0 : 1);
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  with_each_io([] {
    RUN(a_session_or_leg_stays_with_one_worker_whoever_sends);
    RUN(what_belongs_to_no_session_goes_by_its_addresses);
    RUN(without_steering_packets_go_by_their_addresses);
    RUN(many_sessions_run_through_several_workers_at_once);
    RUN(the_port_is_remembered_while_it_is_closed_and_sessions_end);
    RUN(a_handshake_does_not_tell_the_exact_clock);
    RUN(the_timestamp_of_each_initiation_is_later_than_the_one_before);
    RUN(the_largest_datagrams_of_every_kind_are_dropped);
    RUN(relay_path_replays_are_neither_forwarded_nor_delivered_nor_followed);
    if (wanted_io == udp::IoWanted::io_uring) RUN(a_ring_that_fails_is_given_up_and_the_sessions_go_on);
  });
  return omerta::check::finish();
}
