// SPDX-License-Identifier: Apache-2.0
// The socket by recvmmsg(2) and sendmmsg(2), waiting by epoll(7).
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "common/touched_memory.h"
#include "udp/socket_io.h"

namespace omerta::udp {
namespace {

constexpr size_t kMessageBytes = 65536;
/// What one receive fetches of large messages: sent on while it is still in cache, it costs a tenth less
/// than when a megabyte is fetched first.
constexpr size_t kCachedBytes = size_t{256} << 10;
constexpr size_t kFewestMessages = 4;
constexpr uint32_t kSocketBit = 0;  // of no watched descriptor

class Epoll {
 public:
  Epoll() : fd_(epoll_create1(EPOLL_CLOEXEC)) {
    if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "epoll");
  }
  ~Epoll() { close(fd_); }
  Epoll(const Epoll&) = delete;
  Epoll& operator=(const Epoll&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

class MmsgIo final : public SocketIo {
 public:
  explicit MmsgIo(UdpSocket& socket) : socket_(socket), memory_(kMessages * kMessageBytes) {
    for (size_t i = 0; i < kMessages; i++) {
      vectors_[i] = {memory_.data() + i * kMessageBytes, kMessageBytes};
      msghdr& header = headers_[i].msg_hdr;
      header.msg_iov = &vectors_[i];
      header.msg_iovlen = 1;
      header.msg_name = &addresses_[i];
      header.msg_control = controls_[i].bytes;
    }
    watch(socket.fd(), kSocketBit);
  }
  const char* name() const override { return "mmsg"; }

  void watch(int fd, uint32_t bit) override {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u32 = bit;
    if (epoll_ctl(epoll_.fd(), EPOLL_CTL_ADD, fd, &event) != 0)
      throw std::system_error(errno, std::generic_category(), "epoll");
  }
  void forget(int fd) override { epoll_ctl(epoll_.fd(), EPOLL_CTL_DEL, fd, nullptr); }

  Ready wait(int milliseconds) override {
    epoll_event events[8];
    const int count = epoll_wait(epoll_.fd(), events, 8, milliseconds);
    Ready ready;
    for (int i = 0; i < count; i++) {
      const uint32_t bit = events[i].data.u32;
      if (bit == kSocketBit) {
        ready.socket = true;
        continue;
      }
      ready.readable |= bit;
      if ((events[i].events & EPOLLERR) != 0) ready.failed |= bit;
    }
    return ready;
  }

  std::span<const Message> receive(CounterRow& counters) override {
    for (mmsghdr& header : headers_) {
      header.msg_hdr.msg_namelen = sizeof(sockaddr_storage);
      header.msg_hdr.msg_controllen = sizeof(ReceiveControl);
    }
    const int count = recvmmsg(socket_.fd(), headers_, static_cast<unsigned>(wanted_), MSG_DONTWAIT, nullptr);
    full_ = count == static_cast<int>(wanted_);
    if (count <= 0) return {};
    counters.add(Counter::rx_batches);
    size_t bytes = 0;
    for (size_t i = 0; i < static_cast<size_t>(count); i++) {
      Message& message = messages_[i];
      message.data = static_cast<uint8_t*>(vectors_[i].iov_base);
      message.size = headers_[i].msg_len;
      socket_.read_header(headers_[i].msg_hdr, message, counters);
      bytes += message.size;
    }
    wanted_ = std::clamp(kCachedBytes * static_cast<size_t>(count) / (bytes + 1), kFewestMessages, kMessages);
    return {messages_, static_cast<size_t>(count)};
  }

  bool release() override { return full_; }

  void flush(SendBatch& batch, CounterRow& counters) override {
    mmsghdr* headers = socket_.prepare(batch, counters);
    for (size_t done = 0; done < batch.size();) {
      if (socket_.is_full() || batch.has_extra_ports()) [[unlikely]] {
        socket_.send_message(batch, done++, counters);
        continue;
      }
      const int sent = sendmmsg(socket_.fd(), headers + done, static_cast<unsigned>(batch.size() - done),
                                MSG_NOSIGNAL | MSG_DONTWAIT);
      counters.add(Counter::tx_batches);
      if (sent > 0)
        done += static_cast<size_t>(sent);
      else if (errno == EAGAIN)
        socket_.set_full();
      else if (errno != EINTR)
        socket_.send_refused(batch, done++, errno, counters);
    }
    socket_.finish(batch);
  }

 private:
  UdpSocket& socket_;
  TouchedMemory memory_;
  Epoll epoll_;
  mmsghdr headers_[kMessages]{};
  iovec vectors_[kMessages]{};
  sockaddr_storage addresses_[kMessages]{};
  ReceiveControl controls_[kMessages]{};
  Message messages_[kMessages];
  size_t wanted_ = kMessages;  ///< most messages the next receive fetches
  bool full_ = false;          ///< the last receive may have left something
};

}  // namespace

std::unique_ptr<SocketIo> make_mmsg_io(UdpSocket& socket) { return std::make_unique<MmsgIo>(socket); }

}  // namespace omerta::udp
