// SPDX-License-Identifier: Apache-2.0
#include "addon/gateway_calls.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "addon/arguments.h"
#include "exit/answers.h"
#include "exit/icmp_socket.h"
#include "exit/machine_socket.h"

namespace omerta::addon {
namespace {

constexpr size_t kMaxDatagram = 65535;
constexpr size_t kEnd = 18;         ///< ip 16 | port u16 little-endian
constexpr size_t kEnds = 2 * kEnd;  ///< whom something is of, and whom it was for
constexpr size_t kMaxSockets = 4;   ///< datagrams and pings of two families
/// Of a datagram that went no further: ICMP has no more of it.
constexpr size_t kMostQuoted = 64;
constexpr uint8_t kNoReason = 255;

int number_at(const Napi::CallbackInfo& info, size_t i) { return info[i].As<Napi::Number>().Int32Value(); }

void put_end(uint8_t* out, const stack::Address& address, uint16_t port) {
  std::copy(address.begin(), address.end(), out);
  store(out + 16, port);
}

/// As the exit has it: the guest is the remote end.
stack::Flow flow_of(const Napi::Value& value) {
  const Bytes bytes = bytes_of(value, "flow");
  if (bytes.size() != kEnds) throw_error(value.Env(), "BAD_ARGUMENT", "flow: expected 36 bytes");
  stack::Flow flow;
  std::copy_n(bytes.begin(), 16, flow.remote.begin());
  flow.remote_port = load<uint16_t>(bytes.data() + 16);
  std::copy_n(bytes.begin() + kEnd, 16, flow.local.begin());
  flow.local_port = load<uint16_t>(bytes.data() + kEnd + 16);
  return flow;
}

/// Where a transparent socket's packet was for; false: it does not say so.
bool destination_of(msghdr& header, stack::Address& address, uint16_t& port) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    const bool v4 = each->cmsg_level == SOL_IP && each->cmsg_type == IP_ORIGDSTADDR;
    const bool v6 = each->cmsg_level == SOL_IPV6 && each->cmsg_type == IPV6_ORIGDSTADDR;
    if (!v4 && !v6) continue;
    sockaddr_storage to{};
    std::memcpy(&to, CMSG_DATA(each), v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    address = exit::from_system(to, port);
    return true;
  }
  return false;
}

/// The next of several transparent sockets, in turns: whom it is of and whom it was for, then its data. Of a
/// ping that is the message, the identifier is the first port, and the other is 0. Waits for one; undefined
/// after `timeoutMs` without, or when the socket is gone.
Napi::Value receive_datagram(const Napi::CallbackInfo& info) {
  const auto sockets = info[0].As<Napi::Array>();
  pollfd ready[kMaxSockets];
  const uint32_t count = std::min<uint32_t>(sockets.Length(), kMaxSockets);
  for (uint32_t i = 0; i < count; i++) ready[i] = {sockets.Get(i).As<Napi::Number>().Int32Value(), POLLIN, 0};
  if (poll(ready, count, number_at(info, 1)) <= 0) return info.Env().Undefined();
  thread_local uint32_t turn = 0;
  do turn = (turn + 1) % count;
  while (ready[turn].revents == 0);
  const int fd = ready[turn].fd;
  thread_local std::vector<uint8_t> datagram(kEnds + kMaxDatagram);
  sockaddr_storage from{};
  iovec part{datagram.data() + kEnds, kMaxDatagram};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(sockaddr_in6)) + CMSG_SPACE(sizeof(sockaddr_in))];
  msghdr header{};
  header.msg_name = &from;
  header.msg_namelen = sizeof from;
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t got = recvmsg(fd, &header, MSG_DONTWAIT);
  stack::Address to;
  uint16_t from_port = 0, to_port = 0;
  if (got < 0 || !destination_of(header, to, to_port)) return info.Env().Undefined();
  const stack::Address guest = exit::from_system(from, from_port);
  int type = 0;
  socklen_t size = sizeof type;
  getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
  auto length = static_cast<size_t>(got);
  if (type == SOCK_RAW) {
    const auto echo = exit::received_echo(guest, to, {datagram.data() + kEnds, length});
    if (!echo.has_value()) return info.Env().Undefined();
    std::copy(echo->message.begin(), echo->message.end(), datagram.begin() + kEnds);
    length = echo->message.size();
    from_port = echo->flow.remote_port;
    to_port = 0;
  }
  put_end(datagram.data(), guest, from_port);
  put_end(datagram.data() + kEnd, to, to_port);
  return Napi::Buffer<uint8_t>::Copy(info.Env(), datagram.data(), kEnds + length);
}

/// A raw socket gives echo requests alone from now on: the socket, and whether it is of IPv6. 0 or the errno.
Napi::Value take_echo_requests(const Napi::CallbackInfo& info) {
  const int family = info[1].As<Napi::Boolean>().Value() ? AF_INET6 : AF_INET;
  return Napi::Number::New(info.Env(), exit::take_echo_requests(number_at(info, 0), family) ? 0 : errno);
}

/// A socket of the machine: whether of IPv6, and whether for pings and not for datagrams. Below 0: the errno.
Napi::Value open_machine_socket(const Napi::CallbackInfo& info) {
  stack::Address any{};
  if (!info[0].As<Napi::Boolean>().Value())
    std::copy_n(stack::kMappedPrefix, sizeof stack::kMappedPrefix, any.begin());
  const bool ping = info[1].As<Napi::Boolean>().Value();
  const int fd = ping ? exit::ping_socket(any) : exit::machine_socket({any, 0, 0}, SOCK_DGRAM);
  if (fd < 0) return Napi::Number::New(info.Env(), -errno);
  if (!ping) exit::tell_errors(fd, any);
  return Napi::Number::New(info.Env(), fd);
}

/// Sends by such a socket: to whom (ip 16 | port u16 little-endian), the data. 0, 1 where the network has
/// said something of an earlier one, or below 0 the errno.
Napi::Value send_by_machine_socket(const Napi::CallbackInfo& info) {
  const Bytes end = bytes_of(info[1], "to");
  if (end.size() != kEnd) throw_error(info.Env(), "BAD_ARGUMENT", "to: expected 18 bytes");
  stack::Address address;
  std::copy_n(end.begin(), address.size(), address.begin());
  sockaddr_storage to;
  const socklen_t size = exit::to_system(address, load<uint16_t>(end.data() + 16), to);
  const auto sent = exit::send_datagram(number_at(info, 0), bytes_of(info[2], "data"), to, size);
  return Napi::Number::New(info.Env(), sent == exit::Sent::no ? -errno : sent == exit::Sent::yes ? 0 : 1);
}

/// What the network says of a datagram of a socket: whom it was sent to, why it went no further (Unreachable,
/// or 255), and what is known of its payload. undefined: nothing more.
Napi::Value next_socket_error(const Napi::CallbackInfo& info) {
  uint8_t out[kEnd + 1 + kMostQuoted];
  const auto error = exit::next_error(number_at(info, 0), std::span(out).subspan(kEnd + 1));
  if (!error.has_value()) return info.Env().Undefined();
  put_end(out, error->address, error->port);
  out[kEnd] = error->why.has_value() ? static_cast<uint8_t>(*error->why) : kNoReason;
  return Napi::Buffer<uint8_t>::Copy(info.Env(), out, kEnd + 1 + error->quoted.size());
}

/// By a raw socket, as from whom a guest pinged: the socket, the flow, and what a ping socket has given. 0 or
/// the errno.
Napi::Value send_echo_reply(const Napi::CallbackInfo& info) {
  std::vector<uint8_t> packet = exit::echo_of(flow_of(info[1]), bytes_of(info[2], "reply"));
  const bool sent = packet.empty() || exit::send_icmp(number_at(info, 0), std::move(packet));
  return Napi::Number::New(info.Env(), sent ? 0 : errno);
}

/// By a raw socket, that something of a guest went no further: the socket, the flow, what is known of its
/// data, and why (Unreachable). Where the flow leads to port 0 it was a ping. 0 or the errno.
Napi::Value send_unreachable(const Napi::CallbackInfo& info) {
  const stack::Flow flow = flow_of(info[1]);
  const Bytes data = bytes_of(info[2], "data");
  const auto why = static_cast<inner::Unreachable>(number_at(info, 3));
  std::vector<uint8_t> packet = flow.local_port == 0
                                    ? exit::unreachable_echo({flow, {data.begin(), data.end()}}, why)
                                    : exit::unreachable_datagram(flow, data, why);
  const bool sent = packet.empty() || exit::send_icmp(number_at(info, 0), std::move(packet));
  return Napi::Number::New(info.Env(), sent ? 0 : errno);
}

}  // namespace

void export_gateway_calls(Napi::Env env, Napi::Object exports) {
  exports.Set("receiveDatagram", Napi::Function::New(env, receive_datagram, "receiveDatagram"));
  exports.Set("takeEchoRequests", Napi::Function::New(env, take_echo_requests, "takeEchoRequests"));
  exports.Set("openMachineSocket", Napi::Function::New(env, open_machine_socket, "openMachineSocket"));
  exports.Set("sendByMachineSocket", Napi::Function::New(env, send_by_machine_socket, "sendByMachineSocket"));
  exports.Set("nextSocketError", Napi::Function::New(env, next_socket_error, "nextSocketError"));
  exports.Set("sendEchoReply", Napi::Function::New(env, send_echo_reply, "sendEchoReply"));
  exports.Set("sendUnreachable", Napi::Function::New(env, send_unreachable, "sendUnreachable"));
}

}  // namespace omerta::addon
