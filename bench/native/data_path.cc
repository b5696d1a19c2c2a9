// SPDX-License-Identifier: Apache-2.0
// The data path under a profiler: two engines in one process and one network namespace of its own, UDP
// super-packets into the TUN interface of the first, sealed, sent over loopback, opened and written to the
// TUN interface of the second. Needs root. Instructions per packet, and of which function:
//
//   valgrind --tool=callgrind build/bench/bench/native/data_path 200         AES-256-GCM where it is to be
//   had valgrind --tool=callgrind build/bench/bench/native/data_path 200 chacha callgrind_annotate
//   --inclusive=yes callgrind.out.PID
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "engine/engine.h"

namespace {

using namespace omerta;
using namespace omerta::engine;

constexpr size_t kPayload = 1392;  // with 28 bytes of headers the inner MTU, 1420
constexpr size_t kSegments = 46;

[[noreturn]] void fail(const char* step) {
  std::perror(step);
  std::exit(1);
}

void bring_loopback_up() {
  const int control = socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP;
  if (ioctl(control, SIOCSIFFLAGS, &request) != 0) fail("lo");
  close(control);
}

EngineSettings settings(uint8_t seed, const char* name, const char* address) {
  EngineSettings s;
  s.private_key.fill(seed);
  s.bind = "127.0.0.1";
  s.max_legs = 16;
  s.max_peers = 16;
  s.tun.emplace();
  s.tun->name = name;
  s.tun->addresses = {address};
  s.tun->mtu = 1420;
  return s;
}

session::PeerSettings peer(uint8_t seed, const char* prefix) {
  session::PeerSettings p;
  Key32 key;
  key.fill(seed);
  p.public_key = session::public_key_of(key);
  p.allowed_ips = {*session::Prefix::parse(prefix)};
  return p;
}

uint64_t total(Engine& engine, Counter counter) {
  uint64_t sum = 0;
  for (size_t i = 0; i <= engine.workers(); i++) sum += engine.counters()[i].get(counter);
  return sum;
}

const char* suite_of(Engine& engine) {
  const char* suite = "no session";
  engine.sessions().for_each([&](session::Peer& p) { suite = crypto::name_of(p.sending()->suite()); });
  return suite;
}

double seconds(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

/// CPU of every thread but this one.
double workers_cpu() { return seconds(CLOCK_PROCESS_CPUTIME_ID) - seconds(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace

int main(int argc, char** argv) {
  const long messages = argc > 1 ? std::atol(argv[1]) : 1000;
  if (unshare(CLONE_NEWNET) != 0) fail("a network namespace of its own");
  bring_loopback_up();
  EngineSettings of_a = settings(1, "omdp0", "10.9.0.1/24");
  of_a.aes_256_gcm = argc < 3;
  Engine a(of_a);
  Engine b(settings(2, "omdp1", "10.9.1.1/24"));
  b.set_peers({peer(1, "10.9.0.1/32")});
  session::PeerSettings to_b = peer(2, "10.9.0.2/32");
  to_b.endpoint.emplace();
  to_b.endpoint->remote.ip[10] = to_b.endpoint->remote.ip[11] = 0xff;
  to_b.endpoint->remote.ip[12] = 127;
  to_b.endpoint->remote.ip[15] = 1;
  to_b.endpoint->remote.port = htons(b.port());
  a.set_peers({to_b});

  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(9);
  to.sin_addr.s_addr = htonl(0x0a090002);
  const int segment = kPayload;
  if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) != 0) fail("UDP_SEGMENT");
  std::vector<uint8_t> data(kPayload * kSegments, 0x5a);
  const auto send_one = [&](uint64_t expected) {
    if (sendto(fd, data.data(), data.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0)
      fail("send");
    while (total(b, Counter::tun_tx_packets) < expected) usleep(20);
  };
  send_one(kSegments);  // the handshake, and the packets that wait for it
  const double before = workers_cpu();
  for (long i = 0; i < messages; i++) send_one(kSegments * static_cast<uint64_t>(i + 2));
  const double packets = static_cast<double>(messages) * kSegments;
  std::printf("%.0f packets of %zu bytes, %s\n", packets, kPayload + 28, suite_of(a));
  std::printf("%.0f ns of CPU a packet for sealing, sending, receiving and opening\n",
              (workers_cpu() - before) * 1e9 / packets);
  std::printf("reads from TUN %llu, writes to TUN %llu\n",
              static_cast<unsigned long long>(total(a, Counter::tun_rx_reads)),
              static_cast<unsigned long long>(total(b, Counter::tun_tx_writes)));
}
