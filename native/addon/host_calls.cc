// SPDX-License-Identifier: Apache-2.0
#include "addon/host_calls.h"

#include <ifaddrs.h>
#include <netinet/in.h>

#include <cerrno>
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

}  // namespace

void export_host_calls(Napi::Env env, Napi::Object exports) {
  exports.Set("localAddresses", Napi::Function::New(env, local_addresses, "localAddresses"));
}

}  // namespace omerta::addon
