// SPDX-License-Identifier: Apache-2.0
#include "addon/host_calls.h"

#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace omerta::addon {
namespace {

/// 16 bytes each of the addresses of all interfaces. os.networkInterfaces() leaves out those of interfaces
/// without a carrier, at which the host answers all the same.
Napi::Value local_addresses(const Napi::CallbackInfo& info) {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0)
    throw Napi::Error::New(info.Env(),
                           "the host's addresses cannot be read: " + std::string(strerror(errno)));
  auto result = Napi::Array::New(info.Env());
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    uint8_t ip[16]{};
    if (one->ifa_addr->sa_family == AF_INET) {
      ip[10] = ip[11] = 0xff;
      std::memcpy(ip + 12, &reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr, 4);
    } else if (one->ifa_addr->sa_family == AF_INET6) {
      std::memcpy(ip, &reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr, sizeof ip);
    } else {
      continue;
    }
    result.Set(result.Length(), Napi::Buffer<uint8_t>::Copy(info.Env(), ip, sizeof ip));
  }
  freeifaddrs(list);
  return result;
}

/// One datagram to a socket of the service manager's: a path, or "@" and an abstract name, as $NOTIFY_SOCKET
/// has it (sd_notify(3)). Node.js opens no such socket. Never waits. 0, or an errno.
Napi::Value notify_service(const Napi::CallbackInfo& info) {
  const std::string name = info[0].ToString();
  const std::string text = info[1].ToString();
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() < 2 || name.size() >= sizeof address.sun_path)
    return Napi::Number::New(info.Env(), ENAMETOOLONG);
  std::memcpy(address.sun_path, name.data(), name.size());
  if (name[0] == '@') address.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const int sender = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (sender < 0) return Napi::Number::New(info.Env(), errno);
  const auto* to = reinterpret_cast<const sockaddr*>(&address);
  const int error = sendto(sender, text.data(), text.size(), MSG_NOSIGNAL, to, size) < 0 ? errno : 0;
  close(sender);
  return Napi::Number::New(info.Env(), error);
}

}  // namespace

void export_host_calls(Napi::Env env, Napi::Object exports) {
  exports.Set("localAddresses", Napi::Function::New(env, local_addresses, "localAddresses"));
  exports.Set("notifyService", Napi::Function::New(env, notify_service, "notifyService"));
}

}  // namespace omerta::addon
