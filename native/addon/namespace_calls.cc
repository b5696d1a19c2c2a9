// SPDX-License-Identifier: Apache-2.0
#include "addon/namespace_calls.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "addon/arguments.h"
#include "exit/channel.h"

namespace omerta::addon {
namespace {

/// The two ends of a channel, or the errno alone.
Napi::Value open_channel(const Napi::CallbackInfo& info) {
  int ends[2];
  auto result = Napi::Array::New(info.Env());
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    result.Set(0U, errno);
  else
    for (uint32_t i = 0; i < 2; i++) result.Set(i, ends[i]);
  return result;
}

/// How the helper began: `{ error, step, descriptors }`.
Napi::Value helper_beginning(const Napi::CallbackInfo& info) {
  std::vector<int> descriptors;
  const exit::Answer answer = exit::receive_answer(info[0].As<Napi::Number>().Int32Value(), descriptors);
  auto result = Napi::Object::New(info.Env());
  auto list = Napi::Array::New(info.Env());
  for (const int each : descriptors) list.Set(list.Length(), each);
  result.Set("error", answer.error);
  result.Set("step", Napi::String::New(info.Env(), answer.step));
  result.Set("descriptors", list);
  return result;
}

/// A socket of the helper's namespace: channel, family, type, protocol; where it is to be bound also the
/// bytes of an address, a port, and whether it is transparent. Below 0: the errno.
Napi::Value open_socket(const Napi::CallbackInfo& info) {
  const auto number = [&](size_t i) { return info[i].As<Napi::Number>().Int32Value(); };
  exit::Request request;
  request.family = number(1);
  request.type = number(2) | SOCK_NONBLOCK;
  request.protocol = number(3);
  if (info.Length() > 4) {
    const Bytes address = bytes_of(info[4], "address");
    std::copy_n(address.begin(), std::min(address.size(), sizeof request.address), request.address);
    request.port = static_cast<uint16_t>(number(5));
    request.bound = 1;
    request.transparent = info[6].As<Napi::Boolean>().Value() ? 1 : 0;
  }
  const int fd = exit::ask(number(0), request);
  return Napi::Number::New(info.Env(), fd < 0 ? -errno : fd);
}

constexpr size_t kMaxDatagram = 65535;

/// ip 16 | port u16 little-endian; `family` and the rest as the kernel gave them.
void put_address(uint8_t* out, const void* address) {
  const auto family = static_cast<const sockaddr*>(address)->sa_family;
  uint16_t port = 0;
  std::fill_n(out, 16, uint8_t{0});
  if (family == AF_INET) {
    const auto* ipv4 = static_cast<const sockaddr_in*>(address);
    out[10] = out[11] = 0xff;
    std::memcpy(out + 12, &ipv4->sin_addr, 4);
    port = ntohs(ipv4->sin_port);
  } else {
    const auto* ipv6 = static_cast<const sockaddr_in6*>(address);
    std::memcpy(out, &ipv6->sin6_addr, 16);
    port = ntohs(ipv6->sin6_port);
  }
  out[16] = static_cast<uint8_t>(port);
  out[17] = static_cast<uint8_t>(port >> 8);
}

/// The next datagram of one of two transparent sockets: whom it is of, whom it was for (18 bytes each), then
/// its data. Waits for one; undefined after `timeoutMs` without, or when the socket is gone.
Napi::Value receive_datagram(const Napi::CallbackInfo& info) {
  pollfd ready[2] = {{info[0].As<Napi::Number>().Int32Value(), POLLIN, 0},
                     {info[1].As<Napi::Number>().Int32Value(), POLLIN, 0}};
  if (poll(ready, 2, info[2].As<Napi::Number>().Int32Value()) <= 0) return info.Env().Undefined();
  const int fd = ready[0].revents != 0 ? ready[0].fd : ready[1].fd;
  thread_local std::vector<uint8_t> datagram(36 + kMaxDatagram);
  sockaddr_storage from{};
  iovec part{datagram.data() + 36, kMaxDatagram};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof(sockaddr_in6)) + CMSG_SPACE(sizeof(sockaddr_in))];
  msghdr header{};
  header.msg_name = &from;
  header.msg_namelen = sizeof from;
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t got = recvmsg(fd, &header, MSG_DONTWAIT);
  if (got < 0) return info.Env().Undefined();
  put_address(datagram.data(), &from);
  bool told = false;
  for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr; each = CMSG_NXTHDR(&header, each)) {
    const bool v4 = each->cmsg_level == SOL_IP && each->cmsg_type == IP_ORIGDSTADDR;
    const bool v6 = each->cmsg_level == SOL_IPV6 && each->cmsg_type == IPV6_ORIGDSTADDR;
    if (!v4 && !v6) continue;
    sockaddr_storage to{};
    std::memcpy(&to, CMSG_DATA(each), v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    put_address(datagram.data() + 18, &to);
    told = true;
  }
  if (!told) return info.Env().Undefined();
  return Napi::Buffer<uint8_t>::Copy(info.Env(), datagram.data(), 36 + static_cast<size_t>(got));
}

}  // namespace

void export_namespace_calls(Napi::Env env, Napi::Object exports) {
  exports.Set("openChannel", Napi::Function::New(env, open_channel, "openChannel"));
  exports.Set("helperBeginning", Napi::Function::New(env, helper_beginning, "helperBeginning"));
  exports.Set("receiveDatagram", Napi::Function::New(env, receive_datagram, "receiveDatagram"));
  exports.Set("openSocket", Napi::Function::New(env, open_socket, "openSocket"));
}

}  // namespace omerta::addon
