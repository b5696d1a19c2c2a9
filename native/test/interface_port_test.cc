// SPDX-License-Identifier: Apache-2.0
// An engine whose port follows its interface, in a network namespace of its own.
#include <sched.h>
#include <sodium.h>
#include <unistd.h>

#include <cstdlib>

#include "check.h"
#include "engine_fixture.h"

namespace {

using namespace omerta;
using namespace omerta::engine;
using namespace omerta::check;

constexpr int kSkipped = 77;

bool run(const char* command) { return std::system(command) == 0; }

EngineSettings following(uint8_t seed, uint16_t port, size_t workers) {
  EngineSettings s = settings(seed, workers);
  s.port = port;
  s.port_follows_interface = true;
  s.tun.emplace();
  s.tun->name = "omport0";
  s.tun->up = false;
  return s;
}

bool is_bound(uint16_t port) {
  udp::SocketOptions options;
  options.bind = "127.0.0.1";
  options.port = port;
  try {
    const udp::UdpSocket socket(options);
    return false;
  } catch (const std::system_error&) {
    return true;
  }
}

/// Takes the interface down and up until the port is bound ahead: a watch that a busy machine let see
/// neither has nothing to do.
bool is_bound_after_down_and_up(uint16_t port) {
  for (int tries = 0; tries < 20; tries++) {
    CHECK(run("ip link set omport0 down"));
    usleep(50'000);
    CHECK(run("ip link set omport0 up"));
    for (int i = 0; i < 100; i++) {
      if (is_bound(port)) return true;
      usleep(10'000);
    }
  }
  return false;
}

void a_handshake_that_comes_before_the_control_thread_knows_of_the_interface_is_answered() {
  for (const size_t workers : {size_t{1}, size_t{2}}) {
    const uint16_t port = 7311;
    Engine b(following(2, port, workers));
    b.set_peers({peer(1, std::nullopt)});
    Engine a(settings(1));
    session::Endpoint at;
    at.remote = loopback(port);
    a.set_peers({peer(2, at)});
    CHECK(!is_bound(port));
    CHECK(run("ip link set omport0 up"));
    CHECK(wait_for([&] { return is_bound(port); }));
    CHECK(a.send_control(public_key(2), kMessage));
    usleep(100'000);
    CHECK(total(b, Counter::rx_datagrams) == 0);  // nobody has opened the port yet
    const auto begin = std::chrono::steady_clock::now();
    b.open_port();
    CHECK(wait_for([&] { return total(b, Counter::control_messages) == 1; }));
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(4900));  // a repetition: 5 s
    CHECK(run("ip link set omport0 down"));
    b.close_port();
    CHECK(wait_for([&] { return !is_bound(port); }));
    // One that was bound and not opened is given up, too, and another port counts at once.
    CHECK(is_bound_after_down_and_up(port));
    b.rebind(port + 1);
    CHECK(!is_bound(port));
    b.open_port();
    CHECK(is_bound(port + 1) && b.port() == port + 1);
    b.close_port();
    CHECK(is_bound_after_down_and_up(port + 1));
    CHECK(run("ip link set omport0 down"));
    CHECK(wait_for([&] { return !is_bound(port + 1); }));
  }
}

}  // namespace

int main() {
  if (sodium_init() < 0) return 1;
  if (unshare(CLONE_NEWNET) != 0 || !run("ip link set lo up") || access("/dev/net/tun", R_OK | W_OK) != 0) {
    std::printf("SKIP: a TUN interface in a network namespace needs root\n");
    return kSkipped;
  }
  RUN(a_handshake_that_comes_before_the_control_thread_knows_of_the_interface_is_answered);
  return omerta::check::finish();
}
