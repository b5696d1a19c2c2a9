// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <cerrno>
#include <new>

#include "udp/socket_io.h"

namespace omerta::udp {
namespace {

constexpr size_t kMessageBytes = 65536;

uint8_t* map_touched(size_t bytes) {
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<uint8_t*>(memory);
}

class MmsgIo final : public SocketIo {
 public:
  explicit MmsgIo(UdpSocket& socket) : socket_(socket), memory_(map_touched(kMessages * kMessageBytes)) {
    for (size_t i = 0; i < kMessages; i++) {
      vectors_[i] = {memory_ + i * kMessageBytes, kMessageBytes};
      msghdr& header = headers_[i].msg_hdr;
      header.msg_iov = &vectors_[i];
      header.msg_iovlen = 1;
      header.msg_name = &addresses_[i];
      header.msg_control = controls_[i].bytes;
    }
  }
  ~MmsgIo() override { munmap(memory_, kMessages * kMessageBytes); }

  int poll_fd() const override { return socket_.fd(); }

  std::span<const Message> receive(CounterRow& counters) override {
    for (mmsghdr& header : headers_) {
      header.msg_hdr.msg_namelen = sizeof(sockaddr_storage);
      header.msg_hdr.msg_controllen = sizeof(ReceiveControl);
    }
    const int count = recvmmsg(socket_.fd(), headers_, kMessages, MSG_DONTWAIT, nullptr);
    if (count <= 0) return {};
    counters.add(Counter::rx_batches);
    for (size_t i = 0; i < static_cast<size_t>(count); i++) {
      Message& message = messages_[i];
      message.data = static_cast<uint8_t*>(vectors_[i].iov_base);
      message.size = headers_[i].msg_len;
      socket_.read_header(headers_[i].msg_hdr, message, counters);
    }
    return {messages_, static_cast<size_t>(count)};
  }

  void flush(SendBatch& batch, CounterRow& counters) override {
    mmsghdr* headers = socket_.prepare(batch, counters);
    for (size_t done = 0; done < batch.size();) {
      const int sent =
          sendmmsg(socket_.fd(), headers + done, static_cast<unsigned>(batch.size() - done), MSG_NOSIGNAL);
      counters.add(Counter::tx_batches);
      if (sent > 0)
        done += static_cast<size_t>(sent);
      else if (errno != EINTR)
        socket_.send_refused(batch, done++, errno, counters);
    }
    socket_.finish(batch);
  }

 private:
  UdpSocket& socket_;
  uint8_t* memory_;
  mmsghdr headers_[kMessages]{};
  iovec vectors_[kMessages]{};
  sockaddr_storage addresses_[kMessages]{};
  ReceiveControl controls_[kMessages]{};
  Message messages_[kMessages];
};

}  // namespace

std::unique_ptr<SocketIo> make_mmsg_io(UdpSocket& socket) { return std::make_unique<MmsgIo>(socket); }

}  // namespace omerta::udp
