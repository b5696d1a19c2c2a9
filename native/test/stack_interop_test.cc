// SPDX-License-Identifier: Apache-2.0
// Linux at the other end of our own TCP: a guest in a network namespace, whose packets go by a TUN interface
// to an exit's stack, and from there by sockets to a server in another namespace. Both directions at once,
// whole (SHA-256 of what was sent and of what arrived), over a network that loses, delays and reorders.
//
//   stack_interop_test [TIMES [PART]]    so many times the bytes, only the transfers whose name has PART in
//   it
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <future>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "check.h"
#include "exit/machine_socket.h"
#include "exit/stack_port.h"
#include "inner/segmentation.h"
#include "tun/tun_device.h"
#include "tun/tun_port.h"

namespace {

using namespace omerta;
using namespace omerta::check;

constexpr int kSkipped = 77;
constexpr int kPatienceSeconds = 60;

bool run(const std::string& command) { return std::system((command + " 2>/dev/null").c_str()) == 0; }

using Hash = std::array<uint8_t, 32>;

/// Bytes that a seed makes, and their hash.
struct Stream {
  explicit Stream(uint64_t seed) : random(seed) { crypto_hash_sha256_init(&state); }
  void fill(uint8_t* out, size_t size) {
    for (size_t i = 0; i < size; i += 8) {
      const uint64_t word = random();
      std::memcpy(out + i, &word, std::min<size_t>(8, size - i));
    }
    add(out, size);
  }
  void add(const uint8_t* data, size_t size) { crypto_hash_sha256_update(&state, data, size); }
  Hash hash() {
    Hash out;
    crypto_hash_sha256_final(&state, out.data());
    return out;
  }
  std::mt19937_64 random;
  crypto_hash_sha256_state state;
};

struct Sums {
  Hash sent{}, received{};
  size_t bytes = 0;
  bool ended = false;
};

/// Sends so much and reads until the other end has finished, both at once; half-closes when all is sent.
Sums exchange(int fd, uint64_t seed, size_t bytes) {
  Sums sums;
  std::thread writer([&] {
    Stream stream(seed);
    std::vector<uint8_t> block(100'000);
    for (size_t done = 0; done < bytes;) {
      const size_t size = std::min(block.size(), bytes - done);
      stream.fill(block.data(), size);
      for (size_t at = 0; at < size;) {
        const ssize_t sent = send(fd, block.data() + at, size - at, MSG_NOSIGNAL);
        if (sent <= 0) return;
        at += static_cast<size_t>(sent);
      }
      done += size;
    }
    sums.sent = stream.hash();
    shutdown(fd, SHUT_WR);
  });
  Stream stream(0);
  std::vector<uint8_t> block(200'000);
  for (;;) {
    const ssize_t got = recv(fd, block.data(), block.size(), 0);
    if (got <= 0) {
      sums.ended = got == 0;
      if (got < 0) std::fprintf(stderr, "recv: %s\n", std::strerror(errno));
      break;
    }
    stream.add(block.data(), static_cast<size_t>(got));
    sums.bytes += static_cast<size_t>(got);
  }
  writer.join();
  sums.received = stream.hash();
  return sums;
}

void be_patient(int fd) {
  const timeval time{kPatienceSeconds, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

struct Case {
  const char* name;
  bool offloads;
  double loss;  ///< in either direction, as are the next two
  double reordering;
  Nanoseconds delay;
  size_t up, down;
  bool v6;
};

/// The network between the stack and the guest, and the thread that runs the stack.
class Link {
 public:
  Link(exit::StackPort& port, tun::TunPort& tun, const Case& how) : port_(port), tun_(tun), how_(how) {}

  void run(const std::atomic<bool>& stop) {
    while (!stop) {
      const Nanoseconds now = boot_clock();
      int wait = 50;
      if (!late_.empty())
        wait = late_.begin()->first <= now
                   ? 0
                   : static_cast<int>((late_.begin()->first - now) / kMillisecond) + 1;
      pollfd fds[2] = {{tun_.descriptor(), POLLIN, 0}, {port_.descriptor(), POLLIN, 0}};
      poll(fds, 2, std::min(wait, 50));
      for (int i = 0; i < 64; i++) {
        const std::span<const inner::Received> got = tun_.receive();
        if (got.empty()) break;
        carry(got[0], port_);
      }
      for (int i = 0; i < 64; i++) {
        const std::span<const inner::Received> got = port_.receive();
        if (got.empty()) break;
        if (got[0].header->gso_type != inner::kGsoNone) super_packets++;
        carry(got[0], tun_);
      }
      for (const Nanoseconds then = boot_clock(); !late_.empty() && late_.begin()->first <= then;) {
        const auto& [to, packet] = late_.begin()->second;
        to->send_one(packet.data(), packet.size());
        late_.erase(late_.begin());
      }
    }
  }
  size_t super_packets = 0;

 private:
  void carry(const inner::Received& packet, inner::Port& to) {
    if (how_.delay == 0) {
      const iovec parts[2] = {
          {const_cast<inner::VirtioNetHeader*>(packet.header), sizeof(inner::VirtioNetHeader)},
          {packet.data, packet.size}};
      const inner::Gathered gathered = parts;
      to.send({&gathered, 1});
      return;
    }
    inner::Segmentation segments(*packet.header, packet.data, packet.size);
    CHECK(segments.valid());
    const Nanoseconds now = boot_clock();
    for (size_t i = 0; i < segments.count(); i++) {
      if (chance() < how_.loss) continue;
      std::vector<uint8_t> out(segments.size(i));
      segments.write(i, out.data());
      const Nanoseconds delay = how_.delay + (chance() < how_.reordering ? how_.delay / 2 : 0);
      late_.emplace(now + delay, std::pair(&to, std::move(out)));
    }
  }
  double chance() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  exit::StackPort& port_;
  tun::TunPort& tun_;
  const Case& how_;
  std::mt19937_64 random_{4};
  std::multimap<Nanoseconds, std::pair<inner::Port*, std::vector<uint8_t>>> late_;
};

const stack::Address kServer4 = [] {
  const uint8_t bytes[4] = {198, 51, 100, 1};
  return stack::address_of(bytes, 4);
}();
const stack::Address kServer6 = [] {
  const uint8_t bytes[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return stack::address_of(bytes, 16);
}();
const stack::Address kGuest4 = [] {
  const uint8_t bytes[4] = {10, 9, 0, 2};
  return stack::address_of(bytes, 4);
}();
const stack::Address kGuest6 = [] {
  const uint8_t bytes[16] = {0xfd, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
  return stack::address_of(bytes, 16);
}();

int listener(const stack::Address& address, uint16_t& port) {
  const int fd = socket(stack::is_ipv4(address) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_storage at;
  socklen_t size = exit::to_system(address, 0, at);
  if (bind(fd, reinterpret_cast<sockaddr*>(&at), size) != 0 || listen(fd, 16) != 0) return -1;
  getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size);
  exit::from_system(at, port);
  return fd;
}

int connect_to(const stack::Address& address, uint16_t port) {
  const int fd = socket(stack::is_ipv4(address) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  be_patient(fd);
  sockaddr_storage to;
  const socklen_t size = exit::to_system(address, port, to);
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), size) == 0) return fd;
  const int error = errno;
  close(fd);
  return -error;
}

std::atomic<bool> is_done = false;
void done() {
  is_done = true;
  is_done.notify_all();
}

/// A guest in a network namespace of its own, on a thread of its own; what it does is given.
template <class Do>
void with_guest(const Case& how, Do act) {
  std::promise<tun::TunDevice*> made;
  std::promise<void> over;
  std::thread guest([&] {
    if (unshare(CLONE_NEWNET) != 0) return made.set_value(nullptr);
    tun::TunSettings settings;
    settings.name = "omstack0";
    settings.addresses = {"10.9.0.2/24", "fd09::2/64"};
    settings.checksum_offload = settings.tcp_offload = settings.udp_offload = how.offloads;
    tun::TunDevice device(settings);
    run("ip link set lo up");
    run("ip route add default dev omstack0");
    run("ip -6 route add default dev omstack0");
    made.set_value(&device);
    act();
    over.get_future().wait();
  });
  tun::TunDevice* device = made.get_future().get();
  CHECK(device != nullptr);
  if (device != nullptr) {
    std::atomic<bool> stop = false;
    Key32 key;
    randombytes_buf(key.data(), key.size());
    stack::Settings settings;
    settings.mtu = 1400;
    settings.super_packets = how.offloads;
    exit::ExitPolicy policy;
    policy.permits = [](const exit::Guest&, uint8_t, const stack::Address&, uint16_t port) {
      return port != 25;
    };
    exit::StackPort port(settings, key, policy);
    port.set_guests({{.address = kGuest4, .exit = true}, {.address = kGuest6, .exit = true}});
    tun::TunPort tun(*device, 0);
    Link link(port, tun, how);
    std::thread pump([&] { link.run(stop); });
    is_done.wait(false);
    is_done = false;
    stop = true;
    pump.join();
    CHECK(!how.offloads || how.down < 1'000'000 || how.delay != 0 || link.super_packets > 0);
  }
  over.set_value();
  guest.join();
}

void transfers(const Case& how) {
  TEST(how.name);
  const stack::Address& server = how.v6 ? kServer6 : kServer4;
  uint16_t port = 0;
  const int listening = listener(server, port);
  CHECK(listening >= 0);
  Sums there, here;
  std::thread serving([&] {
    be_patient(listening);
    const int fd = accept(listening, nullptr, nullptr);
    if (fd < 0) return std::perror("accept");
    be_patient(fd);
    there = exchange(fd, 1, how.down);
    close(fd);
  });
  const auto begin = std::chrono::steady_clock::now();
  with_guest(how, [&] {
    const int fd = connect_to(server, port);
    if (fd < 0) std::fprintf(stderr, "connect: %s\n", std::strerror(-fd));
    CHECK(fd >= 0);
    if (fd >= 0) here = exchange(fd, 2, how.up);
    serving.join();  // what the guest sent may still be on its way
    close(fd);
    done();
  });
  close(listening);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  CHECK(here.ended && there.ended);
  CHECK(there.bytes == how.up && here.bytes == how.down);
  CHECK(there.received == here.sent && here.received == there.sent);
  std::printf("%s: %zu bytes up, %zu down, %.2f s\n", how.name, there.bytes, here.bytes, seconds);
}

void refusals() {
  TEST("who cannot be reached is refused before the connection is there");
  const Case how{"", true, 0, 0, 0, 0, 0, false};
  uint16_t closed = 0;
  close(listener(kServer4, closed));
  with_guest(how, [&] {
    CHECK(connect_to(kServer4, closed) == -ECONNREFUSED);
    CHECK(connect_to(kServer4, 25) == -ECONNREFUSED);
    done();
  });
}

void refused_datagrams() {
  TEST("a datagram that nobody takes is refused, of either family");
  const Case how{"", true, 0, 0, 0, 0, 0, false};
  with_guest(how, [&] {
    for (const stack::Address& server : {kServer4, kServer6}) {
      const int family = stack::is_ipv4(server) ? AF_INET : AF_INET6;
      uint16_t nobody = 9;
      const int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
      be_patient(fd);
      sockaddr_storage to;
      const socklen_t size = exit::to_system(server, nobody, to);
      CHECK(connect(fd, reinterpret_cast<sockaddr*>(&to), size) == 0);
      uint8_t byte = 'q';
      CHECK(send(fd, &byte, 1, 0) == 1);
      CHECK(recv(fd, &byte, 1, 0) < 0 && errno == ECONNREFUSED);
      close(fd);
    }
    done();
  });
}

void pings() {
  TEST("a ping goes on and comes back, of either family");
  const std::string open = "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range";
  if (!run(open)) return std::puts("no ping: /proc/sys cannot be written"), void();
  const Case how{"", true, 0, 0, 0, 0, 0, false};
  with_guest(how, [&] {
    CHECK(run(open));
    for (const stack::Address& server : {kServer4, kServer6}) {
      const bool v4 = stack::is_ipv4(server);
      const int fd = exit::ping_socket(server);
      CHECK(fd >= 0);
      fcntl(fd, F_SETFL, 0);
      be_patient(fd);
      sockaddr_storage to;
      const socklen_t size = exit::to_system(server, 0, to);
      std::array<uint8_t, 100> request{};
      request[0] = v4 ? 8 : 128;
      request[7] = 5;  // of a sequence
      request[99] = 'q';
      CHECK(sendto(fd, request.data(), request.size(), 0, reinterpret_cast<sockaddr*>(&to), size) == 100);
      std::array<uint8_t, 200> reply{};
      CHECK(recv(fd, reply.data(), reply.size(), 0) == 100);
      CHECK(reply[0] == (v4 ? 0 : 129) && reply[7] == 5 && reply[99] == 'q');
      close(fd);
    }
    done();
  });
}

void datagrams() {
  TEST("datagrams go and come back, large ones in fragments");
  const Case how{"", true, 0, 0, 0, 0, 0, false};
  const int server = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage at;
  socklen_t size = exit::to_system(kServer4, 0, at);
  CHECK(bind(server, reinterpret_cast<sockaddr*>(&at), size) == 0);
  getsockname(server, reinterpret_cast<sockaddr*>(&at), &size);
  std::thread echo([&] {
    be_patient(server);
    for (int i = 0; i < 2; i++) {
      uint8_t buffer[2000];
      sockaddr_storage from;
      socklen_t from_size = sizeof from;
      const ssize_t got =
          recvfrom(server, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &from_size);
      if (got <= 0) return;
      std::vector<uint8_t> answer(i == 0 ? 10 : 5000, buffer[0]);
      sendto(server, answer.data(), answer.size(), 0, reinterpret_cast<sockaddr*>(&from), from_size);
    }
  });
  with_guest(how, [&] {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    be_patient(fd);
    for (const ssize_t wanted : {10, 5000}) {
      const uint8_t byte = 'q';
      CHECK(sendto(fd, &byte, 1, 0, reinterpret_cast<sockaddr*>(&at), size) == 1);
      uint8_t buffer[6000];
      CHECK(recv(fd, buffer, sizeof buffer, 0) == wanted && buffer[wanted - 1] == 'q');
    }
    close(fd);
    done();
  });
  echo.join();
  close(server);
}

}  // namespace

int main(int count, char** words) {
  if (sodium_init() < 0) return 1;
  // The end of a command would interrupt calls with a timeout.
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  pthread_sigmask(SIG_BLOCK, &children, nullptr);
  if (unshare(CLONE_NEWNET) != 0 || !run("ip link set lo up") || access("/dev/net/tun", R_OK | W_OK) != 0) {
    std::printf("SKIP: a TUN interface in a network namespace needs root\n");
    return kSkipped;
  }
  run("ip addr add 198.51.100.1/32 dev lo");
  run("ip addr add 2001:db8::1/128 dev lo nodad");
  const size_t times = count < 2 ? 1 : std::strtoul(words[1], nullptr, 10);
  if (times == 0) {
    std::fprintf(stderr, "TIMES: a number from 1 on, such as 8\n");
    return 2;
  }
  const size_t some = 1'000'000 * times;
  const Case cases[] = {
      {"super-packets, IPv4", true, 0, 0, 0, 4 * some, 4 * some, false},
      {"super-packets, IPv6", true, 0, 0, 0, 2 * some, 2 * some, true},
      {"single packets", false, 0, 0, 0, some, some, false},
      {"1 % loss, 5 ms, reordering", false, 0.01, 0.05, 5 * kMillisecond, some / 2, some / 2, false},
      {"5 % loss, 20 ms, reordering, super-packets", true, 0.05, 0.1, 20 * kMillisecond, some / 8, some / 8,
       true},
  };
  refusals();
  refused_datagrams();
  pings();
  datagrams();
  for (const Case& how : cases)
    if (count < 3 || std::string(how.name).find(words[2]) != std::string::npos) transfers(how);
  return finish();
}
