// SPDX-License-Identifier: Apache-2.0
// Where the flood test happens. Both engines have their UDP sockets in one network namespace; their TUN
// interfaces are moved to one of their own each, so that a TCP connection between the two has to go
// through the tunnel. What goes from one engine to the other passes a Path: somebody who sees all of it,
// keeps some of it, and does not keep its order.
//
//   client ns             ┌─────────── outside ────────────┐             server ns
//   TCP ── TUN ── engine A ── Path ── [relay engine] ── engine B ── TUN ── TCP
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "loopback.h"

namespace omerta::flood {

using Datagram = std::vector<uint8_t>;

inline uint64_t splitmix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t word() { return splitmix64(state_++); }
  size_t below(size_t bound) { return static_cast<size_t>(word() % bound); }
  void fill(uint8_t* out, size_t size) {
    for (size_t at = 0; at < size; at += 8) {
      const uint64_t next = word();
      std::memcpy(out + at, &next, std::min<size_t>(8, size - at));
    }
  }

 private:
  uint64_t state_;
};

[[noreturn]] inline void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

/// A network namespace that lives as long as this object.
class NetworkNamespace {
 public:
  NetworkNamespace() {
    std::thread([this] {
      if (unshare(CLONE_NEWNET) == 0) fd_ = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    }).join();
    if (fd_ < 0) fail("new network namespace");
  }
  ~NetworkNamespace() { close(fd_); }
  NetworkNamespace(const NetworkNamespace&) = delete;
  NetworkNamespace& operator=(const NetworkNamespace&) = delete;

  /// Runs `work` on a thread that is in here.
  void run(const std::function<void()>& work) const {
    std::thread([&] {
      if (setns(fd_, CLONE_NEWNET) == 0) work();
    }).join();
  }

  /// Takes an interface out of the caller's namespace and gives it an address.
  void adopt(const std::string& interface, const std::string& address) const {
    command("ip link set dev " + interface + " netns /proc/" + std::to_string(getpid()) + "/fd/" +
            std::to_string(fd_));
    run([&] {
      command("ip address add " + address + " dev " + interface);
      command("ip link set dev " + interface + " mtu 1420 up");
    });
  }

  static void command(const std::string& text) {
    if (std::system(text.c_str()) != 0) throw std::runtime_error("failed: " + text);
  }

 private:
  int fd_ = -1;
};

inline sockaddr_in loopback_socket_address(uint8_t host, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(0x7f000000u | host);
  address.sin_port = htons(port);
  return address;
}

/// A UDP socket on 127.0.0.HOST.
class UdpEnd {
 public:
  explicit UdpEnd(uint8_t host) : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const int buffer = 4 << 20;
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    sockaddr_in address = loopback_socket_address(host, 0);
    socklen_t size = sizeof address;
    if (fd_ < 0 || bind(fd_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      fail("UDP socket");
    port_ = ntohs(address.sin_port);
  }
  ~UdpEnd() { close(fd_); }
  UdpEnd(const UdpEnd&) = delete;
  UdpEnd& operator=(const UdpEnd&) = delete;

  int fd() const { return fd_; }
  uint16_t port() const { return port_; }

  /// Sends all of them to 127.0.0.1:port in one system call after another.
  void send(std::vector<Datagram>& datagrams, uint16_t port) const {
    sockaddr_in to = loopback_socket_address(1, port);
    std::vector<iovec> vectors(datagrams.size());
    std::vector<mmsghdr> headers(datagrams.size());
    for (size_t i = 0; i < datagrams.size(); i++) {
      vectors[i] = {datagrams[i].data(), datagrams[i].size()};
      headers[i].msg_hdr.msg_name = &to;
      headers[i].msg_hdr.msg_namelen = sizeof to;
      headers[i].msg_hdr.msg_iov = &vectors[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
    for (size_t done = 0; done < headers.size();) {
      const int sent = sendmmsg(fd_, headers.data() + done, static_cast<unsigned>(headers.size() - done), 0);
      done += sent > 0 ? static_cast<size_t>(sent) : 1;
    }
  }

  /// What is there now, at most 64.
  std::vector<Datagram> receive() {
    iovec vectors[kBatch];
    mmsghdr headers[kBatch]{};
    for (size_t i = 0; i < kBatch; i++) {
      vectors[i] = {memory_.data() + i * kSlot, kSlot};
      headers[i].msg_hdr.msg_iov = &vectors[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
    const int count = recvmmsg(fd_, headers, kBatch, MSG_DONTWAIT, nullptr);
    std::vector<Datagram> out;
    for (int i = 0; i < count; i++) {
      const uint8_t* data = memory_.data() + static_cast<size_t>(i) * kSlot;
      out.emplace_back(data, data + headers[i].msg_len);
    }
    return out;
  }

 private:
  static constexpr size_t kBatch = 64;
  static constexpr size_t kSlot = 2048;
  int fd_;
  uint16_t port_ = 0;
  std::vector<uint8_t> memory_ = std::vector<uint8_t>(kBatch * kSlot);
};

/// Hands datagrams on between two engines, some of them late and some twice, and remembers the first ones.
class Path {
 public:
  /// What engine A takes for its peer's address, and what the other side takes for A's.
  UdpEnd near{1};
  UdpEnd far{1};

  void start(uint16_t a_port, uint16_t other_port) {
    ports_[0] = a_port;
    ports_[1] = other_port;
    thread_ = std::thread([this] { run(); });
  }
  ~Path() {
    running_ = false;
    if (thread_.joinable()) thread_.join();
  }
  Path() = default;
  Path(const Path&) = delete;
  Path& operator=(const Path&) = delete;

  /// Keeps what it has for the attackers: handshakes and the beginning of the transfer. Later ones may be
  /// lost on the way in the throng, and would be no replays when they come from elsewhere.
  void remember_no_more() {
    const std::lock_guard lock(mutex_);
    remembering_ = false;
  }
  /// After remember_no_more(): a datagram that went to A (`to_a`) or to the other side.
  const Datagram& captured(bool to_a, Random& random) const {
    const std::vector<Datagram>& seen = seen_[to_a ? 0 : 1];
    return seen.at(random.below(seen.size()));
  }

 private:
  static constexpr size_t kRemembered = 512;
  static constexpr size_t kHeld = 64;

  void run() {
    Random random(42);
    while (running_) {
      pollfd wait[2] = {{near.fd(), POLLIN, 0}, {far.fd(), POLLIN, 0}};
      const int ready = poll(wait, 2, 1);
      hand_on(near, far, 1, ready == 0, random);
      hand_on(far, near, 0, ready == 0, random);
    }
  }

  /// From one socket to the other, towards ports_[side]; when all is quiet what was held back goes, too.
  void hand_on(UdpEnd& from, UdpEnd& to, size_t side, bool quiet, Random& random) {
    std::vector<Datagram> out;
    std::vector<Datagram>& held = held_[side];
    for (Datagram& datagram : from.receive()) {
      if (random.below(8) == 0 && held.size() < kHeld)
        held.push_back(std::move(datagram));
      else
        out.push_back(std::move(datagram));
      if (!held.empty() && random.below(16) == 0) {
        std::swap(held[random.below(held.size())], held.back());
        out.push_back(std::move(held.back()));
        held.pop_back();
      }
    }
    if (quiet) {
      for (Datagram& datagram : held) out.push_back(std::move(datagram));
      held.clear();
    }
    if (!out.empty() && random.below(4) == 0) out.push_back(out[random.below(out.size())]);
    to.send(out, ports_[side]);
    const std::lock_guard lock(mutex_);
    std::vector<Datagram>& seen = seen_[side];
    for (const Datagram& datagram : out)
      if (remembering_ && seen.size() < kRemembered) seen.push_back(datagram);
  }

  uint16_t ports_[2]{};
  std::atomic<bool> running_{true};
  std::vector<Datagram> held_[2];
  std::mutex mutex_;
  bool remembering_ = true;
  std::vector<Datagram> seen_[2];
  std::thread thread_;
};

/// A TCP connection between two namespaces that never runs out of bytes, every one of them checked.
class Transfer {
 public:
  Transfer(const NetworkNamespace& client, const NetworkNamespace& server, const char* server_address) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(5001);
    inet_pton(AF_INET, server_address, &address.sin_addr);
    int listener = -1;
    server.run([&] {
      listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
          listen(listener, 1) != 0) {
        close(listener);
        listener = -1;
      }
    });
    if (listener < 0) fail("TCP listener");
    client.run([&] { sending_fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); });
    if (connect(sending_fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("TCP connect");
    receiving_fd_ = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    close(listener);
    if (receiving_fd_ < 0) fail("TCP accept");
    const timeval wait{0, 50'000};
    setsockopt(sending_fd_, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    sender_ = std::thread([this] { send_all(); });
    receiver_ = std::thread([this] { receive_all(); });
  }
  ~Transfer() { finish(); }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  /// Bytes that arrived and are the right ones.
  uint64_t verified() const { return verified_; }
  uint64_t sent() const { return sent_; }
  bool corrupt() const { return corrupt_; }

  /// Ends the stream and waits for its last byte.
  void finish() {
    if (sender_.joinable()) {
      stopping_ = true;
      sender_.join();
      receiver_.join();
      close(sending_fd_);
      close(receiving_fd_);
    }
  }

 private:
  static constexpr size_t kChunk = 65536;

  /// The stream's words from word `first` on.
  static void fill(std::vector<uint64_t>& words, uint64_t first) {
    for (size_t i = 0; i < words.size(); i++) words[i] = splitmix64(first + i);
  }

  void send_all() {
    std::vector<uint64_t> words(kChunk / 8);
    const auto* bytes = reinterpret_cast<const uint8_t*>(words.data());
    for (uint64_t sent = 0; !stopping_;) {
      fill(words, sent / 8);
      for (size_t at = 0; at < kChunk && !stopping_;) {
        const ssize_t got = ::send(sending_fd_, bytes + at, kChunk - at, MSG_NOSIGNAL);
        if (got < 0 && errno != EAGAIN && errno != EINTR) return;
        if (got <= 0) continue;
        at += static_cast<size_t>(got);
        sent_ = sent += static_cast<size_t>(got);
      }
    }
    shutdown(sending_fd_, SHUT_WR);
  }

  void receive_all() {
    std::vector<uint8_t> buffer(kChunk);
    std::vector<uint64_t> words(kChunk / 8 + 2);
    for (uint64_t at = 0;;) {
      const ssize_t got = recv(receiving_fd_, buffer.data(), buffer.size(), 0);
      if (got <= 0) return;
      fill(words, at / 8);
      const auto* expected = reinterpret_cast<const uint8_t*>(words.data()) + at % 8;
      if (std::memcmp(buffer.data(), expected, static_cast<size_t>(got)) != 0) corrupt_ = true;
      verified_ = at += static_cast<uint64_t>(got);
    }
  }

  int sending_fd_ = -1;
  int receiving_fd_ = -1;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> corrupt_{false};
  std::atomic<uint64_t> sent_{0};
  std::atomic<uint64_t> verified_{0};
  std::thread sender_;
  std::thread receiver_;
};

}  // namespace omerta::flood
