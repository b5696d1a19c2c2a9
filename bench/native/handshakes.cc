// SPDX-License-Identifier: Apache-2.0
// Handshakes of many peers with one WireGuard interface, at a rate below what makes it ask for cookies:
// what is wanted is the CPU that answering one takes, and the interface's process accounts for that.
//
//   handshakes --config --count N          the [Peer] sections of the N peers, for `wg addconf`
//   handshakes --netns PATH --to IP --port N --public-key HEX --count N --rate N
//     one initiation of each of the first N peers; every response is opened. Prints one line of JSON.
#include <getopt.h>
#include <poll.h>
#include <sodium.h>

#include <vector>

#include "crypto/blake2s.h"
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
      const uint64_t due = start + i * kSecond / rate;
      const timespec until{static_cast<time_t>(due / kSecond), static_cast<long>(due % kSecond)};
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

}  // namespace

int main(int argc, char** argv) {
  if (sodium_init() < 0) return 1;
  enum { config, netns, to, port, public_key, count, rate };
  static const option names[] = {{"config", no_argument, nullptr, config},
                                 {"netns", required_argument, nullptr, netns},
                                 {"to", required_argument, nullptr, to},
                                 {"port", required_argument, nullptr, port},
                                 {"public-key", required_argument, nullptr, public_key},
                                 {"count", required_argument, nullptr, count},
                                 {"rate", required_argument, nullptr, rate},
                                 {}};
  bool printing = false;
  std::string in, address = "127.0.0.1";
  uint16_t at = 0;
  uint32_t peers = 1;
  uint64_t per_second = 100;
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
      default:
        return 2;
    }
  }
  if (printing) {
    print_config(peers);
    return 0;
  }
  enter(in);
  Run run(ipv4(address.c_str(), at), responder, peers);
  run.run(per_second);
}
