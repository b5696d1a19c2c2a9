// SPDX-License-Identifier: Apache-2.0
// The socket by io_uring(7): a multishot receive that fills provided buffers, sends submitted together,
// the socket a registered file. Work of the ring runs only inside io_uring_enter (DEFER_TASKRUN), so
// nothing interrupts the worker between batches. Needs Linux 6.1.
//
// Terms
//   provided buffer  memory lent to the kernel for one message; comes back with a completion
//   hold             a reason why a buffer may not be lent again yet: its message is being worked on,
//                    or a zero-copy send reads from it
//   notification     second completion of a zero-copy send: the kernel is done with the memory
#include <liburing.h>
#include <poll.h>

#include <cerrno>
#include <system_error>

#include "common/touched_memory.h"
#include "udp/socket_io.h"

namespace omerta::udp {
namespace {

// Linux 6.2, missing in liburing 2.3.
constexpr uint16_t kReportUsage = 1u << 3;          // IORING_SEND_ZC_REPORT_USAGE
constexpr uint32_t kNotificationCopied = 1u << 31;  // IORING_NOTIF_USAGE_ZC_COPIED

/// A power of two. They are used in turn, so more of them are also more that is not in cache: at 64
/// coalesced datagrams cost 12 % more than at 32. Beside a full receive, half wait for notifications.
constexpr unsigned kBuffers = 32;
constexpr size_t kAtOnce = kBuffers / 2;  ///< handed out by one receive
static_assert(kAtOnce <= SocketIo::kMessages);
constexpr unsigned kSubmissions = 2 * SendBatch::kMessages;
constexpr unsigned kCompletions = 512;  // more than can be under way: receives, sends, notifications
constexpr uint16_t kGroup = 0;
constexpr size_t kNameBytes = 32;  // a sockaddr_in6, rounded up
constexpr size_t kHeaderBytes = sizeof(io_uring_recvmsg_out) + kNameBytes + sizeof(ReceiveControl);
constexpr size_t kBufferBytes = 66 * 1024;
static_assert(kHeaderBytes + 65536 <= kBufferBytes);

// user_data of a request: what it is, and which message or buffer.
constexpr uint64_t kReceive = uint64_t{1} << 32;
constexpr uint64_t kSend = uint64_t{2} << 32;
constexpr uint64_t kZeroCopy = uint64_t{3} << 32;
constexpr uint64_t kWatch = uint64_t{4} << 32;
constexpr uint64_t kWhat = ~uint64_t{0xffffffff};

/// A copy costs as much at 20 KiB; from here on zero-copy saves a tenth (2-core EPYC VM, 1,300-byte
/// segments).
constexpr size_t kZeroCopyBytes = 24 * 1024;
/// Zero-copy sends that turned out to be copied, in a row, before it is given up for a while: the way
/// out is a device that copies (loopback, veth).
constexpr unsigned kCopiedInARow = 8;
constexpr unsigned kZeroCopyPause = 1 << 16;  // messages

[[noreturn]] void fail(int error, const char* step) {
  throw std::system_error(error, std::generic_category(), step);
}

class Ring {
 public:
  Ring() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                   IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    params.cq_entries = kCompletions;
    const int result = io_uring_queue_init_params(kSubmissions, &ring_, &params);
    if (result < 0) fail(-result, "io_uring_setup");
  }
  ~Ring() { io_uring_queue_exit(&ring_); }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  io_uring* get() { return &ring_; }

 private:
  io_uring ring_{};
};

class IoUringIo final : public SocketIo {
 public:
  explicit IoUringIo(UdpSocket& socket)
      : socket_(socket), buffer_ring_(kBuffers * sizeof(io_uring_buf)), memory_(kBuffers * kBufferBytes) {
    const int fd = socket.fd();
    if (const int result = io_uring_register_files(ring(), &fd, 1); result < 0)
      fail(-result, "io_uring registered file");
    io_uring_buf_reg group{};
    group.ring_addr = reinterpret_cast<uintptr_t>(buffer_ring_.data());
    group.ring_entries = kBuffers;
    group.bgid = kGroup;
    if (const int result = io_uring_register_buf_ring(ring(), &group, 0); result < 0)
      fail(-result, "io_uring provided buffers");
    // Zero-copy pays only from memory that is pinned once; the limit of locked memory may forbid that.
    const iovec all{memory_.data(), memory_.size()};
    pinned_ = io_uring_register_buffers(ring(), &all, 1) == 0;
    io_uring_buf_ring_init(buffers());
    for (unsigned i = 0; i < kBuffers; i++) lend(i);
    publish_lent();
    shape_.msg_namelen = kNameBytes;
    shape_.msg_controllen = sizeof(ReceiveControl);
  }

  void start() override {
    if (const int result = io_uring_enable_rings(ring()); result < 0) fail(-result, "io_uring enable");
    io_uring_register_ring_fd(ring());  // spares a look-up each call; an old kernel goes without
  }

  void stop() override {
    // Not left to the closing of the ring: that goes on in the background, and holds the port.
    io_uring_sync_cancel_reg all{};
    all.flags = IORING_ASYNC_CANCEL_ANY;
    all.timeout = {-1, -1};
    io_uring_register_sync_cancel(ring(), &all);
    io_uring_get_events(ring());
    drain();
    io_uring_unregister_files(ring());
    io_uring_unregister_ring_fd(ring());
  }

  const char* name() const override { return "io_uring"; }
  void watch(int fd, uint32_t bit) override { watched_[watched_count_++] = {fd, bit, false}; }
  void forget(int fd) override {
    for (Watched& watched : watched_)
      if (watched.fd == fd) watched.bit = 0;
  }

  Ready wait(int milliseconds) override {
    // One-shot polls, armed anew here: that looks at the descriptor too, so nothing is missed.
    for (uint32_t i = 0; i < watched_count_; i++) {
      if (watched_[i].armed || watched_[i].bit == 0) continue;
      io_uring_sqe* sqe = next_sqe();
      io_uring_prep_poll_add(sqe, watched_[i].fd, POLLIN);
      sqe->user_data = kWatch | i;
      watched_[i].armed = true;
    }
    arm();
    if (ready_count_ == 0 && found_.readable == 0 && io_uring_cq_ready(ring()) == 0) sleep(milliseconds);
    drain();
    Ready ready = found_;
    ready.socket = ready_count_ != 0;
    found_ = {};
    return ready;
  }

  std::span<const Message> receive(CounterRow& counters) override {
    if (ready_count_ < kAtOnce) {
      if (work_waits()) enter(0);
      drain();
    }
    for (; handed_out_ < kAtOnce && ready_count_ != 0; ready_count_--) {
      const Arrived& ready = ready_[ready_first_++ % kBuffers];
      if (read(ready, messages_[handed_out_], counters))
        handed_[handed_out_++] = ready.buffer;
      else
        let_go(ready.buffer);
    }
    if (handed_out_ != 0) counters.add(Counter::rx_batches);
    return {messages_, handed_out_};
  }

  bool release() override {
    for (size_t i = 0; i < handed_out_; i++) let_go(handed_[i]);
    handed_out_ = 0;
    publish_lent();
    arm();
    return ready_count_ != 0 || io_uring_cq_ready(ring()) != 0 || work_waits();
  }

  void flush(SendBatch& batch, CounterRow& counters) override {
    mmsghdr* headers = socket_.prepare(batch, counters);
    const size_t count = batch.size();
    if (socket_.is_full() || batch.has_extra_ports()) [[unlikely]] {
      for (size_t i = 0; i < count; i++) socket_.send_message(batch, i, counters);
      socket_.finish(batch);
      return;
    }
    for (size_t i = 0; i < count; i++) submit(headers[i].msg_hdr, i, counters);
    while (sends_under_way_ != 0) {
      counters.add(Counter::tx_batches);
      enter(1);
      drain();
    }
    for (size_t i = 0; i < count; i++) {
      if (results_[i] >= 0) continue;
      if (results_[i] == -EAGAIN) {
        socket_.set_full();
        socket_.send_message(batch, i, counters);
        continue;
      }
      if (zero_copy_[i]) {
        // A kernel before 6.15, a device without scatter-gather: an ordinary send will do.
        pause_zero_copy();
        if (sendmsg(socket_.fd(), &headers[i].msg_hdr, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) continue;
        results_[i] = -errno;
      }
      socket_.send_refused(batch, i, -results_[i], counters);
    }
    counters.add(Counter::tx_zero_copy_copied, copied_);
    copied_ = 0;
    socket_.finish(batch);
  }

 private:
  struct Arrived {
    uint16_t buffer;
    uint32_t size;
  };

  io_uring* ring() { return ring_.get(); }
  io_uring_buf_ring* buffers() { return reinterpret_cast<io_uring_buf_ring*>(buffer_ring_.data()); }
  uint8_t* buffer(unsigned index) { return memory_.data() + index * kBufferBytes; }

  void lend(unsigned index) {
    io_uring_buf_ring_add(buffers(), buffer(index), kBufferBytes, static_cast<uint16_t>(index),
                          io_uring_buf_ring_mask(kBuffers), static_cast<int>(unpublished_++));
    lent_++;
  }
  void publish_lent() {
    if (unpublished_ != 0) io_uring_buf_ring_advance(buffers(), static_cast<int>(unpublished_));
    unpublished_ = 0;
  }
  void let_go(unsigned index) {
    if (--holds_[index] == 0) lend(index);
  }

  io_uring_sqe* next_sqe() {
    for (;;) {
      io_uring_sqe* sqe = io_uring_get_sqe(ring());
      if (sqe != nullptr) return sqe;
      enter(0);
      drain();
    }
  }

  /// Prepares the receive if it has ended. Without a buffer it could not go on: then a notification
  /// brings one first.
  void arm() {
    if (armed_ || lent_ == 0) return;
    io_uring_sqe* sqe = next_sqe();
    io_uring_prep_recvmsg_multishot(sqe, 0, &shape_, 0);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = kGroup;
    sqe->user_data = kReceive;
    armed_ = true;
  }

  /// Whether the kernel waits for an enter to run the ring's work: receives, mostly.
  bool work_waits() {
    return (__atomic_load_n(ring()->sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_TASKRUN) != 0;
  }

  void sleep(int milliseconds) {
    __kernel_timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
    io_uring_cqe* cqe = nullptr;
    const int result =
        io_uring_submit_and_wait_timeout(ring(), &cqe, 1, milliseconds < 0 ? nullptr : &time, nullptr);
    if (result < 0 && result != -ETIME) check(result);
  }

  /// Submits what is prepared and lets the ring's work run; waits for `completions`.
  void enter(unsigned completions) {
    const int result = completions == 0 ? io_uring_submit_and_get_events(ring())
                                        : io_uring_submit_and_wait(ring(), completions);
    if (result < 0) check(result);
  }
  /// Short of memory or of room for completions: whoever called drains and comes again.
  static void check(int result) {
    if (result != -EINTR && result != -EAGAIN && result != -EBUSY) fail(-result, "io_uring_enter");
  }

  void drain() {
    unsigned head = 0;
    unsigned seen = 0;
    io_uring_cqe* cqe = nullptr;
    io_uring_for_each_cqe(ring(), head, cqe) {
      seen++;
      const auto index = static_cast<uint32_t>(cqe->user_data);
      switch (cqe->user_data & kWhat) {
        case kReceive:
          received(*cqe);
          break;
        case kWatch:
          watched_[index].armed = false;
          found_.readable |= watched_[index].bit;
          if (cqe->res < 0 || (cqe->res & POLLERR) != 0) found_.failed |= watched_[index].bit;
          break;
        case kSend:
          results_[index] = cqe->res;
          sends_under_way_--;
          break;
        case kZeroCopy:
          zero_copied(*cqe, index);
          break;
      }
    }
    io_uring_cq_advance(ring(), seen);
  }

  void received(const io_uring_cqe& cqe) {
    // Without MORE the receive is over: no buffer was left (ENOBUFS), or it was cancelled.
    if ((cqe.flags & IORING_CQE_F_MORE) == 0) armed_ = false;
    if ((cqe.flags & IORING_CQE_F_BUFFER) == 0) return;
    const auto index = static_cast<uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
    lent_--;
    holds_[index] = 1;
    ready_[(ready_first_ + ready_count_++) % kBuffers] = {index,
                                                          cqe.res < 0 ? 0 : static_cast<uint32_t>(cqe.res)};
  }

  bool read(const Arrived& ready, Message& message, CounterRow& counters) {
    uint8_t* start = buffer(ready.buffer);
    const auto* out = reinterpret_cast<const io_uring_recvmsg_out*>(start);
    if (ready.size < kHeaderBytes) return false;
    message.data = start + kHeaderBytes;
    message.size = ready.size - kHeaderBytes;
    msghdr header{};
    header.msg_name = start + sizeof *out;
    header.msg_namelen = out->namelen;
    header.msg_control = start + sizeof *out + kNameBytes;
    header.msg_controllen = out->controllen;
    socket_.read_header(header, message, counters);
    return true;
  }

  void submit(const msghdr& header, size_t index, CounterRow& counters) {
    io_uring_sqe* sqe = next_sqe();
    zero_copy_[index] = may_zero_copy(header);
    if (zero_copy_[index]) {
      const auto held = static_cast<unsigned>(
          static_cast<size_t>(static_cast<uint8_t*>(header.msg_iov->iov_base) - memory_.data()) /
          kBufferBytes);
      io_uring_prep_sendmsg_zc(sqe, 0, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
      sqe->ioprio |= kReportUsage | IORING_RECVSEND_FIXED_BUF;
      sqe->buf_index = 0;
      sqe->user_data = kZeroCopy | held << 8 | index;
      holds_[held]++;
      counters.add(Counter::tx_zero_copy);
    } else {
      io_uring_prep_sendmsg(sqe, 0, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
      sqe->user_data = kSend | index;
    }
    sqe->flags |= IOSQE_FIXED_FILE;
    sends_under_way_++;
  }

  /// Only what lies in a provided buffer: that can be kept until the notification. The worker's other
  /// memory is its own again after flush.
  bool may_zero_copy(const msghdr& header) {
    if (!pinned_ || header.msg_iovlen != 1 || header.msg_iov->iov_len < kZeroCopyBytes) return false;
    const auto* at = static_cast<const uint8_t*>(header.msg_iov->iov_base);
    if (at < memory_.data() || at >= memory_.data() + memory_.size()) return false;
    if (zero_copy_pause_ == 0) return true;
    zero_copy_pause_--;
    return false;
  }
  void pause_zero_copy() {
    zero_copy_pause_ = kZeroCopyPause;
    copied_in_a_row_ = 0;
  }

  void zero_copied(const io_uring_cqe& cqe, uint32_t index) {
    const unsigned held = index >> 8;
    if ((cqe.flags & IORING_CQE_F_NOTIF) != 0) {
      if ((static_cast<uint32_t>(cqe.res) & kNotificationCopied) == 0) {
        copied_in_a_row_ = 0;
      } else {
        copied_++;
        if (++copied_in_a_row_ == kCopiedInARow) pause_zero_copy();
      }
      let_go(held);
      return;
    }
    results_[index & 0xff] = cqe.res;
    sends_under_way_--;
    if ((cqe.flags & IORING_CQE_F_MORE) == 0) let_go(held);  // no notification follows
  }

  UdpSocket& socket_;
  TouchedMemory buffer_ring_;
  TouchedMemory memory_;
  Ring ring_;  // after the memory the kernel may still use: it goes first
  struct Watched {
    int fd;
    uint32_t bit;  ///< 0: forgotten
    bool armed;
  };
  Watched watched_[8]{};
  uint32_t watched_count_ = 0;
  Ready found_{};  ///< watched descriptors whose completions came since the last wait
  msghdr shape_{};
  bool armed_ = false;
  unsigned lent_ = 0;
  unsigned unpublished_ = 0;
  uint8_t holds_[kBuffers]{};
  Arrived ready_[kBuffers]{};
  unsigned ready_first_ = 0;
  unsigned ready_count_ = 0;
  Message messages_[kAtOnce];
  unsigned handed_[kAtOnce]{};
  size_t handed_out_ = 0;
  size_t sends_under_way_ = 0;
  int results_[SendBatch::kMessages]{};
  bool pinned_ = false;
  bool zero_copy_[SendBatch::kMessages]{};
  unsigned zero_copy_pause_ = 0;
  unsigned copied_in_a_row_ = 0;
  uint64_t copied_ = 0;
};

}  // namespace

std::unique_ptr<SocketIo> make_io_uring_io(UdpSocket& socket) { return std::make_unique<IoUringIo>(socket); }

}  // namespace omerta::udp
