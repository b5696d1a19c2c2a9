// SPDX-License-Identifier: Apache-2.0
#include "guest/guest_socket.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <numeric>

#include "common/step_failed.h"

namespace omerta::guest {
namespace {

/// What waits for a guest that does not read: the queue of a slow link.
constexpr size_t kMostWaiting = size_t{256} << 10;
constexpr int kSendBuffer = 1 << 20;
/// Pieces one call may have (IOV_MAX).
constexpr size_t kMostPieces = 1024;

void add(std::atomic<uint64_t>& counter, uint64_t n = 1) {
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);  // one writer
}

size_t size_of(std::span<const iovec> pieces) {
  return std::accumulate(pieces.begin(), pieces.end(), size_t{0},
                         [](size_t sum, const iovec& piece) { return sum + piece.iov_len; });
}

/// Whether a file is a socket nobody listens on: an earlier process left it.
bool is_left(const sockaddr_un& address) {
  struct stat file {};
  if (lstat(address.sun_path, &file) != 0 || !S_ISSOCK(file.st_mode)) return false;
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const bool refused = connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
                       errno == ECONNREFUSED;
  ::close(probe);
  return refused;
}

int listen_at(const std::string& path, mode_t mode) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    throw StepFailed(ENAMETOOLONG, "guest-socket", path);
  std::copy(path.begin(), path.end(), address.sun_path);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (listener < 0) throw StepFailed(errno, "guest-socket", path);
  const auto bound = [&] {
    return bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  };
  bool done = bound();
  if (!done && errno == EADDRINUSE && is_left(address)) {
    unlink(path.c_str());
    done = bound();
  }
  // Nobody can connect before its mode is right: it does not listen yet.
  done = done && chmod(path.c_str(), mode) == 0 && listen(listener, 1) == 0;
  if (done) return listener;
  const int error = errno;
  ::close(listener);
  throw StepFailed(error, "guest-socket", path);
}

bool is_of(int connection, uint32_t uid) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == uid;
}

}  // namespace

GuestSocket::GuestSocket(std::string path, std::optional<uint32_t> uid) : path_(std::move(path)), uid_(uid) {
  // With a user named it is the user that decides: the kernel says who connects.
  listener_ = listen_at(path_, uid_.has_value() ? 0666 : 0600);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  bell_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (const int fd : {listener_, bell_}) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0) continue;
    const int error = errno;
    close();
    throw StepFailed(error, "guest-socket", path_);
  }
}

void GuestSocket::close() {
  if (connection_ >= 0) end_connection();
  if (listener_ >= 0) unlink(path_.c_str());
  for (int* fd : {&listener_, &bell_, &epoll_}) {
    if (*fd >= 0) ::close(*fd);
    *fd = -1;
  }
}

SocketCounts GuestSocket::counts() const {
  const auto of = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  return {of(connected_),  of(connections_),   of(refused_),     of(bad_lengths_),
          of(bytes_read_), of(bytes_written_), of(frames_read_), of(frames_written_)};
}

void GuestSocket::begin_counts() {
  frames_read_.store(0, std::memory_order_relaxed);
  frames_written_.store(0, std::memory_order_relaxed);
}

/// false: nobody waits.
bool GuestSocket::accept_next() {
  const int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (connection < 0) return false;
  if (uid_.has_value() && !is_of(connection, *uid_)) {
    add(refused_);
    ::close(connection);
    return true;
  }
  setsockopt(connection, SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
  epoll_event event{};
  event.events = EPOLLIN;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, connection, &event) != 0) {
    ::close(connection);
    return true;
  }
  epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_, nullptr);
  connection_ = connection;
  connected_.store(true, std::memory_order_relaxed);
  add(connections_);
  dry_ = false;
  return true;
}

void GuestSocket::end_connection() {
  ::close(connection_);
  connection_ = -1;
  connected_.store(false, std::memory_order_relaxed);
  reader_.reset();
  waiting_.clear();
  waiting_from_ = 0;
  watches_room_ = false;
  epoll_event event{};
  event.events = EPOLLIN;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event);
}

bool GuestSocket::fill() {
  if (connection_ < 0) return accept_next();
  if (dry_) {
    dry_ = false;  // whoever comes again does so because there is something
    return false;
  }
  const std::span<uint8_t> room = reader_.room();
  const ssize_t got = recv(connection_, room.data(), room.size(), MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) {
    end_connection();
    return true;
  }
  add(bytes_read_, static_cast<uint64_t>(got));
  reader_.filled(static_cast<size_t>(got));
  dry_ = static_cast<size_t>(got) < room.size();
  return true;
}

std::span<uint8_t> GuestSocket::next() {
  const std::span<uint8_t> frame = reader_.next();
  if (!frame.empty()) add(frames_read_);
  if (reader_.is_broken()) {
    add(bad_lengths_);
    end_connection();
  }
  return frame;
}

/// Keeps the pieces, but for `skip` bytes that were written.
void GuestSocket::keep(std::span<const iovec> pieces, size_t skip) {
  for (const iovec& piece : pieces) {
    const size_t skipped = std::min(skip, piece.iov_len);
    skip -= skipped;
    const auto* bytes = static_cast<const uint8_t*>(piece.iov_base);
    waiting_.insert(waiting_.end(), bytes + skipped, bytes + piece.iov_len);
  }
}

size_t GuestSocket::write(std::span<const iovec> pieces, std::span<const size_t> parts) {
  flush();
  size_t taken = 0;
  while (taken < parts.size() && connection_ >= 0 && waiting_.empty()) {
    size_t together = 0, frames = 0;
    while (taken + frames < parts.size() && together + parts[taken + frames] <= kMostPieces)
      together += parts[taken + frames++];
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(pieces.data());
    message.msg_iovlen = together;
    const ssize_t sent = sendmsg(connection_, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) break;  // its end is read soon
    size_t left = sent < 0 ? 0 : static_cast<size_t>(sent);
    add(bytes_written_, left);
    for (; frames != 0; frames--, taken++) {
      const std::span<const iovec> frame = pieces.first(parts[taken]);
      const size_t size = size_of(frame);
      if (left < size && waiting_.empty()) {
        // One that was begun goes on, whatever waits; of those behind it as many as there is room for.
        keep(frame, left);
        left = 0;
      } else if (left < size) {
        break;
      } else {
        left -= size;
      }
      pieces = pieces.subspan(parts[taken]);
    }
  }
  while (taken < parts.size() && connection_ >= 0 && !waiting_.empty()) {
    const std::span<const iovec> frame = pieces.first(parts[taken]);
    if (waiting_.size() - waiting_from_ + size_of(frame) > kMostWaiting) break;
    keep(frame, 0);
    pieces = pieces.subspan(parts[taken++]);
  }
  add(frames_written_, taken);
  watch_connection();
  return taken;
}

void GuestSocket::flush() {
  if (connection_ < 0 || waiting_.empty()) return;
  const ssize_t sent = send(connection_, waiting_.data() + waiting_from_, waiting_.size() - waiting_from_,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent > 0) {
    add(bytes_written_, static_cast<uint64_t>(sent));
    waiting_from_ += static_cast<size_t>(sent);
  }
  if (waiting_from_ == waiting_.size()) {
    waiting_.clear();
    waiting_from_ = 0;
  } else if (waiting_from_ > kMostWaiting) {
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<ptrdiff_t>(waiting_from_));
    waiting_from_ = 0;
  }
  watch_connection();
}

/// Room is waited for only while something waits for it.
void GuestSocket::watch_connection() {
  if (connection_ < 0 || watches_room_ == !waiting_.empty()) return;
  watches_room_ = !waiting_.empty();
  epoll_event event{};
  event.events = EPOLLIN | (watches_room_ ? EPOLLOUT : 0u);
  epoll_ctl(epoll_, EPOLL_CTL_MOD, connection_, &event);
}

void GuestSocket::ring() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(bell_, &one, sizeof one);
}

void GuestSocket::quiet() {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(bell_, &count, sizeof count);
}

}  // namespace omerta::guest
