// SPDX-License-Identifier: Apache-2.0
#include "tun/interface_address.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/step_failed.h"

namespace omerta::tun {
namespace {

/// Message: ifaddrmsg, rtmsg.
template <typename Message>
struct Request {
  nlmsghdr header{};
  Message message{};
  uint8_t attributes[4 * RTA_LENGTH(16)]{};

  explicit Request(uint16_t type, uint16_t flags) {
    header.nlmsg_len = NLMSG_LENGTH(sizeof message);
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  }
  void add(uint16_t type, const void* value, uint16_t size) {
    const rtattr attribute{static_cast<uint16_t>(RTA_LENGTH(size)), type};
    uint8_t* at = reinterpret_cast<uint8_t*>(this) + header.nlmsg_len;
    std::memcpy(at, &attribute, sizeof attribute);
    std::memcpy(at + RTA_LENGTH(0), value, size);
    header.nlmsg_len += RTA_ALIGN(RTA_LENGTH(size));
  }
};

struct Answer {
  nlmsghdr header{};
  nlmsgerr error{};
};

/// The errno the kernel answers with, 0 = done.
template <typename Message>
int ask(const Network& network, const Request<Message>& request) {
  const int fd = network.open_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (fd < 0) return errno;
  Answer answer;
  int error = 0;
  if (send(fd, &request, request.header.nlmsg_len, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0)
    error = errno;
  else if (answer.header.nlmsg_type == NLMSG_ERROR)
    error = -answer.error.error;
  close(fd);
  return error;
}

/// 0 and errno: there is no such interface.
unsigned index_of(const Network& network, const std::string& interface) {
  const int fd = network.open_socket(AF_INET, SOCK_DGRAM, 0);
  if (fd < 0) return 0;
  ifreq request{};
  interface.copy(request.ifr_name, sizeof request.ifr_name - 1);
  const bool found = ioctl(fd, SIOCGIFINDEX, &request) == 0;
  const int error = errno;
  close(fd);
  errno = error;
  return found ? static_cast<unsigned>(request.ifr_ifindex) : 0;
}

/// The metric IPv6 gives a route that comes with an address (IP6_RT_PRIO_ADDRCONF).
constexpr uint32_t kMetric = 256;

struct Prefix {
  int family;
  uint8_t bytes[16];
  uint16_t size;  ///< of an address, in bytes
  uint8_t length;
};

Prefix prefix_of(const std::string& address) {
  const size_t slash = address.find('/');
  const std::string text = address.substr(0, slash);
  const bool v6 = text.find(':') != std::string::npos;
  Prefix prefix{v6 ? AF_INET6 : AF_INET, {}, static_cast<uint16_t>(v6 ? 16 : 4), 0};
  if (inet_pton(prefix.family, text.c_str(), prefix.bytes) != 1)
    throw StepFailed(EINVAL, "tun-address", address);
  prefix.length = static_cast<uint8_t>(slash == std::string::npos ? prefix.size * 8
                                                                  : std::stoi(address.substr(slash + 1)));
  return prefix;
}

}  // namespace

bool put_address(const Network& network, const std::string& interface, const std::string& address) {
  const Prefix prefix = prefix_of(address);
  Request<ifaddrmsg> request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE);
  request.message.ifa_family = static_cast<uint8_t>(prefix.family);
  request.message.ifa_prefixlen = prefix.length;
  // Nobody else can have it. Until the kernel had looked for others, it would not be sent from: a program
  // that begins in that moment sends from ::1, and is never answered.
  request.message.ifa_flags = IFA_F_NODAD;
  request.message.ifa_index = index_of(network, interface);
  if (request.message.ifa_index == 0) throw StepFailed(errno, "tun-name", interface);
  request.add(IFA_LOCAL, prefix.bytes, prefix.size);
  request.add(IFA_ADDRESS, prefix.bytes, prefix.size);
  const int error = ask(network, request);
  if (error == 0) return true;
  // Switched off by sysctl; no IPv6 in the kernel; none on an interface with an MTU below 1280.
  const bool refused =
      error == EACCES || error == EOPNOTSUPP || error == EAFNOSUPPORT || error == ENODEV || error == EINVAL;
  if (prefix.family == AF_INET6 && refused) return false;
  throw StepFailed(error, "tun-address", address);
}

bool put_route(const Network& network, const std::string& interface, const std::string& address) {
  Prefix prefix = prefix_of(address);
  const bool v6 = prefix.family == AF_INET6;
  // Beside one of the same prefix that leads elsewhere, as the kernel would have put it.
  Request<rtmsg> request(RTM_NEWROUTE, v6 ? NLM_F_CREATE | NLM_F_EXCL : NLM_F_CREATE | NLM_F_APPEND);
  request.message.rtm_family = static_cast<uint8_t>(prefix.family);
  request.message.rtm_dst_len = prefix.length;
  request.message.rtm_table = RT_TABLE_MAIN;
  request.message.rtm_protocol = RTPROT_KERNEL;
  request.message.rtm_scope = v6 ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  request.message.rtm_type = RTN_UNICAST;
  if (!v6) request.add(RTA_PREFSRC, prefix.bytes, prefix.size);
  for (unsigned bit = prefix.length; bit < prefix.size * 8u; bit++)
    prefix.bytes[bit / 8] = static_cast<uint8_t>(prefix.bytes[bit / 8] & ~(0x80u >> (bit % 8)));
  request.add(RTA_DST, prefix.bytes, prefix.size);
  const unsigned index = index_of(network, interface);
  request.add(RTA_OIF, &index, sizeof index);
  if (v6) request.add(RTA_PRIORITY, &kMetric, sizeof kMetric);
  const int error = ask(network, request);
  return error == 0 || error == EEXIST;
}

Neighbour neighbour_of(const std::string& address) {
  const Prefix prefix = prefix_of(address);
  Neighbour neighbour{};
  const size_t skipped = 16 - prefix.size;
  if (skipped != 0) neighbour[10] = neighbour[11] = 0xff;
  std::memcpy(neighbour.data() + skipped, prefix.bytes, prefix.size);
  if (prefix.length < prefix.size * 8) neighbour[15] ^= 1;
  return neighbour;
}

}  // namespace omerta::tun
