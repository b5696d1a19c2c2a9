// SPDX-License-Identifier: Apache-2.0
// Handshakes of many peers with one WireGuard interface, at a rate below what makes it ask for cookies:
// what is wanted is the CPU that answering one takes, and the interface's process accounts for that.
//
//   handshakes --config --count N          the [Peer] sections of the N peers, for `wg addconf`
//   handshakes --netns PATH --to IP --port N --public-key HEX --count N --rate N
//     one initiation of each of the first N peers; every response is opened. Prints one line of JSON.
//   handshakes --netns PATH --to IP --port N --public-key HEX --count N --flood MS
//     as many as are answered: each peer has an address of its own (10.250.0.0/16, which has to be local)
//     and starts anew as soon as it was answered; a cookie is used at once.
#include <getopt.h>
#include <poll.h>
#include <sodium.h>

#include <sys/epoll.h>
#include <sys/resource.h>

#include <vector>

#include "crypto/blake2s.h"
#include "session/cookie.h"
#include "session/noise.h"
#include "sockets.h"

using namespace omerta;
using namespace omerta::bench;

namespace {

constexpr int kQuietMs = 300;

session::LocalIdentity identity_of(uint32_t peer) {
  return session::LocalIdentity(
      crypto::blake2s({Bytes(reinterpret_cast<const uint8_t*>(&peer), sizeof peer)}));
}

void print_config(uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    char key[sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_ORIGINAL)];
    const Key32 public_key = identity_of(i).public_key;
    sodium_bin2base64(key, sizeof key, public_key.data(), public_key.size(), sodium_base64_VARIANT_ORIGINAL);
    std::printf("[Peer]\nPublicKey = %s\nAllowedIPs = 10.%u.%u.%u/32\n", key, 64 + (i >> 16), i >> 8 & 255,
                i & 255);
  }
}

/// TAI64N of this moment, not whitened: every run's are later than the last one's.
session::Timestamp timestamp() {
  timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  session::Timestamp out;
  store(out.data(), __builtin_bswap64(0x400000000000000aULL + static_cast<uint64_t>(t.tv_sec)));
  store(out.data() + 8, __builtin_bswap32(static_cast<uint32_t>(t.tv_nsec)));
  return out;
}

struct Attempt {
  session::LocalIdentity self;
  session::RemoteIdentity remote;
  session::HandshakeState state;
  session::Initiation message;
};

Attempt prepare(uint32_t peer, const Key32& responder) {
  session::LocalIdentity self = identity_of(peer);
  session::RemoteIdentity remote(self, responder);
  Attempt attempt{self, remote, {}, {}};
  Key32 ephemeral;
  randombytes_buf(ephemeral.data(), ephemeral.size());
  if (!session::create_initiation(self, remote, ephemeral, timestamp(), peer, attempt.state,
                                  attempt.message)) {
    std::fputs("handshakes: --public-key is none\n", stderr);
    std::exit(2);
  }
  attempt.message.mac1 = crypto::blake2s_mac(remote.mac1_key, {session::before_mac1(attempt.message)});
  return attempt;
}

class Run {
 public:
  Run(const sockaddr_in& to, const Key32& responder, uint32_t count) : fd_(udp_socket(0, 4 << 20)) {
    if (connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) fail("connect");
    for (uint32_t i = 0; i < count; i++) attempts_.push_back(prepare(i, responder));
  }

  void run(uint64_t rate) {
    const uint64_t start = now();
    for (size_t i = 0; i < attempts_.size(); i++) {
      const uint64_t due = start + i * bench::kSecond / rate;
      const timespec until{static_cast<time_t>(due / bench::kSecond),
                           static_cast<long>(due % bench::kSecond)};
      clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
      if (send(fd_, &attempts_[i].message, sizeof(session::Initiation), 0) < 0) fail("send");
      while (receive(0)) {
      }
    }
    while (receive(kQuietMs)) {
    }
    std::printf("{\"sent\":%zu,\"completed\":%zu,\"cookies\":%zu}\n", attempts_.size(), completed_, cookies_);
  }

 private:
  bool receive(int wait_ms) {
    pollfd wait{fd_, POLLIN, 0};
    if (poll(&wait, 1, wait_ms) != 1) return false;
    session::Response response;
    const ssize_t size = recv(fd_, &response, sizeof response, MSG_TRUNC);
    if (size == sizeof(session::CookieReply)) cookies_++;
    if (size != sizeof response || response.receiver >= attempts_.size()) return true;
    Attempt& attempt = attempts_[response.receiver];
    if (session::consume_response(attempt.self, attempt.remote, response, attempt.state)) completed_++;
    return true;
  }

  int fd_;
  std::vector<Attempt> attempts_;
  size_t completed_ = 0;
  size_t cookies_ = 0;
};

/// One peer of the flood: its messages are made before the clock starts.
struct Flooder {
  int fd = -1;
  std::vector<Attempt> attempts;
  size_t at = 0;
  session::Cookie cookie{};
  bool has_cookie = false;
  uint64_t sent_at = 0;
};

class Flood {
 public:
  Flood(const sockaddr_in& to, const Key32& responder, uint32_t count)
      : to_(to), epoll_(epoll_create1(0)), peers_(count) {
    const rlimit files{count + 64, count + 64};
    setrlimit(RLIMIT_NOFILE, &files);
    for (uint32_t i = 0; i < count; i++) {
      Flooder& peer = peers_[i];
      peer.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      sockaddr_in from{};
      from.sin_family = AF_INET;
      from.sin_addr.s_addr = htonl(0x0afa0000 + i + 1);  // 10.250.0.0
      // Not connected: not every responder answers from the address it was asked at.
      if (peer.fd < 0 || bind(peer.fd, reinterpret_cast<const sockaddr*>(&from), sizeof from) != 0)
        fail("socket of a peer");
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.u32 = i;
      epoll_ctl(epoll_, EPOLL_CTL_ADD, peer.fd, &event);
    }
    // Round by round, so that every peer's timestamps increase.
    for (size_t round = 0; round < kRounds; round++)
      for (uint32_t i = 0; i < count; i++) peers_[i].attempts.push_back(prepare(i, responder));
  }

  void run(uint64_t milliseconds) {
    const uint64_t start = now();
    const uint64_t end = start + milliseconds * 1'000'000;
    size_t next = 0;
    while (now() < end) {
      // Enough on the way to keep the responder busy, and no more than its socket holds.
      while (outstanding_ < kWindow && start_next(next)) {
      }
      epoll_event events[64];
      const int ready = epoll_wait(epoll_, events, 64, 1);
      for (int i = 0; i < ready; i++) receive(peers_[events[i].data.u32]);
      if (ready == 0) forget_lost();
    }
    std::printf("{\"completed\":%zu,\"cookies\":%zu,\"lost\":%zu,\"ns\":%llu}\n", completed_, cookies_, lost_,
                static_cast<unsigned long long>(now() - start));
  }

 private:
  static constexpr size_t kRounds = 20;
  static constexpr size_t kWindow = 100;
  static constexpr uint64_t kLostNs = 300'000'000;

  bool start_next(size_t& next) {
    for (size_t tried = 0; tried < peers_.size(); tried++) {
      Flooder& peer = peers_[next];
      next = (next + 1) % peers_.size();
      if (peer.sent_at != 0 || peer.at == peer.attempts.size()) continue;
      send_current(peer);
      outstanding_++;
      return true;
    }
    return false;
  }

  void send_current(Flooder& peer) {
    session::Initiation& message = peer.attempts[peer.at].message;
    if (peer.has_cookie) message.mac2 = crypto::blake2s_mac(peer.cookie, {session::before_mac2(message)});
    peer.sent_at = now();
    if (sendto(peer.fd, &message, sizeof message, 0, reinterpret_cast<const sockaddr*>(&to_), sizeof to_) < 0)
      fail("send");
  }

  void receive(Flooder& peer) {
    uint8_t bytes[256];
    const ssize_t size = recv(peer.fd, bytes, sizeof bytes, 0);
    if (size <= 0 || peer.sent_at == 0) return;
    Attempt& attempt = peer.attempts[peer.at];
    if (size == sizeof(session::CookieReply)) {
      const auto reply = load<session::CookieReply>(bytes);
      if (!session::open_cookie_reply(attempt.remote.cookie_key, reply, attempt.message.mac1, peer.cookie))
        return;
      peer.has_cookie = true;
      cookies_++;
      send_current(peer);
    } else if (size == sizeof(session::Response)) {
      completed_++;  // who sends what is no answer would be found out by --rate, which opens them
      done(peer);
    }
  }

  void forget_lost() {
    for (Flooder& peer : peers_) {
      if (peer.sent_at == 0 || now() - peer.sent_at < kLostNs) continue;
      lost_++;
      done(peer);
    }
  }

  void done(Flooder& peer) {
    peer.at++;
    peer.sent_at = 0;
    outstanding_--;
  }

  const sockaddr_in to_;
  int epoll_;
  std::vector<Flooder> peers_;
  size_t outstanding_ = 0;
  size_t completed_ = 0;
  size_t cookies_ = 0;
  size_t lost_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (sodium_init() < 0) return 1;
  enum { config, netns, to, port, public_key, count, rate, flood };
  static const option names[] = {{"config", no_argument, nullptr, config},
                                 {"netns", required_argument, nullptr, netns},
                                 {"to", required_argument, nullptr, to},
                                 {"port", required_argument, nullptr, port},
                                 {"public-key", required_argument, nullptr, public_key},
                                 {"count", required_argument, nullptr, count},
                                 {"rate", required_argument, nullptr, rate},
                                 {"flood", required_argument, nullptr, flood},
                                 {}};
  bool printing = false;
  std::string in, address = "127.0.0.1";
  uint16_t at = 0;
  uint32_t peers = 1;
  uint64_t per_second = 100;
  uint64_t flood_ms = 0;
  Key32 responder{};
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    switch (c) {
      case config:
        printing = true;
        break;
      case netns:
        in = optarg;
        break;
      case to:
        address = optarg;
        break;
      case port:
        at = static_cast<uint16_t>(std::strtoul(optarg, nullptr, 10));
        break;
      case public_key:
        sodium_hex2bin(responder.data(), responder.size(), optarg, std::strlen(optarg), nullptr, nullptr,
                       nullptr);
        break;
      case count:
        peers = static_cast<uint32_t>(std::strtoul(optarg, nullptr, 10));
        break;
      case rate:
        per_second = std::strtoull(optarg, nullptr, 10);
        break;
      case flood:
        flood_ms = std::strtoull(optarg, nullptr, 10);
        break;
      default:
        return 2;
    }
  }
  if (printing) {
    print_config(peers);
    return 0;
  }
  enter(in);
  if (flood_ms != 0) {
    Flood(ipv4(address.c_str(), at), responder, peers).run(flood_ms);
    return 0;
  }
  Run run(ipv4(address.c_str(), at), responder, peers);
  run.run(per_second);
}
