// SPDX-License-Identifier: Apache-2.0
#include "exit/tcp_flows.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>

#include "exit/machine_socket.h"

namespace omerta::exit {
namespace {

constexpr Nanoseconds kConnect = 10 * kSecond;
constexpr Nanoseconds kIdle = Nanoseconds{124} * 60 * kSecond;  // RFC 5382, REQ-5
constexpr Nanoseconds kTidy = 30 * kSecond;
/// Read of a socket at once.
constexpr size_t kRead = 256 * 1024;
constexpr size_t kParts = 64;

}  // namespace

class TcpFlows::Flow final : public Watched {
 public:
  Flow(TcpFlows& flows, stack::Connection& connection) : flows_(flows), connection_(connection) {}

  void ready(uint32_t events) override {
    if (!connected_) return finish_connecting();
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) read();
    if (fd >= 0 && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
      blocked_ = false;
      connection_.resume();
    }
    if (fd >= 0) watch();
  }

  void begin_connecting() { flows_.poller_.watch(*this, EPOLLOUT); }
  void opened() {
    opened_ = true;
    watch();
  }
  /// @returns how many the socket took
  size_t write(const stack::Scattered& bytes) {
    if (blocked_ || fd < 0) return 0;
    size_t done = 0;
    stack::Scattered left = bytes;
    while (!left.empty()) {
      iovec parts[kParts];
      const size_t count = left.gather(parts);
      msghdr message{};
      message.msg_iov = parts;
      message.msg_iovlen = count;
      const ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
      if (sent < 0) {
        if (errno == EINTR) continue;
        blocked_ = errno == EAGAIN;
        if (blocked_) break;
        stack::Connection& connection = connection_;
        flows_.close(*this, true);
        connection.abort();
        return bytes.size();
      }
      done += static_cast<size_t>(sent);
      left.drop_front(static_cast<size_t>(sent));
    }
    used_at_ = flows_.now_;
    watch();
    return done;
  }
  void end_writing() {
    shutdown(fd, SHUT_WR);
    blocked_ = false;
    watch();
  }
  void writable() {
    full_ = false;
    watch();
  }
  Nanoseconds used_at() const { return used_at_; }
  bool connected() const { return connected_; }
  stack::Connection& connection() { return connection_; }

 private:
  void finish_connecting() {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    flows_.poller_.watch(*this, 0);
    if (error != 0) {
      stack::Connection& connection = connection_;
      flows_.close(*this, true);
      return connection.refuse();
    }
    connected_ = true;
    used_at_ = flows_.now_;
    connection_.accept();
  }
  /// Straight into the memory it is sent from, until there is no more or no room.
  void read() {
    while (opened_ && !ended_) {
      iovec parts[2];
      const size_t count = connection_.space(kRead, parts);
      if (count == 0) {
        full_ = true;
        return;
      }
      const ssize_t got = readv(fd, parts, static_cast<int>(count));
      if (got > 0) {
        used_at_ = flows_.now_;
        connection_.wrote(static_cast<size_t>(got));
        if (static_cast<size_t>(got) < parts[0].iov_len + (count == 2 ? parts[1].iov_len : 0)) return;
        continue;
      }
      if (got == 0) {
        ended_ = true;
        return connection_.finish();
      }
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return;
      stack::Connection& connection = connection_;
      flows_.close(*this, true);
      return connection.abort();
    }
  }
  void watch() {
    if (fd < 0 || !connected_) return;
    flows_.poller_.watch(
        *this, (opened_ && !ended_ && !full_ ? uint32_t{EPOLLIN} : 0) | (blocked_ ? uint32_t{EPOLLOUT} : 0));
  }

  TcpFlows& flows_;
  stack::Connection& connection_;
  bool connected_ = false;
  bool opened_ = false;   ///< the guest's side is there
  bool ended_ = false;    ///< the socket has no more
  bool full_ = false;     ///< the connection takes no more now
  bool blocked_ = false;  ///< the socket takes no more now
  Nanoseconds used_at_ = 0;
};

TcpFlows::TcpFlows(const stack::Settings& settings, const Key32& key, Guests& guests, Poller& poller)
    : guests_(guests), poller_(poller), stack_(settings, *this, key) {}

TcpFlows::~TcpFlows() {
  stack_.for_each([this](stack::Connection& connection) {
    if (connection.context != nullptr) close(flow_of(connection), true);
  });
  poller_.poll();
}

TcpFlows::Flow& TcpFlows::flow_of(stack::Connection& connection) {
  return *static_cast<Flow*>(connection.context);
}

void TcpFlows::close(Flow& flow, bool reset) {
  if (reset) {
    const linger none{1, 0};
    setsockopt(flow.fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
  }
  flow.connection().context = nullptr;
  guests_.closed();
  poller_.close(std::unique_ptr<Watched>(&flow));
}

void TcpFlows::asked(stack::Connection& connection) {
  const stack::Flow& flow = connection.flow();
  const auto destination = guests_.destination(flow, inner::kTcp);
  if (!destination.has_value()) guests_.refuse();
  if (!destination.has_value() || !guests_.begin(flow.remote, now_)) return connection.refuse();
  const int fd = machine_socket(*destination, SOCK_STREAM);
  if (fd < 0) {
    guests_.refuse();
    return connection.refuse();
  }
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
             sizeof on);  // the guest's stack has waited already, if it wanted to
  sockaddr_storage to;
  const socklen_t size = to_system(destination->address, destination->port, to);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), size) != 0 && errno != EINPROGRESS) {
    ::close(fd);
    return connection.refuse();
  }
  auto made = std::make_unique<Flow>(*this, connection);
  made->fd = fd;
  connection.context = made.get();
  guests_.opened();
  dialing_.push_back({flow, now_ + kConnect});
  made.release()->begin_connecting();
}

void TcpFlows::opened(stack::Connection& connection) { flow_of(connection).opened(); }

size_t TcpFlows::data(stack::Connection& connection, const stack::Scattered& bytes) {
  return flow_of(connection).write(bytes);
}

void TcpFlows::ended(stack::Connection& connection) { flow_of(connection).end_writing(); }

void TcpFlows::writable(stack::Connection& connection) { flow_of(connection).writable(); }

void TcpFlows::closed(stack::Connection& connection, stack::Ended why) {
  if (connection.context != nullptr) close(flow_of(connection), why != stack::Ended::finished);
}

Nanoseconds TcpFlows::tidy(Nanoseconds now) {
  now_ = now;
  const auto end = [this](stack::Connection& connection) {
    close(flow_of(connection), true);
    connection.abort();
  };
  for (; !dialing_.empty() && dialing_.front().until <= now; dialing_.pop_front()) {
    stack::Connection* connection = stack_.find(dialing_.front().flow);
    if (connection != nullptr && connection->state() == stack::State::asked) end(*connection);
  }
  if (tidy_at_ <= now) {
    tidy_at_ = now + kTidy;
    stack_.for_each([&](stack::Connection& connection) {
      if (connection.context == nullptr) return;
      Flow& flow = flow_of(connection);
      if (flow.connected() && flow.used_at() + kIdle <= now) end(connection);
    });
  }
  return dialing_.empty() ? tidy_at_ : std::min(tidy_at_, dialing_.front().until);
}

void TcpFlows::end_unpermitted() {
  stack_.for_each([this](stack::Connection& connection) {
    if (connection.context == nullptr || guests_.destination(connection.flow(), inner::kTcp).has_value())
      return;
    close(flow_of(connection), true);
    connection.abort();
  });
}

}  // namespace omerta::exit
