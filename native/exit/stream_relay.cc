// SPDX-License-Identifier: Apache-2.0
#include "exit/stream_relay.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace omerta::exit {
namespace {

/// As much as is moved at once: less costs more calls, more does not stay in the processor's caches.
constexpr std::size_t kChunk = 256 * 1024;
/// So many chunks of one pair, before the others have their turn.
constexpr int kChunksInTurn = 4;

bool is_later(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

/// A descriptor of its own for a TCP socket, which sends what it has at once: whether to gather is up to
/// those whose bytes they are. @throws std::system_error
int own_descriptor(int socket) {
  const int fd = fcntl(socket, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "a descriptor for a joined connection");
  const int on = 1;
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
    const int error = errno;
    close(fd);
    throw std::system_error(error, std::generic_category(), "a joined connection");
  }
  return fd;
}

}  // namespace

struct StreamRelay::End : Watched {
  End(StreamRelay& all, Pair& of, int which) : relay(all), pair(of), index(which) {}
  ~End() override {
    if (fd >= 0) close(fd);  // of a pair that was never begun
  }
  void ready(uint32_t events) override;

  StreamRelay& relay;
  Pair& pair;
  const int index;
};

/// Two connections. A direction has the index of the one it comes from.
struct StreamRelay::Pair {
  uint64_t id = 0;
  std::array<std::unique_ptr<End>, 2> ends;
  std::array<bool, 2> ended{};    ///< nothing more comes, and the other connection was told
  std::array<bool, 2> stalled{};  ///< the other connection takes nothing at present
  Nanoseconds used = 0;
  bool is_over = false;
};

void StreamRelay::End::ready(uint32_t events) {
  // An error is found by who reads or writes.
  const bool failed = (events & (EPOLLERR | EPOLLHUP)) != 0;
  if ((events & EPOLLOUT) != 0 || failed) {
    if (pair.stalled[1 - index]) {
      pair.stalled[1 - index] = false;
      relay.pump(pair, 1 - index);
    }
  }
  if (((events & EPOLLIN) != 0 || failed) && !pair.is_over && !pair.ended[index]) relay.pump(pair, index);
}

StreamRelay::StreamRelay(Ended ended, Nanoseconds idle)
    : ended_(std::move(ended)), idle_(idle), buffer_(kChunk), thread_([this] { run(); }) {}

StreamRelay::~StreamRelay() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  poller_.ring();
  thread_.join();
  while (!pairs_.empty()) end(*pairs_.begin()->second, true, false);
}

uint64_t StreamRelay::join(int a, int b) {
  auto pair = std::make_unique<Pair>();
  for (int i = 0; i < 2; i++) {
    pair->ends[i] = std::make_unique<End>(*this, *pair, i);
    pair->ends[i]->fd = own_descriptor(i == 0 ? a : b);
  }
  pair->used = boot_clock();
  const std::lock_guard lock(mutex_);
  const uint64_t id = pair->id = ++last_pair_;
  requests_.push_back({id, std::move(pair)});
  poller_.ring();
  return id;
}

void StreamRelay::cut(uint64_t pair) {
  const std::lock_guard lock(mutex_);
  requests_.push_back({pair, nullptr});
  poller_.ring();
}

void StreamRelay::run() {
  tidied_ = boot_clock();
  const Nanoseconds tidy_every = std::max<Nanoseconds>(idle_ / 8, 1);
  for (;;) {
    pollfd ready{poller_.descriptor(), POLLIN, 0};
    poll(&ready, 1, static_cast<int>(std::min<Nanoseconds>(tidy_every / kMillisecond + 1, 60'000)));
    poller_.quiet();
    {
      const std::lock_guard lock(mutex_);
      if (stopped_) return;
    }
    take_requests();
    poller_.poll();
    over_.clear();
    const Nanoseconds now = boot_clock();
    if (now - tidied_ >= tidy_every) end_idle(now);
  }
}

void StreamRelay::take_requests() {
  std::vector<Request> taken;
  {
    const std::lock_guard lock(mutex_);
    taken.swap(requests_);
  }
  for (Request& request : taken) {
    if (request.begun) {
      Pair& pair = *request.begun;
      pairs_.emplace(request.pair, std::move(request.begun));
      watch(pair);
    } else if (const auto found = pairs_.find(request.pair); found != pairs_.end()) {
      end(*found->second, true, false);
    }
  }
}

/// Moves what came from one connection to the other. It is read without being taken (MSG_PEEK), and as much
/// as the other took is then discarded (MSG_TRUNC, tcp(7)): so nothing of a slow one is ever kept here.
void StreamRelay::pump(Pair& pair, int from) {
  const int source = pair.ends[from]->fd, target = pair.ends[1 - from]->fd;
  for (int turn = 0; turn < kChunksInTurn; turn++) {
    const ssize_t got = recv(source, buffer_.data(), buffer_.size(), MSG_PEEK | MSG_DONTWAIT);
    if (got < 0 && is_later(errno)) break;
    if (got < 0) return end(pair, true, true);
    if (got == 0) {
      if (shutdown(target, SHUT_WR) != 0) return end(pair, true, true);
      pair.ended[from] = true;
      if (pair.ended[1 - from]) return end(pair, false, true);
      break;
    }
    const ssize_t sent =
        send(target, buffer_.data(), static_cast<std::size_t>(got), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && !is_later(errno)) return end(pair, true, true);
    if (sent > 0) {
      pair.used = boot_clock();
      const auto taken = static_cast<std::size_t>(sent);
      if (recv(source, buffer_.data(), taken, MSG_TRUNC | MSG_DONTWAIT) != sent) return end(pair, true, true);
    }
    if (sent < got) {
      pair.stalled[from] = true;
      break;
    }
    if (static_cast<std::size_t>(got) < buffer_.size()) break;  // there is no more, or epoll says it again
  }
  watch(pair);
}

void StreamRelay::watch(Pair& pair) {
  for (int i = 0; i < 2; i++) {
    uint32_t events = 0;
    if (!pair.ended[i] && !pair.stalled[i]) events |= EPOLLIN;
    if (pair.stalled[1 - i]) events |= EPOLLOUT;
    poller_.watch(*pair.ends[i], events);
  }
}

void StreamRelay::end(Pair& pair, bool is_cut, bool is_told) {
  pair.is_over = true;
  for (auto& each : pair.ends) {
    const linger reset{1, 0};
    if (is_cut) setsockopt(each->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
  const uint64_t id = pair.id;
  for (auto& each : pair.ends) poller_.close(std::move(each));
  over_.push_back(std::move(pairs_.extract(id).mapped()));
  if (is_told) ended_(id, is_cut);
}

void StreamRelay::end_idle(Nanoseconds now) {
  tidied_ = now;
  std::vector<Pair*> idle;
  for (const auto& [id, pair] : pairs_)
    if (now - pair->used >= idle_) idle.push_back(pair.get());
  for (Pair* pair : idle) end(*pair, true, true);
}

}  // namespace omerta::exit
