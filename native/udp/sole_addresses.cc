// SPDX-License-Identifier: Apache-2.0
#include "udp/sole_addresses.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <cstring>

namespace omerta::udp {

SoleAddresses sole_addresses() {
  SoleAddresses sole;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return sole;
  unsigned ipv4 = 0;
  unsigned ipv6 = 0;
  for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_UP) == 0 || (one->ifa_flags & IFF_LOOPBACK) != 0)
      continue;
    if (one->ifa_addr->sa_family == AF_INET) {
      if (ipv4++ != 0) continue;
      sole.ipv4[10] = sole.ipv4[11] = 0xff;
      std::memcpy(sole.ipv4 + 12, &reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr, 4);
    } else if (one->ifa_addr->sa_family == AF_INET6) {
      const in6_addr& address = reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr;
      if (IN6_IS_ADDR_LINKLOCAL(&address) || ipv6++ != 0) continue;
      std::memcpy(sole.ipv6, &address, 16);
    }
  }
  freeifaddrs(list);
  sole.several = ipv4 > 1 || ipv6 > 1;
  if (ipv4 > 1) std::memset(sole.ipv4, 0, sizeof sole.ipv4);
  if (ipv6 > 1) std::memset(sole.ipv6, 0, sizeof sole.ipv6);
  return sole;
}

}  // namespace omerta::udp
